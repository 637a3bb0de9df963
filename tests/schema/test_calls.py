"""schemathesis makes calls of its own from docs/openapi.yaml, good ones and bad ones, to a real server.

It looks for server errors, for answers that the document does not say, for good calls that are refused and bad
ones that are taken. `make test` does a little of it, `make test-schema` all.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conversations.models import Scope
from tests.processes.server import ROOT, ServerProcess, environment, manage
from tests.upstream import run_upstream_in_thread

pytestmark = pytest.mark.server

FULL = os.environ.get("SCHEMA_TESTS") == "full"
MINUTES = 60 if FULL else 5


@dataclass(frozen=True)
class Run:
    """``examples`` of each call in each phase that makes up calls, and what that comes to at least."""

    name: str
    phases: tuple[str, ...]
    examples: int
    cases: int
    operations: int


RUNS = (
    Run("calls", ("examples", "coverage", "fuzzing"), *((1500, 20_000) if FULL else (3, 500)), operations=18),
    # Calls that follow each other, by the document's links.
    Run("chains", ("stateful",), *((500, 200) if FULL else (5, 20)), operations=3),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that asks for login, limits nobody, and has a model that answers at once: nothing goes out."""
    with run_upstream_in_thread() as upstream:
        variables = environment(
            tmp_path,
            REQUIRE_LOGIN="true",
            RATE_LIMIT="none",
            MAX_ANSWERS_PER_CALLER="0",
            LLM_API_URL=upstream.url,
            LLM_MODEL="scripted",
            ALLOWED_UPSTREAM_HOSTS="127.0.0.1",
            # A message may be as long as the document says, so the window has to hold it.
            LLM_CONTEXT_WINDOW="10000000",
            DJANGO_SUPERUSER_USERNAME="kim",
            DJANGO_SUPERUSER_EMAIL="kim@example.com",
            DJANGO_SUPERUSER_PASSWORD=secrets.token_urlsafe(),
        )
        manage(variables, "migrate", "--verbosity=0")
        manage(variables, "createsuperuser", "--no-input")
        with ServerProcess("uvicorn", variables, tmp_path / "server.log") as running:
            yield running


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_call_gets_what_the_document_does_not_say(server: ServerProcess, tmp_path: Path, run: Run) -> None:
    key = manage(server.env, "create_api_key", "kim", "--name", "schema", "--scopes", *Scope.values).strip()
    with server.client() as client:
        own = client.get("/api/keys", headers={"Authorization": f"Bearer {key}"}).json()["keys"][0]["id"]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file=tests/schema/schemathesis.toml",
            "run",
            "docs/openapi.yaml",
            f"--url={server.url}",
            f"--phases={','.join(run.phases)}",
            f"--max-examples={run.examples}",
            f"--report-json-path={report}",
            "--no-color",
            # Chance is for the full size: here a run that found nothing finds nothing again.
            *([] if FULL else ["--seed=1"]),
        ],
        cwd=ROOT,
        env={
            **server.env,
            "PYTHONPATH": str(ROOT),
            "SCHEMA_TEST_KEY": key,
            "SCHEMA_TEST_UPSTREAM": server.env["LLM_API_URL"],
            "SCHEMA_TEST_KEY_ID": str(own),
            "SCHEMA_TEST_RUN": run.name,
        },
        capture_output=True,
        text=True,
        timeout=MINUTES * 60,
    )
    print(done.stdout)  # what failed, and the seed
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(report.read_text())
    assert {name: outcome["phases"][name]["status"] for name in run.phases} == dict.fromkeys(run.phases, "success")
    assert outcome["operations"]["tested"] >= run.operations
    assert outcome["test_cases"]["generated"] >= run.cases
    log = server.log.read_text()
    assert "Traceback" not in log
    assert key not in log

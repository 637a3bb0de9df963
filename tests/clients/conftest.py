"""One real server process for other people's clients, in front of a scripted model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, run_upstream_in_thread


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("clients")
    variables = environment(folder, LLM_API_URL=upstream.url, LLM_MODEL="scripted")
    manage(variables, "migrate", "--verbosity=0")
    with ServerProcess("uvicorn", variables, folder / "server.log") as running:
        yield running

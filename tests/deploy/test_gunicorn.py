"""gunicorn with uvicorn's workers, as `chatproject/gunicorn.py` starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conversations.helpers import Stream, chat, streaming
from tests.ports import free_port
from tests.processes.server import ROOT, environment, manage
from tests.reliability.truth import consistent
from tests.upstream import ScriptedUpstream, run_upstream_in_thread

pytestmark = pytest.mark.server

WORKERS = 2
WAIT_SECONDS = 30.0
GRACE_SECONDS = 3
GATED = '!script {"chunks": ["seen ", "rest"], "gate": "go", "gate_at": 1}'


def _lives(pid: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Gunicorn:
    """gunicorn on a free port, its output in a file."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "gunicorn.log"
        given = {"PORT": str(self.port), "WEB_CONCURRENCY": str(WORKERS), "DRAIN_SECONDS": str(GRACE_SECONDS)}
        env = environment(folder, LLM_API_URL=upstream.url, LLM_MODEL="scripted", **given)
        manage(env, "migrate", "--verbosity=0")
        command = [sys.executable, "-m", "gunicorn", "--config", "python:chatproject.gunicorn", *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "chatproject.asgi:application"], cwd=ROOT, env=env, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> set[int]:
        """Process ids of the workers that live; one that was killed and not yet waited for does not."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid) for pid in pids if _lives(pid)}

    def until_ready(self, *, without: Set[int] = frozenset()) -> set[int]:
        """Wait until all workers serve and none of ``without`` is among them; return them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            workers = self.workers()
            if len(workers) == WORKERS and not workers & without and self.answers():
                return workers
            time.sleep(0.05)
        raise TimeoutError(self.log)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/health", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as running:
        yield running


@pytest.fixture
def gunicorn(request: pytest.FixtureRequest, tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Gunicorn]:
    server = Gunicorn(tmp_path, upstream, *getattr(request, "param", ()))
    try:
        server.until_ready()
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(WAIT_SECONDS)
        finally:
            server.process.kill()


@contextmanager
def begun(client: httpx.Client) -> Iterator[tuple[Stream, Iterator[str]]]:
    """An answer that waits for the gate after its first text."""
    with streaming(client, "POST", "/chat", json={"message": GATED}) as (stream, taken):
        while not stream.events:
            next(taken)
        yield stream, taken


def test_answers_come_and_the_log_is_ours(gunicorn: Gunicorn) -> None:
    with gunicorn.client() as client:
        answer = chat(client, "hello")
        assert consistent(client, answer).status == "completed"
    assert "POST /chat 200" in gunicorn.log
    assert f"[{gunicorn.process.pid}] [INFO] Listening at" in gunicorn.log, "gunicorn's own lines have its own format"
    assert "Traceback" not in gunicorn.log


def test_sigterm_lets_answers_end_and_the_exit_code_is_0(gunicorn: Gunicorn, upstream: ScriptedUpstream) -> None:
    with gunicorn.client() as client, begun(client) as (ends, ends_taken):
        gunicorn.process.terminate()
        upstream.gate("go").open()
        for _block in ends_taken:
            pass
        assert (ends.done["status"], ends.text) == ("completed", "seen rest")
    assert gunicorn.process.wait(GRACE_SECONDS + WAIT_SECONDS) == 0


def test_sighup_brings_new_workers_and_refuses_nobody(gunicorn: Gunicorn, upstream: ScriptedUpstream) -> None:
    old = gunicorn.workers()
    with gunicorn.client() as client, begun(client) as (running, taken):
        gunicorn.process.send_signal(signal.SIGHUP)
        upstream.gate("go").open()
        for _block in taken:
            pass
        assert running.done["status"] == "completed"
        deadline = time.monotonic() + WAIT_SECONDS
        while gunicorn.workers() & old:
            with gunicorn.client() as fresh:  # as proxies do: a kept connection may close as it is used
                assert chat(fresh, "hello").done["status"] == "completed"
            assert time.monotonic() < deadline, gunicorn.log
        gunicorn.until_ready(without=old)


def test_a_killed_worker_is_replaced_and_its_answer_ends_with_its_text(gunicorn: Gunicorn) -> None:
    workers = gunicorn.workers()
    with gunicorn.client() as client, gunicorn.client() as other, begun(client) as (running, _taken):
        generation = f"/generations/{running.headers['X-Generation-Id']}"
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        gunicorn.until_ready(without=workers)
        deadline = time.monotonic() + WAIT_SECONDS
        while (state := other.get(generation).json())["status"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (state["status"], state["position"]) == ("interrupted", len("seen "))


@pytest.mark.parametrize("gunicorn", [("--max-requests", "20")], indirect=True)
def test_after_max_requests_a_worker_drains_and_is_replaced(gunicorn: Gunicorn, upstream: ScriptedUpstream) -> None:
    workers = gunicorn.workers()
    with gunicorn.client() as client, begun(client) as (running, taken):
        deadline = time.monotonic() + WAIT_SECONDS
        while gunicorn.workers() & workers == workers:  # until the first has gone
            with gunicorn.client() as another:
                assert another.get("/conversations").status_code == 200
            if "answers may go on for" in gunicorn.log:
                upstream.gate("go").open()
            assert time.monotonic() < deadline, gunicorn.log
        upstream.gate("go").open()
        for _block in taken:
            pass
        assert (running.done["status"], running.text) == ("completed", "seen rest")


@pytest.mark.parametrize(
    ("given", "code", "part"),
    [({}, 3, "does not exist yet: run `make migrate`"), ({"DRAIN_SECONDS": "x"}, 1, "DRAIN_SECONDS='x' is not")],
)
def test_gunicorn_ends_with_one_line_where_it_cannot_work(
    tmp_path: Path, given: dict[str, str], code: int, part: str
) -> None:
    url = f"sqlite:///{tmp_path}/none.sqlite3"
    env = environment(tmp_path, PORT=str(free_port()), DATABASE_URL=url, **given)
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "python:chatproject.gunicorn",
        "chatproject.asgi:application",
    ]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_SECONDS)
    told = [line for line in ended.stderr.splitlines() if "[INFO] Starting gunicorn" not in line]
    assert (ended.returncode, len(told)) == (code, 1), ended.stderr
    assert part in told[0]

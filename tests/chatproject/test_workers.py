"""Several processes that serve on one socket: kept, replaced and ended by the one that started them."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import databases
from tests.upstream import ScriptedUpstream, answer

from .processes import Process, run, serving

pytestmark = pytest.mark.server
COUNT = 2
SECONDS = 30.0


@pytest.fixture
def servers(
    tmp_path: Path, database_url: str, upstream_thread: ScriptedUpstream
) -> Iterator[tuple[Process, httpx.Client]]:
    """Two workers, once both serve, the process that looks after them, and a client."""
    model = {"LLM_API_URL": upstream_thread.url, "LLM_MODEL": "m", "LLM_API_KEY": "sk-1", "TITLES": "first_words"}
    given = {"DATABASE_URL": database_url, "WORKERS": str(COUNT), "LOG_FORMAT": "json", **model}
    with serving(tmp_path / "log", **given) as (manager, client):
        workers: set[int] = set()
        try:
            wait_for(lambda: len(serving_of(manager)) == COUNT)
            yield manager, client
            workers = serving_of(manager)
            manager.end(signal.SIGTERM) if manager.process.poll() is None else None
        finally:
            for worker in workers:
                kill(worker)


def serving_of(manager: Process) -> set[int]:
    """The ids of the workers that serve, and are there."""
    told = {int(number) for number in re.findall(r"worker (\d+) serves", manager.output())}
    return {process_id for process_id in told if is_there(process_id)}


def is_there(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def kill(process_id: int) -> None:
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def asking_all_the_time(url: str) -> Iterator[list[int]]:
    """Ask, on a new connection each time, for the length of a block; give what came."""
    answers: list[int] = []
    has_ended = threading.Event()

    def ask() -> None:
        while not has_ended.is_set():
            try:
                answers.append(httpx.get(f"{url}/api/health", timeout=20, trust_env=False).status_code)
            except httpx.TransportError:
                answers.append(0)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        has_ended.set()
        asking.join()


def test_one_that_dies_is_started_again(servers: tuple[Process, httpx.Client]) -> None:
    manager, client = servers
    before = serving_of(manager)
    victim = min(before)
    with asking_all_the_time(str(client.base_url)) as answers:
        kill(victim)
        wait_for(lambda: len(serving_of(manager)) == COUNT and victim not in serving_of(manager))
    assert answers.count(0) <= 1  # the one that it was answering
    assert len(serving_of(manager) & before) == COUNT - 1
    assert f"worker {victim} ended with -9; another is started" in manager.output()


def test_a_signal_ends_them_all_in_order(
    servers: tuple[Process, httpx.Client], upstream_thread: ScriptedUpstream
) -> None:
    manager, client = servers
    workers = serving_of(manager)
    upstream_thread.script = [answer("begun", " and ended", gate="go", gate_at=1)]
    with client.stream("POST", "/chat", json={"message": "hello"}) as response:
        lines = response.iter_lines()
        wait_for(lambda: "begun" in next(lines))
        manager.process.send_signal(signal.SIGTERM)
        wait_for(lambda: sum(is_there(worker) for worker in workers) == 1)  # the one that answers
        upstream_thread.gate("go").open()
        rest = "".join(lines)
    assert " and ended" in rest
    assert '"completed"' in rest
    assert manager.process.wait(SECONDS) == 0
    assert not any(is_there(worker) for worker in workers)
    assert "Traceback" not in manager.output()


def test_a_hang_up_replaces_them_and_nobody_notices(
    servers: tuple[Process, httpx.Client], upstream_thread: ScriptedUpstream
) -> None:
    manager, client = servers
    before = serving_of(manager)
    upstream_thread.script = [answer("begun", " and ended", gate="go", gate_at=1)]
    with (
        client.stream("POST", "/chat", json={"message": "hello"}) as response,
        asking_all_the_time(str(client.base_url)) as answers,
    ):
        lines = response.iter_lines()
        wait_for(lambda: "begun" in next(lines))
        manager.process.send_signal(signal.SIGHUP)
        wait_for(lambda: bool(serving_of(manager) - before))
        upstream_thread.gate("go").open()
        rest = "".join(lines)
        wait_for(lambda: "all workers were replaced" in manager.output())
    assert " and ended" in rest
    assert '"completed"' in rest
    assert set(answers) == {200}
    assert len(serving_of(manager)) == COUNT
    assert not serving_of(manager) & before
    assert "another is started" not in manager.output()


def test_they_stay_where_new_ones_could_not_start(
    servers: tuple[Process, httpx.Client], database_folder: Path
) -> None:
    manager, client = servers
    before = serving_of(manager)
    with renamed_migration(database_folder):
        manager.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the workers stay as they are" in manager.output())
    assert serving_of(manager) == before
    assert client.get("/api/health").status_code == 200


@contextmanager
def renamed_migration(folder: Path) -> Iterator[None]:
    """A database that lacks migrations, for a while. (A file in use that is moved away breaks for good.)"""
    change = "UPDATE django_migrations SET app = '{}' WHERE app = '{}'"
    with databases.cursor_of(folder) as cursor:
        cursor.execute(change.format("away", "conversations"))
        try:
            yield
        finally:
            cursor.execute(change.format("conversations", "away"))


def test_they_end_with_the_one_that_looks_after_them(servers: tuple[Process, httpx.Client]) -> None:
    manager, _client = servers
    workers = serving_of(manager)
    manager.process.kill()
    wait_for(lambda: not any(is_there(worker) for worker in workers))


def test_where_none_can_start_that_is_the_end() -> None:
    program = (
        "import json, socket, sys; from chatproject.workers import work;"
        "listener = socket.create_server(('127.0.0.1', 0));"
        f"sys.exit(work([listener], 2, json.loads({json.dumps(json.dumps({'DJANGO_SETTINGS_MODULE': 'no.such'}))!r})))"
    )
    ended = run("-c", program)
    assert ended.returncode not in (0, None)
    assert "another is started" not in ended.stderr


@pytest.mark.parametrize("count", ["0", "many", "257"])
def test_how_many_is_a_number(count: str) -> None:
    ended = run("-m", "chatproject", "--workers", count)
    assert ended.returncode == 1
    assert "WORKERS" in ended.stderr

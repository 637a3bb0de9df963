"""After thousands of cancelled streams the server holds what it held before: tasks, threads, files, connections.

Half of the clients hang up, over SSE or WebSocket, with `ON_DISCONNECT=cancel`; half stop their answer. Of the
upstream's answers some are silent by then and some go on talking.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests import databases
from tests.conftest import Server
from tests.entry import HEADERS
from tests.upstream import Request, ScriptedUpstream, answer

from .conftest import Serve
from .silent import SilentClient
from .sizes import size

CANCELLED = size(100, 10_000)
CANCELLED_HERE = size(60, 2_000)
WARM_UP = 40
AT_ONCE = 20
SPARE = 2
# What a process holds on SQLite: four threads that read, one that writes.
DB_CONNECTIONS = 5
SETTLE_SECONDS = 15.0

Counts = dict[str, int]


def half_silent() -> Callable[[Request], Any]:
    behaviours = itertools.cycle(
        [answer("seen ", "never", gate="never", gate_at=1), answer("seen ", endless=True, delay=0.2)]
    )
    return lambda _request: next(behaviours)


def cancel(server: Any, client: httpx.Client, count: int) -> None:
    """Begin ``count`` answers, some at a time, and cancel each once its first text has come."""
    for begun in range(0, count, AT_ONCE):
        with ExitStack() as stack:
            clients = [stack.enter_context(SilentClient(server)) for _ in range(min(AT_ONCE, count - begun))]
            for index, each in enumerate(clients):
                if index % 4 == 3:
                    each.open_socket()
                    each.send_frame(type="chat", id="x", message="hello")
                else:
                    each.post("/chat", {"message": "hello"})
            heads = [each.until(b'"chunk"') for each in clients]
            for head in heads[::2]:  # the others hang up
                found = re.search(rb"x-generation-id: ([0-9a-f-]{36})", head, re.IGNORECASE)
                assert found
                assert client.post(f"/generations/{found[1].decode()}/stop").json()["status"] == "stopped"


def files_of(pid: int | str) -> list[str]:
    """Return what each file descriptor of a process stands for."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except FileNotFoundError:  # closed meanwhile, as the one of this listing is
            continue
    return found


def held_by(pid: int | str, upstream: ScriptedUpstream) -> Counts:
    files = files_of(pid)
    held = {
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        # A connection to SQLite holds three, and is counted itself.
        "files": sum(".sqlite3" not in name for name in files),
        "upstream connections": upstream.open_connections,
    }
    if databases.vendor() == "sqlite":
        held["database connections"] = sum(name.endswith(".sqlite3") for name in files)
    return held


def expect_as_before(before: Counts, count: Callable[[], Counts]) -> None:
    """What is held comes back to what it was, but for ``SPARE`` of each."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while any((now := count())[name] > before[name] + SPARE for name in before):
        assert time.monotonic() < deadline, {name: (before[name], now[name]) for name in before}
        time.sleep(0.1)


def settled(count: Callable[[], Counts]) -> Counts:
    """Return what is held once it is the same for a second."""
    seen = [count()]
    deadline = time.monotonic() + SETTLE_SECONDS
    while len(seen) < 10 or any(earlier != seen[-1] for earlier in seen[-10:]):
        assert time.monotonic() < deadline, seen[-10:]
        time.sleep(0.1)
        seen.append(count())
    return seen[-1]


def fill_the_pool(client: httpx.Client, count: Callable[[], Counts]) -> None:
    """Let every database thread be there before anything is counted: they begin when they are needed first."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with ThreadPoolExecutor(AT_ONCE) as readers:
        while count()["database connections"] < DB_CONNECTIONS:
            assert time.monotonic() < deadline, count()
            for _answer in readers.map(lambda _index: client.get("/conversations"), range(AT_ONCE)):
                pass


def test_cancelled_streams_leave_nothing_in_the_process(
    serve: Serve, scripted: ScriptedUpstream, database: Path
) -> None:
    scripted.default = half_silent()
    [server] = serve(ON_DISCONNECT="cancel")

    def count() -> Counts:
        held = held_by(server.pid, scripted)
        if databases.vendor() != "sqlite":
            held["database connections"] = databases.connections_to(database)
        return held

    with server.client() as client:
        fill_the_pool(client, count)
        cancel(server, client, WARM_UP)
        before = settled(count)
        cancel(server, client, CANCELLED)
        expect_as_before(before, count)
        assert scripted.calls == WARM_UP + CANCELLED
        scripted.wait_until(lambda: scripted.open_connections == 0)
        assert client.get("/api/health/ready").status_code == 200


def test_cancelled_streams_leave_no_tasks(server: Server, model: ScriptedUpstream, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ON_DISCONNECT": "cancel"}
    model.default = half_silent()
    loop = server.loop

    def count() -> Counts:
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
        return {**held_by("self", model), "threads": threading.active_count(), "tasks": len(tasks)}

    with httpx.Client(base_url=server.url, headers=HEADERS, timeout=30, trust_env=False) as client:
        cancel(server, client, WARM_UP)
        before = settled(count)
        cancel(server, client, CANCELLED_HERE)
        expect_as_before(before, count)

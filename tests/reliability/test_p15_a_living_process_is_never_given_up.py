"""Promise 15: however busy a process is, and whatever its threads wait for, nobody ends its answers for it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from conversations.database import db
from tests import databases
from tests.conversations.helpers import whole_chat
from tests.processes.server import ServerProcess

from .conftest import Serve
from .readers import SseReader, script
from .sizes import size
from .truth import consistent

pytestmark = pytest.mark.server

on_servers = pytest.mark.skipif(databases.vendor() == "sqlite", reason="SQLite has no rows to lock")
on_sqlite = pytest.mark.skipif(databases.vendor() != "sqlite", reason="only SQLite has one lock for all who write")

TALK = script(chunks=["tick ", "tock "], endless=True, delay=0.05)
# At the small size processes give each other up sooner, so that a test takes seconds.
QUICK: dict[str, Any] = size({"BEAT_INTERVAL": 0.25, "BEATS_TO_GIVE_UP": 12}, {})
HELD_SECONDS = size(5.0, 14.0)
KEPT = size(20, 500)
CHATS = size(60, 400)
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
# More than a process has threads to write.
WAITING = 6


def workers(database: Path) -> set[Any]:
    """The ids of those that others take for living; one that was given up has another afterwards."""
    return set(databases.rows(database, "SELECT id FROM conversations_worker"))


def beaten(database: Path) -> list[int]:
    return databases.rows(database, "SELECT counter FROM conversations_worker ORDER BY id")


def wait_for_beats(database: Path, count: int = 2) -> None:
    """Wait until as many workers have shown that they live."""
    deadline = time.monotonic() + 30
    while len([counter for counter in beaten(database) if counter]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def still_runs(reader: SseReader, client: httpx.Client) -> None:
    """Its answer goes on, and ends as it should."""
    count = len(reader.part.events)
    reader.seen(count + 3)
    assert not reader.has_ended
    assert client.post(f"/generations/{reader.ids['generation_id']}/stop").status_code == 200
    assert consistent(client, reader.join().part).status == "stopped"


@contextmanager
def locked(database: Path, session_id: str) -> Iterator[None]:
    """Somebody holds the row of a conversation."""
    key = session_id if databases.vendor() == "postgresql" else session_id.replace("-", "")
    with databases.cursor_of(database) as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"SELECT id FROM conversations_conversation WHERE session_id = '{key}' FOR UPDATE")
        assert cursor.fetchall()
        yield
        cursor.execute("ROLLBACK")


@on_servers
def test_p15_changes_that_wait_for_a_locked_row_give_nobody_up(serve: Serve, database: Path) -> None:
    """They fill all threads that write."""
    server, other = serve(count=2, conversations=QUICK, OTHER_MACHINES="1")
    reader = SseReader(server, message=TALK).start().seen(3)
    with server.client() as client, other.client() as there, ThreadPoolExecutor(WAITING) as threads:
        wait_for_beats(database)
        before = workers(database)
        session_id = there.post("/conversations").json()["session_id"]
        with locked(database, session_id):
            change = partial(client.patch, f"/conversations/{session_id}", json={"title": "Later"})
            waiting = [threads.submit(change) for _ in range(WAITING)]
            time.sleep(HELD_SECONDS)
            assert not any(change.done() for change in waiting)
        assert [change.result().status_code for change in waiting] == [200] * WAITING
        assert workers(database) == before
        still_runs(reader, client)


@on_servers
def test_p15_many_new_chats_of_who_has_as_many_as_are_kept_lose_none(serve: Serve, database: Path) -> None:
    server, other = serve(count=2, conversations={**QUICK, "KEEP_LATEST": KEPT}, OTHER_MACHINES="1")
    message = script(chunks=["one ", "two"], delay=0.05)
    with server.client() as client, other.client() as there, ThreadPoolExecutor(CHATS) as threads:
        for _number in range(KEPT):
            assert there.post("/conversations").status_code == 201
        wait_for_beats(database)
        before = workers(database)
        with httpx.Client(
            base_url=server.url, headers=client.headers, timeout=300, trust_env=False, limits=LIMITS
        ) as c:
            answers = list(threads.map(lambda _number: whole_chat(c, message), range(CHATS)))
        assert {(answer.status_code, answer.json().get("status")) for answer in answers} == {(200, "completed")}
        assert workers(database) == before
        # What was being answered while others began was not taken then; the next one that begins sees to it.
        assert there.post("/conversations").status_code == 201
        pruned(database)


def pruned(database: Path) -> None:
    """Wait until no more are kept than should be."""
    deadline = time.monotonic() + 60
    while databases.rows(database, "SELECT count(*) FROM conversations_conversation") > [KEPT]:
        assert time.monotonic() < deadline, "nobody prunes"
        time.sleep(0.1)


@on_sqlite
def test_p15_two_who_write_without_rest_give_nobody_up(serve: Serve, database: Path) -> None:
    """SQLite's lock goes to whoever asks at the right moment; somebody has bad luck for long."""
    server, other = serve(count=2, conversations=QUICK)
    reader = SseReader(server, message=TALK).start().seen(3)
    wait_for_beats(database)
    before = workers(database)
    over = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write_without_rest, database / databases.FILE, over) for _ in range(2)]
        time.sleep(HELD_SECONDS)
        over.set()
        assert sum(writer.result() for writer in writers) > 10
    assert workers(database) == before
    with other.client() as client:
        still_runs(reader, client)


def write_without_rest(path: Path, over: threading.Event) -> int:
    """Write until told, and return how often that was."""
    count = 0
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        while not over.is_set():
            connection.execute("BEGIN IMMEDIATE")
            for _row in range(200):
                connection.execute("UPDATE conversations_conversation SET is_pinned = is_pinned")
            connection.execute("COMMIT")
            count += 1
    return count


@on_sqlite
@pytest.mark.parametrize("machines", [{}, {"OTHER_MACHINES": "1"}], ids=["one machine", "a machine each"])
def test_p15_a_database_that_takes_no_writes_makes_nobody_dead(
    serve: Serve, database: Path, machines: dict[str, str]
) -> None:
    server, other = serve(count=2, conversations=QUICK, **machines)
    reader = SseReader(server, message=TALK).start().seen(3)
    wait_for_beats(database)
    before = workers(database)
    with closing(sqlite3.connect(database / databases.FILE, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(HELD_SECONDS)
        connection.execute("ROLLBACK")
    with other.client() as client:
        still_runs(reader, client)
    assert workers(database) == before


def test_p15_a_process_of_one_machine_that_stands_still_is_not_taken_for_dead(serve: Serve, database: Path) -> None:
    """It is there to be seen, whatever its counter says; it goes on when it may."""
    server, other = serve(count=2, conversations=QUICK)
    reader = SseReader(server, message=TALK).start().seen(3)
    wait_for_beats(database)
    before = workers(database)
    _stand_still(server)
    assert workers(database) == before
    with other.client() as client:
        still_runs(reader, client)


def _stand_still(server: ServerProcess) -> None:
    server.signal(signal.SIGSTOP)
    try:
        time.sleep(HELD_SECONDS)
    finally:
        server.signal(signal.SIGCONT)


@pytest_asyncio.fixture
async def pools(transactional_db: None) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(db.close)


async def test_p15_the_beat_waits_for_no_other_thread(pools: None) -> None:
    over = threading.Event()
    try:
        kinds = (db.read, db.write, db.log, db.background, db.probe)
        busy = [asyncio.ensure_future(run(over.wait, 30)) for run in kinds for _ in range(10)]
        await asyncio.sleep(0)  # all of them are given to their threads before the beat
        async with asyncio.timeout(10):
            assert await db.beat(lambda: "raised") == "raised"
    finally:
        over.set()
    await asyncio.gather(*busy)

"""Promise 12: a database that is locked or full, and a Redis that goes away: the stream goes on or ends typed.

Nothing that was acknowledged is lost, and no server has to be restarted.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path

import pytest

from tests import databases
from tests.conversations.helpers import whole_chat
from tests.databases import FILE
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .readers import Reader, SocketReader, SseReader, script
from .redis_server import RedisServer
from .sizes import size
from .truth import consistent

pytestmark = pytest.mark.server

sqlite_only = pytest.mark.skipif(databases.vendor() != "sqlite", reason="locks or fills a SQLite file")
LOCKED_SECONDS = size(8.0, 10.0)
# Pages of the small database, and what fills it: a row of this many bytes.
SPARE_PAGES = 20
BALLAST = 1_000_000


def wait_for(predicate: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another connection holds the write lock."""
    with closing(sqlite3.connect(database / FILE, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def talk(start: int, count: int, gate: str) -> str:
    """Return the message for an answer of numbered words that waits half-way for ``gate``."""
    words = [f"{number} " for number in range(start, start + count)]
    return script(chunks=words, delay=0.005, gate=gate, gate_at=count // 2)


def words(start: int, count: int) -> str:
    return "".join(f"{number} " for number in range(start, start + count))


@sqlite_only
def test_p12_answers_go_on_after_the_database_was_locked(
    serve: Serve, database: Path, scripted: ScriptedUpstream
) -> None:
    """The text of the locked time comes after it, and neither process takes the other for dead.

    The jobs of one process wait for the lock as long as they do by default; those of the other fail at once, are
    refused or tried again.
    """
    [patient], [impatient] = serve(), serve(lock_timeout=0.6)
    readers = [
        SseReader(patient, message=talk(0, 100, "half")).start(),
        SocketReader(impatient, message=talk(1000, 100, "half")).start(),
    ]
    for reader in readers:
        reader.acknowledged().seen(1)
    readers.append(SseReader(impatient, generation=readers[0].ids["generation_id"]).start().acknowledged())
    with patient.client() as here, impatient.client() as there:
        with locked(database):
            until = time.monotonic() + LOCKED_SECONDS
            scripted.gate("half").open()
            waiting = SseReader(patient, message="Hello?").start()
            for client in (here, there):
                path = f"/conversations/{readers[0].ids['session_id']}/history"
                assert client.get(path).status_code == 200, "reading goes on"
            refused = there.post("/conversations")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
            assert time.monotonic() < until, "nobody waited for the lock who need not"
            time.sleep(until - time.monotonic())
            assert not waiting.ids, "not acknowledged before it is stored"
        for reader, expected in zip(readers, [words(0, 100), words(1000, 100), words(0, 100)], strict=True):
            told = consistent(here, reader.join().part)
            assert (told.status, told.text) == ("completed", expected)
            assert consistent(there, reader.part) == told
        assert consistent(there, waiting.join().part).status == "completed"
        assert whole_chat(here, "And now?", session_id=readers[0].ids["session_id"]).status_code == 200


@sqlite_only
def test_p12_an_answer_that_cannot_be_stored_in_time_ends_typed_and_whole(serve: Serve, database: Path) -> None:
    """Locked for longer than the log is willing to wait, while the upstream goes on sending."""
    [server] = serve(lock_timeout=0.6, conversations={"STORAGE_TIMEOUT": 0.5})
    endless = script(chunks=["tick ", "tock "], endless=True, delay=0.002)
    readers: list[Reader] = [kind(server, message=endless).start() for kind in (SseReader, SocketReader)]
    for reader in readers:
        reader.seen(3)
    with locked(database):
        for reader in readers:
            reader.join()
    with server.client() as client:
        for reader in readers:
            told = consistent(client, reader.part)
            assert (told.status, told.error_code) == ("failed", "storage_failed")
            assert told.text.startswith("tick tock "), "what was seen before is kept"
            assert whole_chat(client, "And now?", session_id=told.session_id).status_code == 200


def fill(database: Path, pages: int) -> None:
    """Take what is left of ``pages``: the larger the batch that did not fit, the more that is."""
    with closing(sqlite3.connect(database / FILE, timeout=10, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            connection.executemany("INSERT INTO ballast VALUES (zeroblob(?))", repeat([1000]))


@sqlite_only
def test_p12_a_full_database_ends_answers_typed_and_takes_messages_again_once_there_is_room(
    serve: Serve, database: Path, scripted: ScriptedUpstream
) -> None:
    with closing(sqlite3.connect(database / FILE)) as connection:
        connection.execute("CREATE TABLE ballast (bytes BLOB)")
        connection.execute("INSERT INTO ballast VALUES (zeroblob(?))", [BALLAST])
        connection.commit()
        pages = connection.execute("PRAGMA page_count").fetchone()[0] + SPARE_PAGES
    [server] = serve(pragmas=f"PRAGMA max_page_count={pages}", conversations={"STORAGE_TIMEOUT": 0.5})
    with server.client() as client:
        before = SseReader(server, message="Stored before it is full").start().join()
        long = script(chunks=["x" * 2000], endless=True, delay=0.002, gate="both", gate_at=1)
        readers: list[Reader] = [kind(server, message=long).start().seen(1) for kind in (SseReader, SocketReader)]
        scripted.gate("both").open()  # not before: one alone would fill it, and the other would have no text
        for reader in readers:
            reader.join()
            assert [event["error"]["code"] for event in reader.part.events if "error" in event] == ["storage_failed"]
        fill(database, pages)
        refused = whole_chat(client, "y " * 10_000)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
        assert client.get("/api/health/ready").status_code == 200
        consistent(client, before.part)

        with closing(sqlite3.connect(database / FILE, timeout=10)) as connection:
            connection.execute("DELETE FROM ballast")
            connection.commit()
        for reader in readers:
            assert consistent(client, reader.part).text
        taken = whole_chat(client, "y " * 10_000, session_id=readers[0].ids["session_id"])
        assert taken.status_code == 200, taken.text
        history = client.get(f"/conversations/{readers[0].ids['session_id']}/history").json()["messages"]
        assert [len(message["content"]) for message in history[2:3]] == [20_000]


def test_p12_redis_restarted_mid_stream(serve: Serve, redis_server: RedisServer, scripted: ScriptedUpstream) -> None:
    """Two processes: readers on both, over both doors, go on while Redis is gone, and hints work again after it."""
    server, other = serve(count=2, redis=True)
    first = SocketReader(server, message=talk(0, 60, "half")).start().seen(1)
    attach = {"generation_id": first.ids["generation_id"]}
    readers = [
        first,
        SseReader(other, generation=attach["generation_id"]).start().acknowledged(),
        SocketReader(other, frame_type="attach", **attach).start().acknowledged(),
    ]
    silent = SseReader(server, message=script(chunks=["kept", "never"], gate="never", gate_at=1)).start().seen(1)
    with server.client() as client, other.client() as there:
        redis_server.kill()
        for asked in (client, there):
            wait_for(lambda asked=asked: asked.get("/api/health/ready").json()["status"] == "degraded")  # type: ignore[misc]
        scripted.gate("half").open()
        for reader in readers:
            assert consistent(there, reader.join().part).text == words(0, 60)
        during = SocketReader(other, message="Taken without Redis").start().join()
        assert consistent(client, during.part).status == "completed"

        redis_server.start()
        for asked in (client, there):
            wait_for(lambda asked=asked: asked.get("/api/health/ready").json()["status"] == "ok")  # type: ignore[misc]
        assert there.post(f"/generations/{silent.ids['generation_id']}/stop").status_code == 200
        scripted.wait_until(lambda: any(request.closed_by_client for request in scripted.requests))
        told = consistent(client, silent.join().part)
        assert (told.status, told.text) == ("stopped", "kept")
        after = SseReader(other, message="And after it").start().join()
        assert consistent(client, after.part).status == "completed"

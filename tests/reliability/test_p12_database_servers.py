"""Promise 12 on PostgreSQL and MariaDB: a server that crashes and comes back, and text that is locked.

As `test_p12_database_and_redis_faults` says of SQLite: the stream goes on or ends typed, nothing that was acknowledged
is lost, and no server of ours has to be restarted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import databases
from tests.conversations.helpers import whole_chat
from tests.database_server import DatabaseServer
from tests.entry import LOGIN, MAKE_KEYS
from tests.processes.server import environment, manage
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .readers import Reader, SocketReader, SseReader, script
from .sizes import size
from .test_p12_database_and_redis_faults import talk, wait_for, words
from .truth import consistent

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(databases.vendor() == "sqlite", reason="SQLite is no server"),
]

AWAY_SECONDS = size(1.5, 10.0)
TABLE = "conversations_generationchunk"
LOCK = {
    "postgresql": ["BEGIN", f"LOCK TABLE {TABLE} IN EXCLUSIVE MODE"],
    "mysql": [f"LOCK TABLES {TABLE} READ"],
}
UNLOCK = {"postgresql": "ROLLBACK", "mysql": "UNLOCK TABLES"}


@pytest.fixture
def database_server(tmp_path: Path) -> Iterator[DatabaseServer]:
    """A server with a migrated database."""
    with DatabaseServer(databases.vendor()) as server:
        env = environment(tmp_path, DATABASE_URL=server.url)
        manage(env, "migrate", "--verbosity=0")
        if LOGIN:
            manage(env, "shell", "--command", MAKE_KEYS)
        yield server


def test_p12_answers_go_on_after_the_database_server_crashed_and_came_back(
    serve: Serve, database_server: DatabaseServer, scripted: ScriptedUpstream
) -> None:
    """Two processes; readers of both, over both doors, and one of the other process's answer."""
    server, other = serve(count=2, DATABASE_URL=database_server.url)
    readers: list[Reader] = [
        SseReader(server, message=talk(0, 100, "half")).start(),
        SocketReader(other, message=talk(1000, 100, "half")).start(),
    ]
    for reader in readers:
        reader.acknowledged().seen(1)
    readers.append(SseReader(other, generation=readers[0].ids["generation_id"]).start().acknowledged())
    with server.client() as here, other.client() as there:
        before = SseReader(server, message="Stored before").start().join()
        database_server.crash()
        for client in (here, there):
            wait_for(lambda client=client: client.get("/api/health/ready").status_code == 503)  # type: ignore[misc]
            refused = client.post("/conversations")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
            assert whole_chat(client, "Hello?").status_code == 503
        scripted.gate("half").open()
        time.sleep(AWAY_SECONDS)
        assert not any(reader.has_ended for reader in readers)
        database_server.start()
        for reader, expected in zip(readers, [words(0, 100), words(1000, 100), words(0, 100)], strict=True):
            told = consistent(here, reader.join().part)
            assert (told.status, told.text) == ("completed", expected)
            assert consistent(there, reader.part) == told
        assert consistent(there, before.part).status == "completed"
        for client in (here, there):
            wait_for(lambda client=client: client.get("/api/health/ready").status_code == 200)  # type: ignore[misc]
            assert whole_chat(client, "And now?", session_id=readers[0].ids["session_id"]).status_code == 200
            assert whole_chat(client, "A new one").status_code == 200


def test_p12_a_database_server_that_stays_away_ends_answers_typed_and_whole(
    serve: Serve, database_server: DatabaseServer
) -> None:
    """For longer than the log is willing to wait, while the upstream goes on sending."""
    [server] = serve(DATABASE_URL=database_server.url, conversations={"STORAGE_TIMEOUT": 0.5})
    endless = script(chunks=["tick ", "tock "], endless=True, delay=0.002)
    readers: list[Reader] = [kind(server, message=endless).start().seen(3) for kind in (SseReader, SocketReader)]
    database_server.crash()
    for reader in readers:
        reader.join()
    database_server.start()
    with server.client() as client:
        wait_for(lambda: client.get("/api/health/ready").status_code == 200)
        for reader in readers:
            told = consistent(client, reader.part)
            assert (told.status, told.error_code) == ("failed", "storage_failed")
            assert told.text.startswith("tick tock "), "what was seen before is kept"
            assert whole_chat(client, "And now?", session_id=told.session_id).status_code == 200


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody can write down text; everything else goes on."""
    with databases.cursor_of(database) as cursor:
        for sql in LOCK[databases.vendor()]:
            cursor.execute(sql)
        yield
        cursor.execute(UNLOCK[databases.vendor()])


def test_p12_answers_go_on_after_their_text_was_locked(
    serve: Serve, database: Path, scripted: ScriptedUpstream
) -> None:
    """The jobs of one process wait for the lock as long as they do by default, those of the other give up sooner."""
    [patient], [impatient] = serve(), serve(lock_timeout=1.0)
    readers: list[Reader] = [
        SseReader(patient, message=talk(0, 100, "half")).start().acknowledged().seen(1),
        SocketReader(impatient, message=talk(1000, 100, "half")).start().acknowledged().seen(1),
    ]
    with patient.client() as here, impatient.client() as there:
        with locked(database):
            scripted.gate("half").open()
            time.sleep(AWAY_SECONDS)
            assert not any(reader.has_ended for reader in readers)
            for client, reader in zip((here, there), readers, strict=True):
                assert client.get(f"/conversations/{reader.ids['session_id']}/history").status_code == 200
                assert client.post("/conversations").status_code == 201
        for reader, expected in zip(readers, [words(0, 100), words(1000, 100)], strict=True):
            told = consistent(here, reader.join().part)
            assert (told.status, told.text) == ("completed", expected)
            assert consistent(there, reader.part) == told
        assert whole_chat(here, "And now?", session_id=readers[0].ids["session_id"]).status_code == 200

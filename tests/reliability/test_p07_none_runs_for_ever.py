"""Promise 7: no answer says that it runs for ever, and none grows that another process ended."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from conversations.conf import Settings
from tests import databases
from tests.conversations.helpers import stream, whole_chat
from tests.processes.server import ServerProcess, manage
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .readers import Reader, SocketReader, SseReader, script
from .sizes import size
from .truth import consistent

pytestmark = pytest.mark.server

TALK = script(chunks=["tick ", "tock "], endless=True, delay=0.01)
# The promise, in seconds.
FREE_AGAIN = 10.0
TRIES = size(1, 20)
STOPPED_SECONDS = size(0.0, 30.0)
# At the small size processes give each other up sooner, so that a test takes seconds.
QUICK: dict[str, Any] = size({"BEAT_INTERVAL": 0.25, "BEATS_TO_GIVE_UP": 8}, {})


def wait_for_free(client: httpx.Client, session_id: str, since: float, seconds: float = FREE_AGAIN) -> None:
    """Send a new message until it is taken, which must be within ``seconds`` of ``since``."""
    while (response := whole_chat(client, "Go on.", session_id=session_id)).status_code != 200:
        assert response.json()["code"] == "reply_in_progress", response.text
        assert time.monotonic() < since + seconds, "the conversation stays blocked"
        time.sleep(0.1)
    assert time.monotonic() < since + seconds


def test_p7_a_killed_processs_conversation_is_free_again_where_another_lives(serve: Serve) -> None:
    """Within 10 s of the kill with the settings as they ship, which is what the full size runs with."""
    shipped = Settings()
    assert shipped.BEAT_INTERVAL * (shipped.BEATS_TO_GIVE_UP + 1) < FREE_AGAIN
    killed, other = serve(count=2, conversations=QUICK)
    reader = SseReader(killed, message=TALK).start().seen(3)
    killed.kill()
    since = time.monotonic()
    reader.join()
    with other.client() as client:
        wait_for_free(client, reader.ids["session_id"], since)
        rest = stream(
            client,
            "GET",
            f"/generations/{reader.ids['generation_id']}/stream",
            headers={"Last-Event-ID": reader.part.ids[-1]},
        )
        assert consistent(client, reader.part, rest).status == "interrupted"


@pytest.mark.parametrize("kind", size(["daphne"], ["uvicorn", "daphne"]))
def test_p7_a_killed_processs_conversation_is_free_again_after_a_restart(serve: Serve, kind: str) -> None:
    """Within 10 s of the restart; the message is all that the new process gets, nothing else wakes its engine."""
    [server] = serve(kind)
    reader = SocketReader(server, message=TALK).start().seen(3)
    server.kill()
    reader.join()
    server.start()
    since = time.monotonic()
    with server.client() as client:
        wait_for_free(client, reader.ids["session_id"], since)
        stored = stream(client, "GET", f"/generations/{reader.ids['generation_id']}/stream")
        assert consistent(client, stored).text.startswith("".join(e["chunk"] for e in reader.part.events))
        assert stored.done["status"] == "interrupted"


def test_p7_nothing_is_appended_to_an_answer_that_another_process_ended(
    serve: Serve, scripted: ScriptedUpstream, database: Path
) -> None:
    """SIGSTOP while the upstream sends, given up by a process of another machine, then SIGCONT."""
    stopped, other = serve(count=2, conversations=QUICK, lock_timeout=size(1.0, 20.0), OTHER_MACHINES="1")
    with stopped.client() as here, other.client() as there:
        ended_elsewhere = 0
        for _attempt in range(TRIES * 5):
            ended_elsewhere += _stop_and_continue(stopped, here, there, scripted, database)
            assert chunks_of_ended_answers(here, database) == 0
            if ended_elsewhere == TRIES:
                break
    assert ended_elsewhere == TRIES


def chunks_of_ended_answers(client: httpx.Client, database: Path) -> int:
    """Count the rows that came after an end. On SQLite a process has one writer: our write waits for its batches."""
    assert client.post("/conversations").status_code == 201
    [chunks] = databases.rows(
        database,
        "SELECT count(*) FROM conversations_generationchunk WHERE generation_id IN"
        " (SELECT id FROM conversations_generation WHERE status != 'running')",
    )
    return int(chunks)


def _stop_and_continue(
    stopped: ServerProcess, here: httpx.Client, there: httpx.Client, scripted: ScriptedUpstream, database: Path
) -> bool:
    """One try; False when the process was stopped inside a transaction, so that nobody could end its answer."""
    reader = SseReader(stopped, message=TALK).start().seen(3)
    time.sleep(random.uniform(0, 0.3))
    stopped.signal(signal.SIGSTOP)
    try:
        since = time.monotonic()
        before = _ended_meanwhile(there, reader.ids, since, database)
        if before:
            assert before["status"] == "interrupted"
            taken = whole_chat(there, "Go on.", session_id=reader.ids["session_id"])
            assert taken.status_code == 200, "the conversation is free while the process is still stopped"
        time.sleep(max(0.0, since + STOPPED_SECONDS - time.monotonic()))
    finally:
        stopped.signal(signal.SIGCONT)
    if before is None:
        here.post(f"/generations/{reader.ids['generation_id']}/stop")
        reader.join()
        consistent(there, reader.part)
        return False
    scripted.wait_until(lambda: all(request.closed_by_client or request.answered for request in scripted.requests))
    reader.join()
    told = consistent(here, reader.part)
    assert consistent(there, reader.part) == told
    after = there.get(f"/generations/{reader.ids['generation_id']}").json()
    assert after == before, "the answer changed after its end"
    return True


def _ended_meanwhile(client: httpx.Client, ids: dict[str, str], since: float, database: Path) -> dict[str, Any] | None:
    """Return the answer's state once another process has ended it, None if the stopped one has it locked."""
    while time.monotonic() < since + FREE_AGAIN + STOPPED_SECONDS:
        state: dict[str, Any] = client.get(f"/generations/{ids['generation_id']}").json()
        if state["status"] != "running":
            return state
        renamed = client.patch(f"/conversations/{ids['session_id']}", json={"title": "A write"})
        if renamed.status_code == 503:
            return None
        time.sleep(0.1)
    assert databases.vendor() != "sqlite", "nobody ended the answer of a stopped process"
    assert databases.idle_transactions(database), "nobody ended the answer of a stopped process"
    return None


@pytest.mark.skipif(databases.vendor() != "sqlite", reason="only SQLite has one lock for all who write")
def test_p7_a_process_stopped_inside_a_transaction_makes_others_say_database_busy(
    serve: Serve, tmp_path: Path
) -> None:
    """It keeps SQLite's write lock: others refuse in a typed way, still read, and go on once it does."""
    flag = tmp_path / "stop-in-transaction"
    stopped, other = serve(count=2, conversations=QUICK, lock_timeout=size(1.0, 20.0), STOP_IN_TRANSACTION=str(flag))
    acknowledged = SseReader(other, message=script(chunks=["kept ", "too"], delay=0.01)).start().acknowledged().join()
    reader = SseReader(stopped, message=TALK).start().seen(3)
    flag.touch()
    _until(lambda: not flag.exists())
    try:
        with other.client() as client:
            refused = client.post("/conversations")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
            assert int(refused.headers["Retry-After"]) >= 1
            chat = whole_chat(client, "Hello?", session_id=acknowledged.ids["session_id"])
            assert (chat.status_code, chat.json()["code"]) == (503, "database_busy")
            socket = SocketReader(other, message="Hello?").start().until(lambda reading: reading.refused)
            assert socket.refused is not None
            assert socket.refused["code"] == "database_busy"
            consistent(client, acknowledged.part)
            assert client.get(f"/generations/{reader.ids['generation_id']}").json()["status"] == "running"
            time.sleep(STOPPED_SECONDS)
    finally:
        stopped.signal(signal.SIGCONT)
    count = len(reader.part.events)
    _went_on_or_ended(reader, count)
    with other.client() as client:
        stop = client.post(f"/generations/{reader.ids['generation_id']}/stop")
        assert stop.status_code == 200
        reader.join()
        consistent(client, reader.part)
        consistent(client, acknowledged.part)
        assert whole_chat(client, "Hello?", session_id=acknowledged.ids["session_id"]).status_code == 200


@pytest.mark.skipif(databases.vendor() == "sqlite", reason="SQLite has one lock for all who write")
def test_p7_a_process_stopped_inside_a_transaction_holds_up_nothing_but_its_own_answer(
    serve: Serve, tmp_path: Path
) -> None:
    """Others write and read; they end its answer once they can, or it goes on."""
    flag = tmp_path / "stop-in-transaction"
    stopped, other = serve(count=2, conversations=QUICK, lock_timeout=1.0, STOP_IN_TRANSACTION=str(flag))
    with other.client() as client:
        assert whole_chat(client, "Hello?").status_code == 200
        reader = SseReader(stopped, message=TALK).start().seen(3)
        flag.touch()
        _until(lambda: not flag.exists())
        try:
            taken = whole_chat(client, "Hello?")
            assert taken.status_code == 200
            session = taken.json()["session_id"]
            assert whole_chat(client, "And now?", session_id=session).status_code == 200
            assert client.get(f"/generations/{reader.ids['generation_id']}").json()["status"] == "running"
            refused = client.post(f"/generations/{reader.ids['generation_id']}/stop")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
            time.sleep(STOPPED_SECONDS)
        finally:
            stopped.signal(signal.SIGCONT)
        count = len(reader.part.events)
        _went_on_or_ended(reader, count)
        assert client.post(f"/generations/{reader.ids['generation_id']}/stop").status_code == 200
        consistent(client, reader.join().part)
        assert whole_chat(client, "Go on.", session_id=reader.ids["session_id"]).status_code == 200


def _until(predicate: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _went_on_or_ended(reader: Reader, count: int) -> None:
    reader.until(lambda reading: len(reading.part.events) > count + 3 or reading.has_ended)


def test_p7_recover_generations_ends_what_the_dead_left_and_leaves_the_living_alone(serve: Serve) -> None:
    """By hand, with a server beside it whose own look at the dead is too slow to be first."""
    quick = {"BEAT_INTERVAL": 0.25, "BEATS_TO_GIVE_UP": 500}
    killed, living = serve(count=2, conversations=quick, OTHER_MACHINES="1")
    abandoned = SseReader(killed, message=TALK).start().seen(3)
    alive = SocketReader(living, message=TALK).start().seen(3)
    killed.kill()
    abandoned.join()
    env = {**living.env, "OVERRIDES": json.dumps({"conversations": {"BEAT_INTERVAL": 0.5, "BEATS_TO_GIVE_UP": 4}})}
    # The server beside it may be the one that ends it: an answer whose worker was given up is anybody's.
    assert manage(env, "recover_generations").strip() in ("1 ended, 1 running", "0 ended, 1 running")
    with living.client() as client:
        stored = stream(client, "GET", f"/generations/{abandoned.ids['generation_id']}/stream")
        assert consistent(client, stored).text.startswith(abandoned.part.text)
        assert stored.done["status"] == "interrupted"
        assert whole_chat(client, "Go on.", session_id=abandoned.ids["session_id"]).status_code == 200
        assert not alive.has_ended
        client.post(f"/generations/{alive.ids['generation_id']}/stop")
        assert consistent(client, alive.join().part).status == "stopped"

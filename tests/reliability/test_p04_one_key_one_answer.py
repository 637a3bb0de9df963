"""P4: one `Idempotency-Key`, one answer, one upstream call for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine.supervisor import Supervisor
from conversations.services import replies
from tests.conversations.helpers import Stream, stream, streaming
from tests.entry import LOGIN, OTHERS_HEADERS
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer

from .conftest import Serve
from .readers import script
from .reading import Background
from .sizes import size
from .truth import consistent

pytestmark = pytest.mark.server

PARALLEL = 50
ROUNDS = size(1, 20)
KEY = "Idempotency-Key"


def post(client: httpx.Client, key: str | bytes, body: dict[str, Any]) -> Any:
    """Return the `Stream` of a streaming call, else the response."""
    headers: Any = {KEY: key}
    if body.get("stream", True):
        return stream(client, "POST", "/chat", json=body, headers=headers)
    return client.post("/chat", json=body, headers=headers)


def answer_of(result: Any) -> tuple[str, int, str]:
    """Return generation, message and text of an answer, however it was asked for."""
    if isinstance(result, Stream):
        assert result.done["status"] == "completed"
        return result.done["generation_id"], result.done["message_id"], result.text
    assert result.status_code == 200, result.text
    data = result.json()
    return data["generation_id"], data["message_id"], data["assistant_reply"]


def test_p4_fifty_parallel_posts_are_one_answer(serve: Serve, scripted: ScriptedUpstream) -> None:
    servers = serve(count=2)
    with servers[0].client() as one, servers[1].client() as two:
        for round_number in range(ROUNDS):
            session_id = one.post("/conversations").json()["session_id"] if round_number % 2 else None
            _fifty(one, two, scripted, f"round-{round_number}", session_id)
        assert scripted.calls == ROUNDS
        answer_before = post(one, "round-0", {"message": "Once, please (0)."})
        assert scripted.calls == ROUNDS
        _one_more_after_a_kill(serve, servers, scripted, answer_before)


async def test_p4_who_looked_before_the_other_was_stored_gets_the_others_answer(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two at once the database refuses the slower one's row: here, whatever the timing."""
    look, looks = replies.stored_reply, count()
    monkeypatch.setattr(replies, "stored_reply", lambda *given: look(*given) if next(looks) > 1 else None)
    asked = {"caller": Caller(sees_all=True), "message": "hi", "idempotency": services.Idempotency("once", "hash")}
    first = await db.write(services.start_reply, **asked)
    assert await db.write(services.start_reply, **asked) == first
    await engine.stop(first.generation_id)


def _fifty(one: httpx.Client, two: httpx.Client, upstream: ScriptedUpstream, key: str, session_id: str | None) -> None:
    """Half at each process, half streaming; the answer goes on when every stream is acknowledged."""
    upstream.script = [answer("on", "ce", reasoning=["hm"], gate=key, gate_at=1)]
    number = key.removeprefix("round-")
    body = {"message": f"Once, please ({number}).", **({"session_id": session_id} if session_id else {})}
    together = threading.Barrier(PARALLEL)
    acknowledged = threading.Semaphore(0)

    def ask(index: int) -> Any:
        client = (one, two)[index % 2]
        together.wait()
        if index % 4 >= 2:
            return post(client, key, {**body, "stream": False})
        with streaming(client, "POST", "/chat", json=body, headers={KEY: key}) as (seen, blocks):
            assert seen.status == 200
            acknowledged.release()
            for _block in blocks:
                pass
        return seen

    with ThreadPoolExecutor(PARALLEL) as threads:
        asked = [threads.submit(ask, index) for index in range(PARALLEL)]
        for index in range(PARALLEL):
            if index % 4 < 2:
                assert acknowledged.acquire(timeout=30)
        upstream.gate(key).open()
        results = [future.result() for future in asked]
    assert len({answer_of(result) for result in results}) == 1
    assert answer_of(results[0])[2] == "once"
    told = consistent(one, *[result for result in results if isinstance(result, Stream)][:1])
    history = two.get(f"/conversations/{told.session_id}/history").json()["messages"]
    assert [message["role"] for message in history] == ["user", "assistant"]


def _one_more_after_a_kill(
    serve: Serve, servers: list[ServerProcess], upstream: ScriptedUpstream, before: Stream
) -> None:
    calls = upstream.calls
    for server in servers:
        server.kill()
    (restarted,) = serve()
    body = {"message": "Once, please (0)."}
    with restarted.client() as client:
        assert answer_of(post(client, "round-0", body)) == answer_of(before)
        assert answer_of(post(client, "round-0", {**body, "stream": False})) == answer_of(before)
        other = client.post("/chat", json={"message": "Twice."}, headers={KEY: "round-0"})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        assert len(client.get("/conversations").json()["conversations"]) == ROUNDS
        consistent(client, before)
    assert upstream.calls == calls


def test_p4_a_kill_in_the_middle_makes_no_second_call(serve: Serve, scripted: ScriptedUpstream) -> None:
    owner, other = serve(count=2, conversations={"BEAT_INTERVAL": 0.3, "BEATS_TO_GIVE_UP": 10})
    body = {"message": script(chunks=["kept ", "never"], gate="g", gate_at=1)}
    with owner.client() as one, other.client() as two:
        first = Background(one, "POST", "/chat", json=body, headers={KEY: "k"})
        first.until(lambda seen: seen.text == "kept ")
        beside = Background(two, "POST", "/chat", json=body, headers={KEY: "k"})
        beside.until(lambda seen: seen.text == "kept ")
        owner.kill()
        again = post(two, "k", body)
        assert again.done["status"] == beside.end().done["status"] == "interrupted"
        assert again.text == beside.stream.text == "kept "
        whole = post(two, "k", {**body, "stream": False})
        assert (whole.status_code, whole.json()["code"]) == (503, "interrupted")
        assert whole.json()["generation_id"] == again.done["generation_id"]
        consistent(two, again)
        consistent(two, beside.stream)
    assert scripted.calls == 1


@pytest.fixture
def client(serve: Serve) -> Any:
    (server,) = serve()
    with server.client() as client:
        yield client


def test_p4_keys_and_bodies_are_told_apart(client: httpx.Client, scripted: ScriptedUpstream) -> None:
    """One server for all of it: what may be a key, what is the same body, whose a key is."""
    for key in ("", "two words", "x" * 256, "é".encode("latin-1"), "日本".encode(), b"tab\tbed"):
        refused = post(client, key, {"message": "hello", "stream": False})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid"), key
        assert refused.json()["errors"].keys() == {KEY}
    assert scripted.calls == 0
    assert client.get("/conversations").json()["conversations"] == []

    # What was refused is not remembered; the longest key counts to its last character.
    for key in ("k", "x" * 255, "x" * 254 + "y"):
        assert post(client, key, {"message": "", "stream": False}).status_code == 400
        assert post(client, key, {"message": "hello", "stream": False}).status_code == 200
    assert scripted.calls == 3

    body = {"message": "hello", "temperature": 0.5, "max_tokens": 7}
    first = post(client, "body", body)
    assert answer_of(post(client, "body", {**body, "stream": False})) == answer_of(first)
    for changed in ({"message": "hello "}, {"temperature": 0.6}, {"max_tokens": 8}, {"model_type": "default"}):
        for streamed in (True, False):
            response = client.post("/chat", json={**body, **changed, "stream": streamed}, headers={KEY: "body"})
            assert (response.status_code, response.json()["code"]) == (422, "idempotency_mismatch"), changed
    in_other = {**body, "session_id": first.done["session_id"]}
    assert client.post("/chat", json=in_other, headers={KEY: "body"}).status_code == 422
    assert scripted.calls == 4

    # Keys are an owner's: another's equal key is another key.
    asked_by_another = {**body, **({} if LOGIN else {"user_id": "somebody"})}
    other = stream(client, "POST", "/chat", json=asked_by_another, headers={KEY: "body", **OTHERS_HEADERS})
    assert other.done["generation_id"] != first.done["generation_id"]
    assert scripted.calls == 5

    # A second message in a conversation with the key of its first is that first one again.
    running = {"message": script(chunks=["a"], gate="g"), "session_id": first.done["session_id"]}
    started = Background(client, "POST", "/chat", json=running, headers={KEY: "running"})
    started.until(lambda seen: seen.headers.get("x-generation-id"))
    busy = client.post("/chat", json=running, headers={KEY: "another"})
    assert (busy.status_code, busy.json()["code"]) == (409, "reply_in_progress")
    beside = Background(client, "POST", "/chat", json=running, headers={KEY: "running"})
    beside.until(lambda seen: seen.headers.get("x-generation-id"))
    scripted.gate("g").open()
    assert answer_of(started.end()) == answer_of(beside.end())
    assert scripted.calls == 6
    for result in (first, started.stream):
        consistent(client, result)
    client.headers.update(OTHERS_HEADERS)
    consistent(client, other)

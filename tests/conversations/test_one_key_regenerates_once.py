"""`Idempotency-Key` of `regenerate`: sent again it is the same answer, over HTTP and over the socket."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from conversations.models import Generation, Message
from conversations.services import regenerating
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from .accounts import make_key, make_user, require_login
from .calling import calling
from .helpers import Socket, Stream, chat, history, stream, whole_chat

KEY = {"Idempotency-Key": "once"}


@pytest.fixture
def done(client: httpx.Client, model: ScriptedUpstream) -> dict[str, Any]:
    model.script = [answer("first"), answer("second", " one"), answer("third")]
    return chat(client, "question").done


def again(client: httpx.Client, done: dict[str, Any], headers: dict[str, str] = KEY, **body: Any) -> Stream:
    return stream(client, "POST", f"/messages/{done['message_id']}/regenerate", json=body, headers=headers)


def test_the_same_key_and_body_are_the_same_answer(
    client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]
) -> None:
    first, second = again(client, done, temperature=1), again(client, done, temperature=1)
    assert (first.text, second.text, model.calls) == ("second one", "second one", 2)
    assert first.done["generation_id"] == second.done["generation_id"] != done["generation_id"]
    path = f"/messages/{done['message_id']}/regenerate"
    whole = client.post(path, json={"temperature": 1, "stream": False}, headers=KEY).json()
    assert (whole["assistant_reply"], whole["user_message"]) == ("second one", "question")
    assert Message.objects.count() == 3
    assert again(client, done, headers={"Idempotency-Key": "another"}).text == "third"


def test_another_body_is_refused(client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]) -> None:
    again(client, done)
    question = history(client, done["session_id"])[0]["id"]
    for message_id, body in ((done["message_id"], {"temperature": 1}), (question, {})):
        refused = client.post(f"/messages/{message_id}/regenerate", json=body, headers=KEY)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    for body in ({"message": "question"}, {"message": "x", "session_id": done["session_id"]}):
        refused = client.post("/chat", json=body, headers=KEY)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_mismatch")
    assert (model.calls, Generation.objects.count()) == (2, 2)


def test_a_key_that_is_none_is_refused(client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]) -> None:
    refused = client.post(f"/messages/{done['message_id']}/regenerate", headers={"Idempotency-Key": "a b"})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["Idempotency-Key"])
    assert model.calls == 1


def test_while_it_is_made_it_is_attached_to(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("first"), answer("one ", "two", gate="g", gate_at=1)]
    done = chat(client, "question").done
    path = f"/messages/{done['message_id']}/regenerate"
    with client.stream("POST", path, json={}, headers=KEY) as response:
        last = next(line for line in response.iter_lines() if line.startswith("id: ")).removeprefix("id: ")
        assert client.post(path, json={}).json()["code"] == "reply_in_progress"
        model.gate("g").open()
        assert again(client, done).text == "one two"
    rest = again(client, done, {**KEY, "Last-Event-ID": last})
    assert (rest.text, model.calls) == ("two", 2)
    assert client.post(path, json={}, headers={**KEY, "Last-Event-ID": rest.ids[-1]}).status_code == 204


def test_who_has_an_event_begins_no_other_answer(
    client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]
) -> None:
    path = f"/messages/{done['message_id']}/regenerate"
    for headers in ({}, KEY):
        refused = client.post(path, json={}, headers={**headers, "Last-Event-ID": f"{done['generation_id']}:2"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_position")
    assert model.calls == 1


def test_many_at_once_are_one(client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _number: again(client, done), range(8)))
    assert {each.done["generation_id"] for each in told} == {told[0].done["generation_id"]}
    assert (model.calls, Generation.objects.count()) == (2, 2)


def test_where_another_was_quicker_its_answer_is_given(
    client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for before the first one was stored, and begun after."""
    first, look, looks = again(client, done), regenerating.find_regenerated, count()
    monkeypatch.setattr(regenerating, "find_regenerated", lambda **asked: look(**asked) if next(looks) else None)
    assert again(client, done).done["generation_id"] == first.done["generation_id"]
    assert (model.calls, Generation.objects.count()) == (2, 2)


def test_a_deleted_message_is_not_there(client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]) -> None:
    again(client, done)
    client.delete(f"/messages/{done['message_id']}").raise_for_status()
    refused = client.post(f"/messages/{done['message_id']}/regenerate", json={}, headers=KEY)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


def test_a_key_is_its_owners(client: httpx.Client, server: Any, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings)
    with calling(server, make_key(make_user("anna"))) as hers, calling(server, make_key(make_user("ben"))) as his:
        mine, theirs = whole_chat(hers, "one").json(), whole_chat(his, "two").json()
        assert again(hers, mine).done["generation_id"] != again(his, theirs).done["generation_id"]
        refused = his.post(f"/messages/{mine['message_id']}/regenerate", json={}, headers=KEY)
        assert refused.status_code == 404


# Over the socket -----------------------------------------------------------------------------------------------------
@pytest.fixture
def socket(server: Server) -> Iterator[Socket]:
    with connect(server.ws_url, proxy=None) as connection:
        yield Socket(connection)


def sent(socket: Socket, **frame: Any) -> tuple[str, str]:
    """Send a frame and return the generation that it is answered with, and its text."""
    socket.send(**frame)
    frames = socket.reply(frame["id"])
    return frames[-1]["generation_id"], "".join(frame.get("chunk", "") for frame in frames)


def test_over_the_socket_a_key_is_a_field(
    socket: Socket, client: httpx.Client, model: ScriptedUpstream, done: dict[str, Any]
) -> None:
    frame = {"type": "regenerate", "id": "r", "message_id": done["message_id"], "idempotency_key": "once"}
    first = sent(socket, **frame)
    assert first == sent(socket, **frame)
    assert (again(client, done).done["generation_id"], first[1]) == (first[0], "second one")
    socket.send(**frame, temperature=1)
    assert socket.get()["error"]["code"] == "idempotency_mismatch"
    socket.send(**{**frame, "idempotency_key": "a b"})
    assert list(socket.get()["error"]["errors"]) == ["idempotency_key"]
    assert model.calls == 2


def test_a_message_too(socket: Socket, client: httpx.Client, model: ScriptedUpstream) -> None:
    frame = {"type": "chat", "id": "c", "message": "hi", "idempotency_key": "once"}
    first = sent(socket, **frame)
    assert first == sent(socket, **frame)
    over_http = stream(client, "POST", "/chat", json={"message": "hi"}, headers=KEY)
    assert (over_http.done["generation_id"], over_http.text) == first
    socket.send(**{**frame, "message": "ho"})
    assert socket.get()["error"]["code"] == "idempotency_mismatch"
    assert (model.calls, Message.objects.count()) == (1, 2)

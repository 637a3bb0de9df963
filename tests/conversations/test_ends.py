"""One end, the same over every door; and what is said of a frame or a field by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from conversations.exceptions import NotAuthenticated
from conversations.models import Message
from conversations.web.credential_watch import CredentialWatch
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from .helpers import Socket, chat, stream, streaming, whole_chat

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credential holds for longer than the first look at it."""

    async def check(_self: CredentialWatch) -> None:
        await asyncio.sleep(0)
        raise NotAuthenticated()

    monkeypatch.setattr(CredentialWatch, "check", check)


@pytest.mark.usefixtures("ended")
def test_nothing_comes_after_the_end_of_a_stream(client: httpx.Client) -> None:
    generation_id = whole_chat(client, "hi").json()["generation_id"]
    after = len(chat_text(client, generation_id))
    rest = stream(client, "GET", f"/generations/{generation_id}/stream", params={"after": after})
    assert [next(iter(event)) for event in rest.events] == ["done"]


def chat_text(client: httpx.Client, generation_id: str) -> str:
    message_id = client.get(f"/generations/{generation_id}").json()["message_id"]
    return Message.objects.get(pk=message_id).content


@pytest.mark.usefixtures("ended")
def test_nor_after_that_of_a_reply_on_a_socket(client: httpx.Client, server: Server) -> None:
    generation_id = whole_chat(client, "hi").json()["generation_id"]
    after = len(chat_text(client, generation_id))
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="attach", id="x", generation_id=generation_id, after=after)
        assert [frame.get("type", "done") for frame in socket.reply("x")] == ["accepted", "done"]
        socket.send(type="ping", id="y")
        assert socket.get() == {"type": "pong", "id": "y"}


@pytest.mark.usefixtures("ended")
def test_the_error_of_an_ended_credential_has_the_readers_own_position(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    """With its id a client resumes after what it has, not from the start."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "PING_INTERVAL": 0.05}
    model.script = [answer("abc", "def", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (seen, taken):
        for _block in taken:
            pass
    generation_id = seen.headers["x-generation-id"]
    assert [next(iter(event)) for event in seen.events] == ["chunk", "error"]
    assert seen.ids[-1] == f"{generation_id}:3"
    again = stream(client, "GET", f"/generations/{generation_id}/stream", headers={"Last-Event-ID": seen.ids[-1]})
    assert again.ids == [f"{generation_id}:3"]
    model.gate("g").open()


@pytest.mark.parametrize("reason", ["x" * 150, "length", "é" * 65, "y" * 64])
def test_a_finish_reason_is_one_over_every_door(
    client: httpx.Client, server: Server, model: ScriptedUpstream, reason: str
) -> None:
    model.script = [answer("text", finish=reason)] * 2
    done = chat(client, "hi").done
    whole = whole_chat(client, "hi").json()
    state = client.get(f"/generations/{done['generation_id']}").json()
    history = client.get(f"/conversations/{done['session_id']}/history").json()["messages"][-1]
    replayed = stream(client, "GET", f"/generations/{done['generation_id']}/stream").done
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="attach", id="x", generation_id=done["generation_id"])
        attached = socket.reply("x")[-1]
    assert done["finish_reason"] == reason[:64]
    assert {item["finish_reason"] for item in (done, whole, state, history, replayed, attached)} == {reason[:64]}


@pytest.mark.parametrize("frame_id", ["mine", "", 7, 0, -5, "你好"])
def test_a_pong_has_the_pings_id(server: Server, frame_id: Any) -> None:
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="ping", id=frame_id)
        assert socket.get() == {"type": "pong", "id": frame_id}
        for frame in ({"type": "ping"}, {"type": "ping", "id": None}):
            socket.send(**frame)
            assert socket.get() == {"type": "pong"}


# By the field's name ------------------------------------------------------------------------------------------


def test_an_unknown_model_type_is_named_on_every_call(client: httpx.Client, server: Server) -> None:
    message_id = whole_chat(client, "hi").json()["message_id"]
    session_id = client.post("/conversations").json()["session_id"]
    calls = [
        ("POST", "/chat", {"message": "hi", "model_type": "nope"}),
        ("POST", "/chat", {"message": "hi", "model_type": "custom"}),
        ("POST", f"/messages/{message_id}/regenerate", {"model_type": "nope"}),
        ("POST", "/conversations", {"model_type": "nope"}),
        ("PATCH", f"/conversations/{session_id}", {"model_type": "nope"}),
        ("POST", "/api/config", {"model_type": "nope"}),
    ]
    problems = [client.request(method, path, json=body).json() for method, path, body in calls]
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        for frame in ({"type": "chat", "message": "hi"}, {"type": "regenerate", "message_id": message_id}):
            socket.send(**frame, id="x", model_type="nope")
            problems.append(socket.get()["error"])
    for problem in problems:
        assert (problem["status"], problem["code"]) == (400, "unknown_model_type")
        assert problem["errors"] == {"model_type": [problem["detail"]]}

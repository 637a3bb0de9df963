"""The WebSocket, over a real one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conversations.models import Conversation, Message
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer, status

from .helpers import Socket, chat, stream, streaming

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def socket(server: Server) -> Iterator[Socket]:
    with connect(server.ws_url, proxy=None) as connection:
        yield Socket(connection)


def test_a_reply_is_accepted_and_then_the_same_objects_as_over_sse(socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [answer("你好", reasoning=["hm"], gate="g", gate_at=1)]
    socket.send(type="chat", id="mine", message="hi")
    accepted = socket.get()
    assert accepted.keys() == {"type", "id", "session_id", "message_id", "generation_id", "position"}
    assert (accepted["type"], accepted["id"], accepted["position"]) == ("accepted", "mine", 0)
    names = {"id": "mine", "generation_id": accepted["generation_id"]}
    assert socket.get() == {"reasoning": "hm", "position": 2, **names}
    model.gate("g").open()
    assert socket.get() == {"chunk": "你好", "position": 4, **names}
    done = socket.get()
    assert (done["done"], done["status"], done["position"]) == (True, "completed", 4)


def test_sse_and_websocket_give_equal_event_lists(
    client: httpx.Client, socket: Socket, model: ScriptedUpstream
) -> None:
    """One answer, followed over both at the same time."""
    model.script = [answer(*"answer", reasoning=["a", "b"], delay=0.005, gate="g")]
    socket.send(type="chat", id="x", message="hi")
    generation_id = socket.get()["generation_id"]
    with streaming(client, "GET", f"/generations/{generation_id}/stream") as (over_sse, blocks):
        model.gate("g").open()  # both read from the first text on
        list(blocks)
    over_socket = []
    while not over_socket or "done" not in over_socket[-1]:
        over_socket.append(socket.get())
    positions = [f"{generation_id}:{frame['position']}" for frame in over_socket]
    for frame in over_socket:
        del frame["id"], frame["position"]
        if "done" not in frame:
            del frame["generation_id"]
    assert over_socket == over_sse.events
    assert positions[:-1] == over_sse.ids[:-1]


def test_a_failed_reply_has_its_error_before_the_end(socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [answer("part", "never", cut=1)]
    socket.send(type="chat", id="x", message="hi")
    *_, error, done = socket.reply("x")
    assert error["error"]["code"] == "upstream_protocol"
    assert (error["position"], done["status"]) == (4, "failed")


def test_attach_gives_the_rest(client: httpx.Client, socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [answer("abcdef")]
    done = chat(client, "hi").done
    socket.send(type="attach", id="x", generation_id=done["generation_id"], after=4)
    accepted, rest, end = socket.reply("x")
    assert accepted["position"] == 4
    assert (rest["chunk"], end["status"]) == ("ef", "completed")


def test_stop_is_seen_while_the_upstream_is_silent(socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [answer("kept", "never", gate="g", gate_at=1)]
    socket.send(type="chat", id="x", message="hi")
    generation_id = socket.get()["generation_id"]
    assert socket.get()["chunk"] == "kept"
    socket.send(type="stop", generation_id=generation_id)
    assert socket.get()["status"] == "stopped"
    socket.send(type="stop", generation_id=generation_id)  # late, and idempotent
    socket.send(type="ping")
    assert socket.get() == {"type": "pong"}


def test_several_replies_run_on_one_socket(socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [answer("first", gate="g"), answer("second")]
    socket.send(type="chat", id="a", message="one")
    assert socket.get()["id"] == "a"
    model.wait_until(lambda: model.calls == 1)
    socket.send(type="chat", id="b", message="two")
    assert [frame.get("chunk") for frame in socket.reply("b")] == [None, "second", None]
    model.gate("g").open()
    assert [frame.get("chunk") for frame in socket.reply("a")] == ["first", None]


def test_regenerate(socket: Socket, client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("first"), answer("second")]
    done = chat(client, "hi").done
    socket.send(type="regenerate", id="r", message_id=done["message_id"])
    assert "".join(frame.get("chunk", "") for frame in socket.reply("r")) == "second"


def test_a_socket_that_closes_does_not_end_the_answer(
    server: Server, client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("one ", "two", gate="g", gate_at=1)]
    with connect(server.ws_url, proxy=None) as connection:
        first = Socket(connection)
        first.send(type="chat", id="x", message="hi")
        generation_id = first.get()["generation_id"]
        first.get()
    model.gate("g").open()
    assert stream(client, "GET", f"/generations/{generation_id}/stream").text == "one two"


REFUSED: dict[str, tuple[Any, str]] = {
    "not an object": ([1, 2], "invalid"),
    "no type": ({"id": "x", "message": "hi"}, "invalid"),
    "unknown type": ({"type": "shout", "id": "x"}, "invalid"),
    "type of a wrong type": ({"type": ["chat"], "id": "x"}, "invalid"),
    "id of a wrong type": ({"type": "chat", "id": {}, "message": "hi"}, "invalid"),
    "blank message": ({"type": "chat", "id": "x", "message": " \n"}, "invalid"),
    "no message": ({"type": "chat", "id": "x"}, "invalid"),
    "unknown field": ({"type": "chat", "id": "x", "message": "hi", "nope": 1}, "invalid"),
    "temperature": ({"type": "chat", "id": "x", "message": "hi", "temperature": 3}, "invalid"),
    "NUL": ({"type": "chat", "id": "x", "message": "a\0b"}, "invalid"),
    "surrogate": ({"type": "chat", "id": "x", "message": "a\ud800"}, "invalid"),
    "unknown model": ({"type": "chat", "id": "x", "message": "hi", "model_type": "nope"}, "unknown_model_type"),
    "unknown session": ({"type": "chat", "id": "x", "message": "hi", "session_id": str(uuid.uuid4())}, "not_found"),
    "malformed session": ({"type": "chat", "id": "x", "message": "hi", "session_id": "nope"}, "not_found"),
    "attach to nothing": ({"type": "attach", "id": "x", "generation_id": str(uuid.uuid4())}, "not_found"),
    "attach after text": ({"type": "attach", "id": "x", "generation_id": "x", "after": "1"}, "not_found"),
    "stop nothing": ({"type": "stop", "generation_id": str(uuid.uuid4())}, "not_found"),
    "regenerate nothing": ({"type": "regenerate", "id": "x", "message_id": 0}, "not_found"),
    "half a character": (
        {"type": "chat", "id": "x", "message": "hi", "tools": [{"type": "\ud800", "function": {"name": "x"}}]},
        "invalid",
    ),
    "regenerate text": ({"type": "regenerate", "id": "x", "message_id": "1"}, "invalid"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_frame_gets_its_problem_and_closes_nothing(socket: Socket, case: str) -> None:
    frame, code = REFUSED[case]
    socket.connection.send(json.dumps(frame))
    refused = socket.get()
    assert (refused["type"], refused["error"]["code"]) == ("refused", code)
    if isinstance(frame, dict) and frame.get("id") == "x":
        assert refused["id"] == "x"
    assert {"type", "title", "status", "detail", "code", "request_id"} <= refused["error"].keys()
    assert not Message.objects.exists()
    socket.send(type="ping")
    assert socket.get() == {"type": "pong"}


@pytest.mark.parametrize("kind", ["chat", "regenerate"])
def test_a_model_whose_key_cannot_be_decrypted_is_refused(
    socket: Socket, client: httpx.Client, model: ScriptedUpstream, kind: str
) -> None:
    """As the conversation's saved model, asked for by nobody; over SSE as here."""
    done = chat(client, "hi").done
    Conversation.objects.update(model_type="glm4")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE llmproviders_preset SET api_key = 'no token', is_enabled = true WHERE type = 'glm4'")
    named = {"message_id": done["message_id"]} if kind == "regenerate" else {"session_id": done["session_id"]}
    text = {"message": "again"} if kind == "chat" else {}
    socket.send(type=kind, id="x", **named, **text)
    refused = socket.get()
    assert (refused["type"], refused["error"]["code"]) == ("refused", "unknown_model_type")
    path = "/chat" if kind == "chat" else f"/messages/{done['message_id']}/regenerate"
    body = {**named, **text} if kind == "chat" else {}
    over_sse = client.post(path, json=body, headers={"Accept": "text/event-stream"})
    assert (over_sse.status_code, over_sse.json()["code"]) == (400, "unknown_model_type")
    assert model.calls == 1


def close_code(socket: Socket) -> int | None:
    with pytest.raises(ConnectionClosed) as caught:
        socket.get()
    return caught.value.rcvd.code if caught.value.rcvd else None


@pytest.mark.parametrize("data", ["{", "", "nonsense", b"\x00bytes", "[" * 5000])
def test_what_is_no_json_text_closes_the_socket(socket: Socket, data: Any) -> None:
    socket.connection.send(data)
    assert close_code(socket) == 4400


def test_a_page_from_elsewhere_is_closed_out(server: Server) -> None:
    with connect(server.ws_url, origin="http://evil.example", proxy=None) as connection:  # type: ignore[arg-type]
        assert close_code(Socket(connection)) == 4403


def test_a_page_of_this_server_gets_in(server: Server) -> None:
    with connect(server.ws_url, origin=server.url, proxy=None) as connection:  # type: ignore[arg-type]
        socket = Socket(connection)
        socket.send(type="ping")
        assert socket.get() == {"type": "pong"}


def test_a_page_under_a_name_that_only_resolves_here_is_closed_out(server: Server) -> None:
    """DNS rebinding: the page's own name points to loopback, and its origin fits its host."""
    headers = {"Host": "rebound.example"}
    with connect(
        server.ws_url,
        additional_headers=headers,
        origin="http://rebound.example",  # type: ignore[arg-type]
        proxy=None,
    ) as connection:
        assert close_code(Socket(connection)) == 4403


def test_a_socket_that_is_opened_while_the_database_is_away_is_told_to_come_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr("conversations.socket.connection.caller_of", fail)
        with connect(server.ws_url, proxy=None) as connection:
            socket = Socket(connection)
            assert close_code(socket) == 1013
            assert connection.protocol.close_rcvd
            assert connection.protocol.close_rcvd.reason == "database_busy"
    with connect(server.ws_url, proxy=None) as connection:
        Socket(connection).send(type="ping")
        assert Socket(connection).get() == {"type": "pong"}


def test_a_forwarded_socket_does_not_get_into_an_open_server(server: Server) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9"}
    with connect(server.ws_url, additional_headers=headers, proxy=None) as connection:
        assert close_code(Socket(connection)) == 4403


def test_errors_speak_the_clients_language(server: Server) -> None:
    headers = {"Accept-Language": "zh-CN,zh;q=0.9"}
    with connect(server.ws_url, additional_headers=headers, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="chat", id="x", message="hi", session_id=str(uuid.uuid4()))
        assert any("\u4e00" <= character <= "\u9fff" for character in socket.get()["error"]["detail"])


def test_a_socket_is_told_that_the_model_loads(socket: Socket, model: ScriptedUpstream) -> None:
    model.script = [status(503, {"error": {"code": 503, "message": "Loading model"}})] * 4 + [answer("here")]
    socket.send(type="chat", id="mine", message="hi")
    names = {"id": "mine", "generation_id": socket.get()["generation_id"]}
    frames = [socket.get()]
    while "done" not in frames[-1]:
        frames.append(socket.get())
    assert {"type": "loading", **names} in frames
    assert {"chunk": "here", "position": 4, **names} in frames

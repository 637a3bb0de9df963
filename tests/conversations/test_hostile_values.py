"""Numbers and texts that JSON or a URL can carry and a database or a socket cannot: refused at every door."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from websockets.sync.client import connect

from conversations.models import Conversation, Generation, Message, UserConfig
from tests.conftest import Server
from tests.upstream import ScriptedUpstream

from .helpers import JSON, Socket, chat

pytestmark = pytest.mark.usefixtures("model")

SOMEBODY = str(uuid.uuid4())
# As they stand in JSON.
HUGE = "9" * 400
NUMBERS = [HUGE, f"-{HUGE}", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "true", '"1"', "[]", "{}", "1" * 5000]
WHOLE = [*NUMBERS, "1.5", "1e300", "-1.0", "-1", "null", f"{2**63}", f"{2**64}"]
NOT_STORED = ["\ud800", "a\udfffb", "a\0b", "\x1b[31m", "\x07", "\x7f", "\x85"]
FIELDS = {
    "temperature": ("POST", "/chat", '{"message": "hi", "temperature": %s}', NUMBERS),
    "max_tokens": ("POST", "/chat", '{"message": "hi", "max_tokens": %s}', [n for n in WHOLE if n != "null"]),
    "temperature of another": ("POST", "/messages/1/regenerate", '{"temperature": %s}', NUMBERS),
    "max_tokens of another": ("POST", "/messages/1/regenerate", '{"max_tokens": %s}', [HUGE, "1e400", "1.5", "true"]),
    "max_tokens of a config": ("POST", "/api/config", '{"model_type": "default", "max_tokens": %s}', [HUGE, "1e400"]),
    "expires_in_days": ("POST", "/api/keys", '{"name": "k", "expires_in_days": %s}', [HUGE, "1e400", "1.5", '"1"']),
    "parent_id": ("POST", "/chat", '{"message": "hi", "parent_id": %s}', [HUGE, "1e400", "1.5", "true", "[]"]),
    "rating": ("PUT", "/messages/1/feedback", '{"rating": %s}', [n for n in WHOLE if n not in ("-1", "-1.0")]),
}


def nothing_happened(model: ScriptedUpstream) -> bool:
    tables = (Conversation, Message, Generation, UserConfig)
    return not model.calls and not any(table.objects.exists() for table in tables)


@pytest.mark.parametrize("case", FIELDS)
def test_a_number_that_is_none_is_refused(client: httpx.Client, model: ScriptedUpstream, case: str) -> None:
    method, path, body, values = FIELDS[case]
    for value in values:
        response = client.request(method, path, content=(body % value).encode(), headers=JSON)
        assert response.status_code == 400, (value[:20], response.text)
        problem = response.json()
        assert problem["code"] == "malformed_json" or problem["errors"].keys() == {case.split()[0]}, problem
    assert nothing_happened(model)


ASKED = '"messages": [{"role": "user", "content": "hi"}]'
SHOWN = '"messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]'
RUN = '"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "hi"}]'
# The doors of other people's clients: what each may bring, and its numbers.
DOORS = {
    "completions": (
        "/v1/chat/completions",
        f'{{"model": "default", {ASKED}, "%s": %s}}',
        ("temperature", "top_p", "max_tokens", "max_completion_tokens"),
    ),
    "stored completions": (
        "/v1/chat/completions",
        f'{{"model": "default", "store": true, {ASKED}, "%s": %s}}',
        ("temperature", "top_p", "max_tokens", "max_completion_tokens"),
    ),
    "responses": (
        "/v1/responses",
        '{"model": "default", "input": "hi", "%s": %s}',
        ("temperature", "top_p", "max_output_tokens"),
    ),
    "AI SDK": ("/api/chat", f'{{"id": "c", {SHOWN}, "%s": %s}}', ("temperature", "max_tokens")),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_number_that_is_none_is_refused_at_every_door(
    client: httpx.Client, model: ScriptedUpstream, door: str
) -> None:
    path, body, fields = DOORS[door]
    for field in fields:
        for value in (HUGE, f"-{HUGE}", "1e400", "NaN", "true", "[]", "1" * 5000):
            response = client.post(path, content=(body % (field, value)).encode(), headers=JSON)
            assert response.status_code == 400, (field, value[:20], response.text)
    assert nothing_happened(model)


@pytest.mark.parametrize("value", [HUGE, "1e400", "NaN", "[]", "1" * 5000])
@pytest.mark.parametrize("field", ["state", "forwardedProps", "context", "tools", "parentRunId"])
def test_a_run_of_ag_ui_with_such_a_value_is_no_fault_of_ours(
    client: httpx.Client, model: ScriptedUpstream, field: str, value: str
) -> None:
    response = client.post("/api/agui", content=f'{{{RUN}, "{field}": {value}}}'.encode(), headers=JSON)
    assert response.status_code == 400 or "RUN_FINISHED" in response.text, response.text


def test_a_leaf_that_is_none_is_refused(client: httpx.Client) -> None:
    path = f"/conversations/{client.post('/conversations', json={}).json()['session_id']}"
    for value in (HUGE, "1e400", "1.5", "true", "[]", '"1"', str(2**64)):
        response = client.patch(path, content=f'{{"active_leaf": {value}}}'.encode(), headers=JSON)
        assert response.status_code == 400, (value[:20], response.text)


@pytest.mark.parametrize("value", ["-0", "-0.0", "-0e0"])
def test_negative_zero_is_zero(client: httpx.Client, model: ScriptedUpstream, value: str) -> None:
    body = f'{{"message": "hi", "stream": false, "temperature": {value}}}'.encode()
    assert client.post("/chat", content=body, headers=JSON).status_code == 200
    assert repr(model.requests[0].body["temperature"]) in ("0", "0.0")
    refused = client.post("/chat", content=f'{{"message": "hi", "max_tokens": {value}}}'.encode(), headers=JSON)
    assert refused.status_code == 400


PATHS = [
    ("GET", "/conversations/{}"),
    ("GET", "/conversations/{}/history"),
    ("DELETE", "/conversations/{}"),
    ("GET", "/generations/{}"),
    ("GET", "/generations/{}/stream"),
    ("POST", "/generations/{}/stop"),
    ("POST", "/messages/{}/regenerate"),
    ("GET", "/conversations/{}/messages"),
    ("DELETE", "/messages/{}"),
    ("DELETE", "/messages/{}/feedback"),
    ("GET", "/attachments/{}"),
]
IDS = [
    HUGE,
    "9" * 5000,
    "-1",
    "-0",
    "1.5",
    "1e9",
    "NaN",
    str(2**63),
    str(2**64),
    "%00",
    "%ED%A0%80",
    "%FF",
    "%1B",
    "\uff11",
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_an_id_that_is_none_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    for value in IDS:
        response = client.request(method, path.format(quote(value, safe="%")))
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), value[:20]


QUERIES = {
    "limit": [
        HUGE,
        "9" * 5000,
        "-0",
        "-1",
        "+5",
        "1.0",
        "1e2",
        "NaN",
        "Infinity",
        "true",
        "0x10",
        "1_0",
        "\uff11\uff10",
        "%20",
    ],
    "archived": [HUGE, "1e400", "NaN", "-0", "2", "%00"],
    "cursor": [HUGE[:190], "%00", "%1B", "%ED%A0%80", "LTE6LTE", "1e400"],
    "search": ["%00", "%1B", "%07", "%7F", "a%C2%85b"],
    "user_id": ["%00", "%1B", "a%0Ab", "%C2%85"],
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_that_is_none_is_refused(client: httpx.Client, name: str) -> None:
    for value in QUERIES[name]:
        response = client.get(f"/conversations?{name}={quote(value, safe='%')}")
        assert response.status_code == 400, (value[:20], response.text)
        assert response.json()["code"] in ("invalid", "invalid_cursor")


@pytest.mark.parametrize(
    "call", ["/search?q=hi&limit", "/conversations/{}/messages?leaf", "/conversations/{}/messages?limit"]
)
def test_a_number_in_a_query_that_is_none_is_refused(client: httpx.Client, call: str) -> None:
    session_id = client.post("/conversations", json={}).json()["session_id"]
    for value in QUERIES["limit"]:
        response = client.get(f"{call.format(session_id)}={quote(value, safe='%')}")
        assert response.status_code == 400, (value[:20], response.text)


TEXTS = {
    "message": ("/chat", {"message": "hi"}, NOT_STORED[:3]),
    "user_id": ("/chat", {"message": "hi"}, [*NOT_STORED, "a\nb"]),
    "session_id": ("/chat", {"message": "hi"}, [*NOT_STORED, f"{SOMEBODY}\0"]),
    "model_type": ("/chat", {"message": "hi"}, [*NOT_STORED, "default\n"]),
    "title": ("/conversations", {}, NOT_STORED),
    "system_prompt": ("/conversations", {}, NOT_STORED[:3]),
    "model_type of a conversation": ("/conversations", {}, NOT_STORED),
    "user_id of a conversation": ("/conversations", {}, NOT_STORED),
    "user_id of a config": ("/api/config", {"model_type": "default"}, NOT_STORED),
    "model_type of a config": ("/api/config", {}, NOT_STORED),
    "custom_api_url": ("/api/config", {"model_type": "custom", "custom_model": "m"}, NOT_STORED),
    "custom_model": ("/api/config", {"model_type": "custom"}, NOT_STORED),
    "custom_api_key": ("/api/config", {"model_type": "custom"}, NOT_STORED),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_that_is_none_is_refused(client: httpx.Client, model: ScriptedUpstream, case: str) -> None:
    path, body, values = TEXTS[case]
    field = case.split()[0]
    for value in values:
        response = client.post(path, content=json.dumps({**body, field: value}).encode(), headers=JSON)
        assert (response.status_code, response.json()["code"]) == (400, "invalid"), (value, response.text)
        assert field in response.json()["errors"]
    assert nothing_happened(model)


def test_a_title_may_have_white_space_in_it(client: httpx.Client) -> None:
    made = client.post("/conversations", json={"title": "two\nlines\tof it"}).json()
    assert client.get(f"/conversations/{made['session_id']}").json()["title"] == "two\nlines\tof it"
    assert len(client.get("/conversations?search=two%0Alines").json()["conversations"]) == 1


@pytest.mark.parametrize("value", [b"\xed\xa0\x80", b"a\x01b", b"\x85", b"a b", b"\xff", b"", b"x" * 256])
def test_a_key_that_is_none_is_refused(client: httpx.Client, model: ScriptedUpstream, value: bytes) -> None:
    response = client.post("/chat", json={"message": "hi"}, headers={b"Idempotency-Key": value})
    assert response.status_code == 400
    assert nothing_happened(model)


@pytest.mark.parametrize("name", ["Last-Event-ID", "Accept", "Accept-Language", "X-Request-Id", "User-Agent"])
def test_a_header_of_any_bytes_is_no_fault_of_ours(client: httpx.Client, name: str) -> None:
    for value in (
        b"\xed\xa0\x80",
        b"a\x01b",
        b"\x85",
        b"\xff",
        b"; q=1e400",
        HUGE.encode(),
        b"text/html;q=" + b"9" * 400,
    ):
        response = client.post("/chat", json={"message": "hi"}, headers={name.encode(): value})
        assert response.status_code < 500, (value, response.text)


# Over the socket --------------------------------------------------------------------------------------------


@pytest.fixture
def socket(server: Server) -> Iterator[Socket]:
    with connect(server.ws_url, proxy=None) as connection:
        yield Socket(connection)


FRAME_IDS = [json.dumps(value) for value in (*NOT_STORED, "a\nb", "x" * 201, True, False, 1.5, [], {})]


@pytest.mark.parametrize("value", [*FRAME_IDS, "1e400", HUGE])
@pytest.mark.parametrize("kind", ["chat", "ping", "authenticate"])
def test_a_frame_id_that_cannot_be_echoed_is_refused(
    socket: Socket, model: ScriptedUpstream, caplog: pytest.LogCaptureFixture, kind: str, value: str
) -> None:
    socket.connection.send(f'{{"type": "{kind}", "id": {value}, "message": "hi"}}')
    refused = socket.get()
    assert (refused["type"], refused["id"], refused["error"]["code"]) == ("refused", None, "invalid")
    assert refused["error"]["errors"].keys() == {"id"}
    socket.send(type="ping")
    assert socket.get() == {"type": "pong"}
    assert nothing_happened(model)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


FRAMES = {
    "temperature": ('{"type": "chat", "id": "x", "message": "hi", "temperature": %s}', NUMBERS[:4] + NUMBERS[7:11]),
    "max_tokens": ('{"type": "chat", "id": "x", "message": "hi", "max_tokens": %s}', WHOLE[:4] + WHOLE[7:11]),
    "message_id": (
        '{"type": "regenerate", "id": "x", "message_id": %s}',
        [HUGE, "1e400", "1.5", "true", '"1"', "null"],
    ),
    "message": ('{"type": "chat", "id": "x", "message": %s}', [json.dumps(value) for value in NOT_STORED[:3]]),
    "session_id": (
        '{"type": "chat", "id": "x", "message": "hi", "session_id": %s}',
        [json.dumps(value) for value in NOT_STORED],
    ),
    "user_id": ('{"type": "chat", "id": "x", "message": "hi", "user_id": %s}', [json.dumps(v) for v in NOT_STORED]),
    "generation_id": ('{"type": "attach", "id": "x", "generation_id": %s}', [json.dumps(v) for v in NOT_STORED]),
    "key": ('{"type": "authenticate", "id": "x", "key": %s}', [json.dumps(v) for v in NOT_STORED[:3]]),
}


@pytest.mark.parametrize("field", FRAMES)
def test_a_frame_with_a_value_that_is_none_is_refused(socket: Socket, model: ScriptedUpstream, field: str) -> None:
    frame, values = FRAMES[field]
    for value in values:
        socket.connection.send(frame % value)
        refused = socket.get()
        assert (refused["type"], refused["id"], refused["error"]["code"]) == ("refused", "x", "invalid"), value[:20]
        assert refused["error"]["errors"].keys() == {field}
    assert nothing_happened(model)


@pytest.mark.parametrize("after", [*WHOLE[:4], *WHOLE[7:11], "1.5", "-1", "null", "1000", str(10**12), str(2**64)])
def test_a_position_over_the_socket_is_refused_as_over_sse(client: httpx.Client, socket: Socket, after: str) -> None:
    generation_id = chat(client, "hi").done["generation_id"]
    socket.connection.send(f'{{"type": "attach", "id": "x", "generation_id": "{generation_id}", "after": {after}}}')
    refused = socket.get()
    assert (refused["type"], refused["error"]["code"]) == ("refused", "invalid_position")

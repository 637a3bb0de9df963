"""An answer taken up where its reader stopped: by header or query, attached to or asked for again."""

from __future__ import annotations

import uuid

import httpx
import pytest

from conversations.models import Generation, Message
from tests.upstream import ScriptedUpstream, answer

from .helpers import Stream, chat, stream

pytestmark = pytest.mark.usefixtures("model")

TEXT = "abcdef"
KEY = {"Idempotency-Key": "once"}
ASKED = {"message": "hi"}


@pytest.fixture
def done(client: httpx.Client, model: ScriptedUpstream) -> Stream:
    """An answer that was read to its end, asked for with a key."""
    model.script = [answer(TEXT)]
    return stream(client, "POST", "/chat", json=ASKED, headers=KEY)


def generation_of(done: Stream) -> str:
    return str(done.done["generation_id"])


def path_of(done: Stream) -> str:
    return f"/generations/{generation_of(done)}/stream"


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


# Attached to ------------------------------------------------------------------------------------------------


def test_the_query_is_the_headers_equal(client: httpx.Client, done: Stream) -> None:
    rest = stream(client, "GET", path_of(done), params={"lastEventId": f"{generation_of(done)}:4"})
    assert (rest.text, rest.ids) == ("ef", done.ids[-2:])


def test_the_end_in_the_query_is_204(client: httpx.Client, done: Stream) -> None:
    assert client.get(path_of(done), params={"lastEventId": done.ids[-1]}).status_code == 204


@pytest.mark.parametrize(
    ("params", "header", "text"),
    [
        ({"lastEventId": "{id}:4"}, "{id}:2", "cdef"),
        ({"lastEventId": "{id}:4", "after": "1"}, None, "ef"),
        ({"lastEventId": "", "after": "5"}, "", "f"),
        ({"lastEventId": "", "after": ""}, None, TEXT),
        ({"lastEventId": " {id}:3 "}, None, "def"),
    ],
)
def test_the_header_counts_then_the_query_then_after(
    client: httpx.Client, done: Stream, params: dict[str, str], header: str | None, text: str
) -> None:
    named = {name: value.format(id=generation_of(done)) for name, value in params.items()}
    headers = {} if header is None else {"Last-Event-ID": header.format(id=generation_of(done))}
    assert stream(client, "GET", path_of(done), params=named, headers=headers).text == text


@pytest.mark.parametrize("last", ["nonsense", "{other}:1", "{own}:", "{own}:1000", "{own}:1:2", "{own}:END", ":end"])
def test_a_bad_query_is_refused_as_a_bad_header(client: httpx.Client, done: Stream, last: str) -> None:
    value = last.format(own=generation_of(done), other=uuid.uuid4())
    response = client.get(path_of(done), params={"lastEventId": value})
    assert refusal(response) == (400, "invalid_position")


@pytest.mark.parametrize("name", ["last_event_id", "lasteventid", "Last-Event-ID", "evs_last_event_id", "from"])
def test_an_unknown_query_is_not_taken_in_silence(client: httpx.Client, done: Stream, name: str) -> None:
    response = client.get(path_of(done), params={name: f"{generation_of(done)}:4"})
    assert refusal(response) == (400, "invalid")
    assert response.json()["errors"].keys() == {name}


def test_nor_is_one_of_the_other_calls(client: httpx.Client, done: Stream) -> None:
    calls = Message.objects.count()
    for method, path in (
        ("POST", "/chat?stream=false"),
        ("POST", f"/messages/{done.done['message_id']}/regenerate?stream=false"),
        ("GET", "/conversations?archive=true"),
        ("GET", "/api/config?userid=kim"),
    ):
        response = client.request(method, path, json={"message": "hi"} if path.startswith("/chat") else None)
        assert refusal(response) == (400, "invalid"), path
    assert Message.objects.count() == calls


# Asked for again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["header", "query"])
def test_a_repeated_chat_gives_the_rest(client: httpx.Client, done: Stream, model: ScriptedUpstream, way: str) -> None:
    last = f"{generation_of(done)}:2"
    headers = {**KEY, "Last-Event-ID": last} if way == "header" else KEY
    params = {"lastEventId": last} if way == "query" else {}
    rest = stream(client, "POST", "/chat", json=ASKED, headers=headers, params=params)
    assert (rest.text, rest.headers["x-generation-id"]) == ("cdef", generation_of(done))
    ended = client.post("/chat", json=ASKED, headers={**KEY, "Last-Event-ID": done.ids[-1]})
    assert ended.status_code == 204
    assert model.calls == 1


def test_a_running_one_too(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one ", "two", gate="g", gate_at=1)]
    with client.stream("POST", "/chat", json=ASKED, headers=KEY) as response:
        last = next(line for line in response.iter_lines() if line.startswith("id: ")).removeprefix("id: ")
    model.gate("g").open()
    rest = stream(client, "POST", "/chat", json=ASKED, headers={**KEY, "Last-Event-ID": last})
    assert (rest.text, rest.done["status"], model.calls) == ("two", "completed", 1)


def test_whole_it_is_whole(client: httpx.Client, done: Stream) -> None:
    headers = {**KEY, "Last-Event-ID": f"{generation_of(done)}:2"}
    again = client.post("/chat", json={**ASKED, "stream": False}, headers=headers)
    assert again.json()["assistant_reply"] == TEXT


@pytest.mark.parametrize(
    "headers",
    [
        {**KEY, "Last-Event-ID": f"{uuid.UUID(int=1)}:2"},
        {**KEY, "Last-Event-ID": "nonsense"},
        {**KEY, "Last-Event-ID": "{id}:1000"},
        {"Idempotency-Key": "another", "Last-Event-ID": "{id}:2"},
        {"Last-Event-ID": "{id}:2"},
    ],
    ids=["of another answer", "nonsense", "beyond", "another key", "no key"],
)
def test_who_has_an_event_begins_no_other_answer(
    client: httpx.Client, done: Stream, model: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """A client that reconnects by itself would else ask again and again."""
    named = {name: value.format(id=generation_of(done)) for name, value in headers.items()}
    for stream_or_not in ({}, {"stream": True}):
        refused = client.post("/chat", json={**ASKED, **stream_or_not}, headers=named)
        assert refusal(refused) == (400, "invalid_position")
    again = client.post(f"/messages/{done.done['message_id']}/regenerate", json={}, headers=named)
    is_of_the_chat = headers.get("Idempotency-Key") == KEY["Idempotency-Key"]
    assert refusal(again) == ((422, "idempotency_mismatch") if is_of_the_chat else (400, "invalid_position"))
    assert (Generation.objects.count(), model.calls) == (1, 1)


def test_who_has_an_event_and_no_key_is_told_to_send_one(client: httpx.Client, done: Stream) -> None:
    refused = client.post("/chat", json=ASKED, headers={"Last-Event-ID": f"{generation_of(done)}:2"})
    assert refusal(refused) == (400, "invalid_position")
    assert "Idempotency-Key" in refused.json()["detail"]


# What makes two requests the same ----------------------------------------------------------------------------


def test_null_counts_and_a_field_that_was_not_sent_does_not(client: httpx.Client, done: Stream) -> None:
    for body, status in (
        (ASKED, 200),
        ({**ASKED, "stream": False}, 200),
        ({**ASKED, "temperature": None}, 422),
        ({**ASKED, "session_id": None}, 422),
        ({**ASKED, "model_type": ""}, 422),
        ({**ASKED, "max_tokens": 5}, 422),
        ({"message": "hi "}, 422),
    ):
        assert client.post("/chat", json=body, headers=KEY).status_code == status, body


def test_the_ids_of_a_first_event_are_of_use_at_once(client: httpx.Client) -> None:
    result = chat(client, "hi")
    assert result.ids[0].startswith(result.headers["x-generation-id"])

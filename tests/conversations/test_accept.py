"""Whether an answer comes as events or as one JSON object, where the body does not say."""

from __future__ import annotations

import httpx
import pytest

from tests.upstream import ScriptedUpstream

pytestmark = pytest.mark.usefixtures("model")

JSON, SSE = "application/json", "text/event-stream"
ACCEPT = {
    None: SSE,
    "": SSE,
    "*/*": SSE,
    JSON: JSON,
    "Application/JSON": JSON,
    "application/json; charset=utf-8": JSON,
    "application/json;q=0.1": JSON,
    "application/json, text/plain": JSON,
    "application/problem+json, application/json": JSON,
    "application/vnd.api+json": JSON,
    "application/*": JSON,
    "application/json, text/event-stream;q=0": JSON,
    "application/json, */*;q=0": JSON,
    "application/json, text/*;q=0.0": JSON,
    "application/json, ;;;, nonsense; q*=nope''1": JSON,
    "application/json;q=nonsense": JSON,
    "application/json, text/plain, */*": SSE,
    "application/json, text/event-stream": SSE,
    "application/json, TEXT/Event-Stream;q=0.5": SSE,
    "application/json;q=1, text/*;q=0.1": SSE,
    "application/json;q=0": SSE,
    "application/json;q=0, application/*;q=0": SSE,
    "text/event-stream": SSE,
    "text/html, image/gif, *; q=.2, */*; q=.2": SSE,
    "text/html": SSE,
    "application/x-ndjson": SSE,
    "json": SSE,
    "nonsense; q*=nope''1": SSE,
    ",;=/": SSE,
}


def kind(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["content-type"].partition(";")[0]


def post(client: httpx.Client, path: str, accept: list[str], **body: object) -> httpx.Response:
    del client.headers["Accept"]
    return client.post(path, json=body, headers=[("Accept", value) for value in accept])


@pytest.mark.parametrize("accept", ACCEPT)
def test_accept_decides_where_the_body_does_not(client: httpx.Client, accept: str | None) -> None:
    named = [] if accept is None else [accept]
    first = post(client, "/chat", named, message="hi")
    assert kind(first) == ACCEPT[accept]
    client.headers["Accept"] = "*/*"
    again = post(client, f"/messages/{first.headers['x-message-id']}/regenerate", named)
    assert kind(again) == ACCEPT[accept]


def test_several_headers_are_one(client: httpx.Client) -> None:
    assert kind(post(client, "/chat", ["text/plain", JSON], message="hi")) == JSON
    client.headers["Accept"] = "*/*"
    assert kind(post(client, "/chat", [JSON, SSE], message="hi")) == SSE


def test_the_body_counts_more(client: httpx.Client) -> None:
    for stream, expected in ((True, SSE), (False, JSON)):
        for accept in (JSON, SSE, "*/*"):
            response = client.post("/chat", json={"message": "hi", "stream": stream}, headers={"Accept": accept})
            assert kind(response) == expected


def test_a_repeated_request_is_answered_as_it_asks_now(client: httpx.Client, model: ScriptedUpstream) -> None:
    for accept in (SSE, JSON, "*/*"):
        headers = {"Accept": accept, "Idempotency-Key": "once"}
        response = client.post("/chat", json={"message": "hi"}, headers=headers)
        assert kind(response) == (JSON if accept == JSON else SSE)
    assert model.calls == 1

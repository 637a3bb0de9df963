"""Bodies whose length nobody said: `Transfer-Encoding: chunked`, as CDNs and programs that stream send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import databases
from tests.upstream import ScriptedUpstream

from .server import ServerProcess, environment

pytestmark = pytest.mark.server


@pytest.fixture(params=["uvicorn", "daphne"])
def client(
    request: pytest.FixtureRequest, migrated: Path, tmp_path: Path, upstream_thread: ScriptedUpstream
) -> Iterator[httpx.Client]:
    databases.copy(migrated, tmp_path)
    env = environment(tmp_path, LLM_API_URL=upstream_thread.url, LLM_MODEL="scripted")
    with ServerProcess(request.param, env, tmp_path / "server.log") as server, server.client() as http:
        yield http


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Without a length httpx sends chunks."""
    for start in range(0, len(body), 7):
        yield body[start : start + 7]


def sent(client: httpx.Client, method: str, path: str, body: dict[str, Any] | bytes, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.request(
        method, path, content=in_pieces(content), headers={"Content-Type": "application/json", **headers}
    )
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in response.request.headers
    return response


def test_every_call_takes_a_chunked_body_as_one_with_a_length(client: httpx.Client) -> None:
    made = sent(client, "POST", "/conversations", {"title": "Kept?"})
    assert made.status_code == 201
    path = f"/conversations/{made.json()['session_id']}"
    assert client.get(path).json()["title"] == "Kept?"
    assert sent(client, "PATCH", path, {"title": "Kept."}).json()["title"] == "Kept."

    asked = {"message": "hi", "stream": False, "session_id": made.json()["session_id"]}
    answered = sent(client, "POST", "/chat", asked)
    assert (answered.status_code, answered.json()["user_message"]) == (200, "hi")
    again = sent(client, "POST", f"/messages/{answered.json()['message_id']}/regenerate", {"stream": False})
    assert again.headers["content-type"] == "application/json"
    assert again.json()["message_id"] != answered.json()["message_id"]
    refused = sent(client, "POST", f"/messages/{answered.json()['message_id']}/regenerate", {"nope": 1})
    assert (refused.status_code, refused.json()["errors"].keys()) == (400, {"nope"})

    chosen = sent(client, "POST", "/api/config", {"model_type": "default", "max_tokens": 77})
    assert chosen.json()["max_tokens"] == 77
    assert sent(client, "POST", f"/generations/{answered.json()['generation_id']}/stop", b"").status_code == 200
    assert sent(client, "DELETE", path, b"").status_code == 200


def test_the_doors_of_other_clients_take_a_chunked_body(client: httpx.Client) -> None:
    said = {"role": "user", "content": "hi"}
    shown = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    for path, body, words in (
        ("/v1/chat/completions", {"model": "default", "messages": [said]}, '"content":'),
        ("/v1/chat/completions", {"model": "default", "messages": [said], "store": True}, '"content":'),
        ("/v1/responses", {"model": "default", "input": "hi"}, '"output_text"'),
        ("/v1/conversations", {"metadata": {"whose": "mine"}}, '"whose":"mine"'),
        ("/api/chat", {"id": "c", "messages": [shown]}, '"type": "finish"'),
        ("/api/agui", {"threadId": "t", "runId": "r", "messages": [{"id": "1", **said}]}, '"RUN_FINISHED"'),
    ):
        answered = sent(client, "POST", path, body)
        assert answered.status_code == 200, answered.text
        assert words in answered.text, answered.text


def test_the_rules_of_bodies_hold(client: httpx.Client) -> None:
    assert sent(client, "POST", "/conversations", b"").status_code == 201
    assert sent(client, "POST", "/conversations", b"", **{"Content-Type": "text/plain"}).status_code == 201
    for body, content_type, status, code in (
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"title=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{", "application/json", 400, "malformed_json"),
        (b'{"title": "' + b"x" * 1_048_576 + b'"}', "application/json", 413, "body_too_large"),
    ):
        refused = sent(client, "POST", "/conversations", body, **{"Content-Type": content_type})
        assert (refused.status_code, refused.json()["code"]) == (status, code)

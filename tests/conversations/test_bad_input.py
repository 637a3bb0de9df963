"""Every kind of bad input over HTTP: a named problem, in its own form, and nothing is changed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from conversations.models import Conversation, Generation, Message, UserConfig
from tests.upstream import ScriptedUpstream

JSON = {"Content-Type": "application/json"}
CHAT = "/chat"
SOMEBODY = str(uuid.uuid4())


@dataclass(frozen=True)
class Bad:
    """A request, and the status, code and fields of what answers it."""

    method: str
    path: str
    body: Any = None
    status: int = 400
    code: str = "invalid"
    fields: set[str] = field(default_factory=set)
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


def chat(code: str = "invalid", fields: str = "", status: int = 400, **body: Any) -> Bad:
    return Bad("POST", CHAT, {"message": "hi", **body}, status, code, set(fields.split()))


def config(code: str = "invalid", fields: str = "", **body: Any) -> Bad:
    return Bad("POST", "/api/config", {"user_id": "u", "model_type": "custom", **body}, 400, code, set(fields.split()))


def raw(body: bytes, code: str = "malformed_json", status: int = 400, **headers: str) -> Bad:
    return Bad("POST", CHAT, body, status, code, headers={**JSON, **headers})


CUSTOM = {"custom_model": "m", "custom_api_url": "http://127.0.0.1:9/v1/chat/completions"}
BAD: dict[str, Bad] = {
    # The body as such
    "not JSON": raw(b"message=hi"),
    "half JSON": raw(b'{"message": "hi"'),
    "not UTF-8": raw(b'{"message": "\xff"}'),
    "UTF-16": raw('{"message": "hi"}'.encode("utf-16")),
    "NaN": raw(b'{"message": "hi", "temperature": NaN}'),
    "nested 5,000 deep": raw(b"[" * 5000),
    "nested 5,000 objects deep": raw(b'{"a":' * 5000),
    "no object": raw(b'["hi"]', "invalid"),
    "a bare string": raw(b'"hi"', "invalid"),
    "no body": raw(b"", "invalid"),
    "form": raw(b"message=hi", "unsupported_media_type", 415, **{"Content-Type": "application/x-www-form-urlencoded"}),
    "text": raw(b'{"message": "hi"}', "unsupported_media_type", 415, **{"Content-Type": "text/plain"}),
    "multipart": raw(b"--x--", "unsupported_media_type", 415, **{"Content-Type": "multipart/form-data; boundary=x"}),
    "over 1 MB": raw(b'{"message": "' + b"a" * 1_048_576 + b'"}', "body_too_large", 413),
    # Fields of a chat
    "no message": Bad("POST", CHAT, {"user_id": "u"}, fields={"message"}),
    "empty message": chat(fields="message", message=""),
    "blank message": chat(fields="message", message=" \n\t\u3000"),
    "null message": chat(fields="message", message=None),
    "message of 100,001 characters": chat(fields="message", message="a" * 100_001),
    "NUL in the message": chat(fields="message", message="a\0b"),
    "lone surrogate in the message": chat(fields="message", message="a\ud800b"),
    "number as message": chat(fields="message", message=5),
    "list as message": chat(fields="message", message=["hi"]),
    "unknown field": chat(fields="massage", massage="hi"),
    "unknown field with a lone surrogate": Bad("POST", CHAT, {"message": "hi", "\ud800": 1}, fields={"\\ud800"}),
    "several errors": chat(fields="message temperature", message="", temperature=9),
    "temperature below": chat(fields="temperature", temperature=-0.1),
    "temperature above": chat(fields="temperature", temperature=2.1),
    "temperature as text": chat(fields="temperature", temperature="0.7"),
    "temperature as boolean": chat(fields="temperature", temperature=True),
    "max_tokens 0": chat(fields="max_tokens", max_tokens=0),
    "max_tokens above": chat(fields="max_tokens", max_tokens=131_073),
    "max_tokens as fraction": chat(fields="max_tokens", max_tokens=1.5),
    "max_tokens as text": chat(fields="max_tokens", max_tokens="100"),
    "max_tokens as boolean": chat(fields="max_tokens", max_tokens=True),
    "stream as text": chat(fields="stream", stream="false"),
    "stream as number": chat(fields="stream", stream=0),
    "unknown model": chat("unknown_model_type", model_type="nope"),
    "custom model that is not set up": chat("unknown_model_type", model_type="custom"),
    "model_type too long": chat(fields="model_type", model_type="m" * 65),
    "unknown session": chat("not_found", status=404, session_id=SOMEBODY),
    "malformed session": chat("not_found", status=404, session_id="12345"),
    "session as number": chat(fields="session_id", session_id=5),
    "user_id like an account": chat(fields="user_id", user_id="user:1"),
    "user_id too long": chat(fields="user_id", user_id="u" * 256),
    "user_id as number": chat(fields="user_id", user_id=1),
    # Conversations
    "title too long": Bad("POST", "/conversations", {"title": "t" * 201}, fields={"title"}),
    "title with NUL": Bad("POST", "/conversations", {"title": "a\0"}, fields={"title"}),
    "system prompt too long": Bad("POST", "/conversations", {"system_prompt": "s" * 20_001}, fields={"system_prompt"}),
    "conversation with an unknown model": Bad(
        "POST", "/conversations", {"model_type": "nope"}, code="unknown_model_type"
    ),
    "conversation with an unknown field": Bad("POST", "/conversations", {"name": "x"}, fields={"name"}),
    "unknown conversation": Bad("GET", f"/conversations/{SOMEBODY}", status=404, code="not_found"),
    "malformed conversation": Bad("GET", "/conversations/nope", status=404, code="not_found"),
    "history of nothing": Bad("GET", f"/conversations/{SOMEBODY}/history", status=404, code="not_found"),
    "change of nothing": Bad("PATCH", f"/conversations/{SOMEBODY}", {"title": "x"}, 404, "not_found"),
    "deletion of nothing": Bad("DELETE", f"/conversations/{SOMEBODY}", status=404, code="not_found"),
    "bad cursor": Bad("GET", "/conversations?cursor=nope", code="invalid_cursor"),
    "cursor of other bytes": Bad("GET", "/conversations?cursor=%E4%BD%A0", code="invalid_cursor"),
    "cursor out of range": Bad("GET", "/conversations?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk6MQ", code="invalid_cursor"),
    "limit 0": Bad("GET", "/conversations?limit=0", fields={"limit"}),
    "limit 501": Bad("GET", "/conversations?limit=501", fields={"limit"}),
    "limit text": Bad("GET", "/conversations?limit=many", fields={"limit"}),
    "archived as text": Bad("GET", "/conversations?archived=maybe", fields={"archived"}),
    "search with NUL": Bad("GET", "/conversations?search=%00", fields={"search"}),
    # Answers
    "unknown answer": Bad("GET", f"/generations/{SOMEBODY}", status=404, code="not_found"),
    "malformed answer": Bad("GET", "/generations/nope", status=404, code="not_found"),
    "stop of nothing": Bad("POST", f"/generations/{SOMEBODY}/stop", status=404, code="not_found"),
    "regenerate nothing": Bad("POST", "/messages/1/regenerate", {}, 404, "not_found"),
    # Configuration
    "config without a model": Bad("POST", "/api/config", {"user_id": "u"}, fields={"model_type"}),
    "config with an unknown model": config("unknown_model_type", "model_type", model_type="nope"),
    "custom without a URL": config(fields="custom_api_url", custom_model="m"),
    "custom without a model": config(fields="custom_model", custom_api_url=CUSTOM["custom_api_url"]),
    "URL without a scheme": config(fields="custom_api_url", **{**CUSTOM, "custom_api_url": "example.com/v1"}),
    "URL of another scheme": config(fields="custom_api_url", **{**CUSTOM, "custom_api_url": "file:///etc/passwd"}),
    "URL with a password": config(fields="custom_api_url", **{**CUSTOM, "custom_api_url": "http://a:b@example.com/"}),
    "URL with a line break": config(
        fields="custom_api_url", **{**CUSTOM, "custom_api_url": "http://a.example/\r\nX: 1"}
    ),
    "metadata URL": config(fields="custom_api_url", **{**CUSTOM, "custom_api_url": "http://169.254.169.254/latest"}),
    "key with a blank": config(fields="custom_api_key", **CUSTOM, custom_api_key="sk 1"),
    "key with Chinese": config(fields="custom_api_key", **CUSTOM, custom_api_key="密钥"),
    "key with a line break": config(fields="custom_api_key", **CUSTOM, custom_api_key="sk\r\nX: 1"),
    "key from the environment": config(fields="custom_api_key", **CUSTOM, custom_api_key="env:SECRET_KEY"),
    "max_tokens of a config": config(fields="max_tokens", model_type="codegeex", max_tokens=0),
    "unknown field of a config": config(fields="llm_api_key", model_type="codegeex", llm_api_key="x"),
    # Paths and methods
    "unknown path": Bad("GET", "/nope", status=404, code="not_found"),
    "wrong method": Bad("PUT", "/chat", {}, 405, "method_not_allowed"),
    "wrong method for the list": Bad("DELETE", "/conversations", None, 405, "method_not_allowed"),
}


def send(client: httpx.Client, bad: Bad) -> httpx.Response:
    content = bad.body if bad.body is None or isinstance(bad.body, bytes) else json.dumps(bad.body).encode()
    return client.request(bad.method, bad.path, content=content, headers=bad.headers)


def counts() -> list[int]:
    return [table.objects.count() for table in (Conversation, Message, Generation, UserConfig)]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_its_named_problem_and_changes_nothing(
    client: httpx.Client, model: ScriptedUpstream, case: str
) -> None:
    bad = BAD[case]
    response = send(client, bad)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (bad.status, bad.code), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "request_id"} <= problem.keys()
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["status"] == bad.status
    if bad.fields:
        assert problem["errors"].keys() == bad.fields
    assert counts() == [0, 0, 0, 0]
    assert not model.calls


POSITIONS = {
    "text": "?after=abc",
    "negative": "?after=-1",
    "beyond the text": "?after=1000",
    "absurd": "?after=" + "9" * 30,
    "other digits": "?after=%D9%A1",
    "fraction": "?after=1.5",
}


@pytest.mark.parametrize("case", POSITIONS)
def test_a_bad_position_is_refused(client: httpx.Client, model: ScriptedUpstream, case: str) -> None:
    generation_id = client.post(CHAT, json={"message": "hi", "stream": False}).json()["generation_id"]
    response = client.get(f"/generations/{generation_id}/stream{POSITIONS[case]}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_position")


@pytest.mark.parametrize("last", ["nonsense", "{other}:1", "{own}:", "{own}:-1", "{own}:1000", "{own}:1:2", "{own}:x"])
def test_a_bad_last_event_id_is_refused(client: httpx.Client, model: ScriptedUpstream, last: str) -> None:
    generation_id = client.post(CHAT, json={"message": "hi", "stream": False}).json()["generation_id"]
    header = last.format(own=generation_id, other=uuid.uuid4())
    response = client.get(f"/generations/{generation_id}/stream", headers={"Last-Event-ID": header})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_position")


@pytest.mark.parametrize("path", ["/conversations", "/search", "/events", "/api/config", "/schema"])
def test_a_query_of_thousands_of_parameters_is_refused(client: httpx.Client, path: str) -> None:
    """Django reads no more than 1,000."""
    answer = client.get(f"{path}?{'a=1&' * 1_100}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("path", ["/chat/", "/conversations/", "/api/config/"])
def test_a_trailing_slash_is_no_redirect(client: httpx.Client, model: ScriptedUpstream, path: str) -> None:
    response = client.post(path, json={})
    assert response.status_code in (201, 400)


def test_a_patch_with_errors_changes_nothing(client: httpx.Client) -> None:
    session_id = client.post("/conversations", json={"title": "as it was"}).json()["session_id"]
    for body in ({"title": "new", "is_pinned": "yes"}, {"title": "new", "model_type": "nope"}, {"title": None}):
        assert client.patch(f"/conversations/{session_id}", json=body).status_code == 400
    shown = client.get(f"/conversations/{session_id}").json()
    assert (shown["title"], shown["is_pinned"], shown["model_type"]) == ("as it was", False, "")


def test_an_open_server_answers_its_own_machine_only(client: httpx.Client) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Forwarded-Host"):
        response = client.get("/conversations", headers={name: "203.0.113.9"})
        assert (response.status_code, response.json()["code"]) == (403, "login_required")


def test_a_name_that_only_resolves_here_is_refused(client: httpx.Client) -> None:
    response = client.get("/conversations", headers={"Host": "rebound.example"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_host")


def test_with_login_required_nobody_gets_in_yet(client: httpx.Client, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True}
    for path in ("/conversations", "/api/config", f"/generations/{SOMEBODY}"):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (401, "login_required"), path


def test_errors_speak_the_clients_language(client: httpx.Client) -> None:
    def detail(language: str) -> str:
        return str(client.get("/nope", headers={"Accept-Language": language}).json()["detail"])

    assert detail("en") == detail("fr")
    assert any("\u4e00" <= character <= "\u9fff" for character in detail("zh-CN,zh;q=0.9"))

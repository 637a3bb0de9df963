"""Front ends of other people (docs/front-ends.md): what Open WebUI and LibreChat send, and what they need back.

Written by their sources of 2026-11: the header fields, queries and bodies are theirs, and an answer is read as they
read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer, events, status

from .accounts import make_key, make_user, require_login
from .calling import calling, until

Body = dict[str, Any]
KEY = "sk-any"
IMAGE = "data:image/png;base64,iVBORw0KGgo="
ARGUMENTS = '{"city": "北京"}'
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
CALLED = events(
    json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}), "[DONE]"
)
FUNCTION = {
    "name": "weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOL = {"type": "function", "function": FUNCTION}

# aiohttp, with what `ENABLE_FORWARD_USER_INFO_HEADERS` adds.
OPEN_WEBUI = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    "User-Agent": "Python/3.11 aiohttp/3.13.2",
    "Content-Type": "application/json",
    "X-OpenWebUI-User-Name": "Anna",
    "X-OpenWebUI-User-Id": "6f4f0c7e-3b0c-4f0e-9f43-2a8f0b1f7a11",
    "X-OpenWebUI-User-Email": "anna@example.com",
    "X-OpenWebUI-User-Role": "admin",
    "X-OpenWebUI-Chat-Id": "0f0d2c1e-9d8e-4f6e-8a5b-7c1f3a2b4c5d",
}
# axios, for the list of models.
AXIOS = {
    "Accept": "application/json, text/plain, */*",
    "Accept-Encoding": "gzip, compress, deflate, br",
    "User-Agent": "axios/1.13.2",
}
# OpenAI's client for Node, under LangChain.
LIBRECHAT = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "*",
    "Content-Type": "application/json",
    "Sec-Fetch-Mode": "cors",
    "User-Agent": "OpenAI/JS 6.9.1",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Lang": "js",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Package-Version": "6.9.1",
    "X-Stainless-Retry-Count": "0",
    "X-Stainless-Runtime": "node",
    "X-Stainless-Runtime-Version": "v22.12.0",
}


def sent(client: httpx.Client, headers: dict[str, str], path: str, body: Body | None = None) -> httpx.Response:
    """Send what a front end does: a body as a POST, and else a GET."""
    given = {"Authorization": f"Bearer {KEY}", **headers}
    content = None if body is None else json.dumps(body)
    return client.request("GET" if body is None else "POST", path, headers=given, content=content)


def lines_of(response: httpx.Response) -> list[Body]:
    """What both make of a stream: each line that begins with `data:`, up to the end."""
    assert response.status_code == 200, response.text
    assert "text/event-stream" in response.headers["Content-Type"]
    assert "Content-Length" not in response.headers
    data = [line.removeprefix("data:").strip() for line in response.text.split("\n") if line.startswith("data:")]
    assert data.pop() == "[DONE]"
    return [json.loads(line) for line in data]


def deltas(chunks: list[Body], name: str) -> Iterator[Any]:
    for chunk in chunks:
        for choice in chunk.get("choices", []):
            if choice["delta"].get(name):
                yield choice["delta"][name]


def text_of(chunks: list[Body], name: str = "content") -> str:
    return "".join(deltas(chunks, name))


# Open WebUI ----------------------------------------------------------------------------------------------------------
def web_ui(**body: Any) -> Body:
    """A chat as Open WebUI passes it on: `metadata`, `features`, `chat_id` and `params` stay with it."""
    return {
        "stream": True,
        "model": "default",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        "stream_options": {"include_usage": True},
        **body,
    }


def test_open_webui_takes_the_list_of_models(client: httpx.Client, model: ScriptedUpstream) -> None:
    """The test of a connection, and each look at the list: an `error`, or a `name` that is null, would hide them."""
    response = sent(client, OPEN_WEBUI, "/v1/models")
    listed = response.json()
    assert response.status_code == 200
    assert "error" not in listed
    assert "default" in [each["id"] for each in listed["data"]]
    assert all(isinstance(each["name"], str) and each["object"] == "model" for each in listed["data"])


def test_open_webui_shows_why_a_connection_fails(
    client: httpx.Client, server: Server, model: ScriptedUpstream, settings: Any
) -> None:
    require_login(settings)
    token = make_key(make_user("anna"))
    with calling(server, None) as stranger:
        refusal = stranger.get("/v1/models", headers={**OPEN_WEBUI, "Authorization": "Bearer wrong"})
        assert (refusal.status_code, bool(refusal.json()["error"]["message"])) == (401, True)
        accepted = stranger.get("/v1/models", headers={**OPEN_WEBUI, "Authorization": f"Bearer {token}"})
        assert accepted.json()["data"]


def test_open_webui_chats(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo", reasoning=["h", "m"])]
    params: Body = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 100, "seed": 42, "stop": ["\n\n\n"]}
    chunks = lines_of(sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui(**params, reasoning_effort="low")))
    assert (text_of(chunks), text_of(chunks, "reasoning_content")) == ("Hello", "hm")
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"] > 0) == ([], True)
    asked = model.requests[-1].body
    assert {name: asked[name] for name in params} == params
    assert asked["messages"][0] == {"role": "system", "content": "Be kind."}


def test_open_webui_asks_for_titles_tags_and_what_follows(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Each is a chat of one message, whole, with the limit that newer models take."""
    prompt = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history."
    said = '{"title": "👋 A greeting"}'
    model.script = [answer(said)]
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": prompt}],
        "stream": False,
        "max_completion_tokens": 1000,
    }
    response = sent(client, OPEN_WEBUI, "/v1/chat/completions", body)
    assert response.json()["choices"][0]["message"]["content"] == said
    assert model.requests[-1].body["max_tokens"] == 1000


def test_open_webui_runs_tools(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Its "native" function calling: the calls are taken from the deltas, and all is sent again with the results."""
    model.script = [CALLED, answer("Sunny.")]
    chunks = lines_of(sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui(tools=[TOOL])))
    (call,) = [call for calls in deltas(chunks, "tool_calls") for call in calls]
    assert (call["index"], call["id"], call["function"]["arguments"]) == (0, "call_1", ARGUMENTS)
    messages = [
        *web_ui()["messages"],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    chunks = lines_of(sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui(messages=messages, tools=[TOOL])))
    assert text_of(chunks) == "Sunny."
    assert model.requests[-1].body["messages"][-1]["content"] == "sun"


def test_open_webui_shows_images(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("A cat.")]
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    body = web_ui(messages=[{"role": "user", "content": parts}])
    assert text_of(lines_of(sent(client, OPEN_WEBUI, "/v1/chat/completions", body))) == "A cat."
    assert IMAGE in json.dumps(model.requests[-1].body)


def test_open_webui_shows_what_failed(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Before the first word by its status and `error`; after it by an `error` among the lines."""
    refusal = sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui(model="gone"))
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (404, "model_not_found")
    model.script = [status(500, {"error": {"message": "out of memory"}})] * 5
    refusal = sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui())
    assert refusal.status_code >= 500
    assert refusal.json()["error"]["message"]
    model.script = [answer("half", " of it", cut=1)]
    chunks = lines_of(sent(client, OPEN_WEBUI, "/v1/chat/completions", web_ui()))
    assert (text_of(chunks), bool(chunks[-1]["error"]["message"])) == ("half", True)


def test_open_webui_stops_by_leaving(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun", "never", gate="stays", gate_at=1)]
    with client.stream("POST", "/v1/chat/completions", headers=OPEN_WEBUI, content=json.dumps(web_ui())) as response:
        next(line for line in response.iter_lines() if "begun" in line)
    until(lambda: model.requests[-1].closed_by_client)


@pytest.mark.parametrize("path", ["embeddings", "completions", "audio/speech", "images/generations", "responses/x"])
def test_what_there_is_not_is_told_in_their_form(client: httpx.Client, model: ScriptedUpstream, path: str) -> None:
    refusal = sent(client, OPEN_WEBUI, f"/v1/{path}", {"model": "default", "input": "hi"})
    assert refusal.status_code in (404, 405)
    assert refusal.json()["error"]["message"]


# LibreChat -----------------------------------------------------------------------------------------------------------
def libre(**body: Any) -> Body:
    """A chat of a custom endpoint: LangChain's model over OpenAI's client, with the user's id."""
    return {
        "model": "default",
        "temperature": 1,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "user": "6745f0c7e3b0c4f0e9f432a8",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}],
        **body,
    }


@pytest.mark.parametrize("query", ["", "?user=6745f0c7e3b0c4f0e9f432a8"], ids=["plain", "userIdQuery"])
def test_librechat_takes_the_list_of_models(client: httpx.Client, model: ScriptedUpstream, query: str) -> None:
    """Of an endpoint whose name begins with "ollama" it asks for `/api/tags` first: what is none sends it on."""
    assert sent(client, AXIOS, "/api/tags").status_code == 404
    listed = sent(client, AXIOS, f"/v1/models{query}").json()
    assert "default" in [each["id"] for each in listed["data"]]


def test_librechat_chats(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo", reasoning=["h", "m"])]
    chunks = lines_of(sent(client, LIBRECHAT, "/v1/chat/completions", libre()))
    assert (text_of(chunks), text_of(chunks, "reasoning_content")) == ("Hello", "hm")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]][-1] == "stop"
    assert chunks[-1]["usage"]["prompt_tokens"] > 0
    asked = model.requests[-1].body
    assert (asked["temperature"], asked["presence_penalty"]) == (1, 0)
    assert "user" not in asked


@pytest.mark.parametrize("method", ["completion", "functions", "structured"])
def test_librechat_asks_for_titles(client: httpx.Client, model: ScriptedUpstream, method: str) -> None:
    """By `titleMethod`: as a text, as the call of a function, as an object of a schema."""
    title = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    schema = {"name": "title", "parameters": title}
    chosen: dict[str, Body] = {
        "completion": {},
        "functions": {
            "tools": [{"type": "function", "function": schema}],
            "tool_choice": {"type": "function", "function": {"name": "title"}},
        },
        "structured": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "title", "schema": title, "strict": False},
            }
        },
    }
    whole = {name: value for name, value in libre().items() if name != "stream_options"}
    model.script = [CALLED if method == "functions" else answer('{"title": "A greeting"}')]
    response = sent(client, LIBRECHAT, "/v1/chat/completions", {**whole, "stream": False, **chosen[method]})
    (choice,) = response.json()["choices"]
    if method == "functions":
        assert choice["message"]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
    else:
        assert choice["message"]["content"] == '{"title": "A greeting"}'
    assert chosen[method].keys() <= model.requests[-1].body.keys()


def test_librechat_shows_what_failed(client: httpx.Client, model: ScriptedUpstream) -> None:
    """OpenAI's client tries again what may be mended, unless it is told not to."""
    refusal = sent(client, LIBRECHAT, "/v1/chat/completions", libre(model="gone"))
    assert (refusal.status_code, refusal.headers["x-should-retry"]) == (404, "false")
    assert refusal.json()["error"].keys() == {"message", "type", "param", "code"}

"""OpenAI's API at /v1, as an answer is passed on: asked, streamed, whole, refused, left, settled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from rest_framework.test import APIClient

from conversations.models import Conversation, DailyUsage, Message, Relay, TokenBudget
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, events, status

from .accounts import bearer, key_of, make_user, require_login
from .calling import until

HI = [{"role": "user", "content": "hi"}]
CALL_OF_NO_TEXT = {"name": "f", "arguments": {"a": 1}}
NO_TEXT_ABOUT_IT = {"name": "f", "description": 5}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
STREAMED = {"model": "default", "messages": HI, "stream": True}


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": "default", "messages": HI, **body})


def chunks(lines: Iterator[str]) -> list[dict[str, Any]]:
    """All chunks of a stream, which ends as it has to."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]


def streamed(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", "/v1/chat/completions", json={"model": "default", "messages": HI, **body}) as response:
        response.raise_for_status()
        return chunks(response.iter_lines())


def said(parts: list[dict[str, Any]], name: str = "content") -> str:
    return "".join(choice["delta"].get(name) or "" for part in parts for choice in part.get("choices", ()))


def nothing_runs() -> bool:
    return not Relay.objects.exists()


# Answers ------------------------------------------------------------------------------------------------------------
def test_a_whole_completion(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hello", " there", reasoning=["hm"])]
    body = ask(
        client, stream=False, temperature=0.5, max_tokens=50, seed=7, stop=["END"], user="u", store=False
    ).json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello there",
        "refusal": None,
        "reasoning_content": "hm",
    }
    assert body["usage"]["total_tokens"] > 0
    sent = model.requests[-1].body
    assert (sent["temperature"], sent["max_tokens"], sent["seed"], sent["stop"]) == (0.5, 50, 7, ["END"])
    assert "user" not in sent
    until(nothing_runs)
    assert not Conversation.objects.exists()
    assert not Message.objects.exists()
    row = DailyUsage.objects.get()
    assert (row.requests, row.prompt_tokens) == (1, body["usage"]["prompt_tokens"])


def test_what_is_not_said_is_not_sent(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("ok")]
    assert ask(client).status_code == 200
    assert not {"temperature", "max_tokens", "tools", "top_p"} & model.requests[-1].body.keys()


def test_a_stream(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo", reasoning=["h", "m"])]
    parts = streamed(client, stream=True, stream_options={"include_usage": True})
    assert said(parts) == "Hello"
    assert said(parts, "reasoning_content") == "hm"
    assert parts[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [part["choices"][0]["finish_reason"] for part in parts if part["choices"]][-1] == "stop"
    assert all(choice["finish_reason"] is None for part in parts[:-2] for choice in part["choices"])
    assert (parts[-1]["choices"], parts[-1]["usage"]["total_tokens"] > 0) == ([], True)
    assert len({(part["id"], part["created"], part["model"]) for part in parts}) == 1
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    model.script = [answer("x")]
    assert not [part for part in streamed(client, stream=True) if "usage" in part]


def test_tools_go_there_and_back(client: httpx.Client, model: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    more = {"index": 0, "function": {"arguments": ' "Bonn"}'}}
    stream = [
        json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}),
        json.dumps({"choices": [{"delta": {"tool_calls": [more]}}]}),
        json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        "[DONE]",
    ]
    schema = {"type": "object", "properties": {}}
    for _level in range(10):
        schema = {"type": "object", "properties": {"list": {"type": "array", "items": schema}}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema, "strict": True}}]
    model.script = [events(*stream), events(*stream), answer("sunny")]
    parts = streamed(client, stream=True, tools=tools, tool_choice="auto")
    calls = [piece for part in parts for choice in part["choices"] for piece in choice["delta"].get("tool_calls", ())]
    assert (calls[0]["id"], calls[0]["type"], calls[0]["function"]["name"]) == ("c1", "function", "weather")
    assert "".join(piece["function"]["arguments"] for piece in calls) == '{"city": "Bonn"}'
    assert parts[-1]["choices"][0]["finish_reason"] == "tool_calls"
    whole = ask(client, tools=tools).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] is None
    made = whole["message"]["tool_calls"]
    assert made == [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}]
    result = {"role": "tool", "tool_call_id": "c1", "content": "20 °C"}
    history = [*HI, {"role": "assistant", "content": None, "tool_calls": made}, result]
    assert ask(client, tools=tools, messages=history).json()["choices"][0]["message"]["content"] == "sunny"
    assert model.requests[-1].body["messages"] == history
    assert model.requests[-1].body["tools"] == tools


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("eos", "stop"),
        ("COMPLETE", "stop"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("max_output_tokens", "length"),
        ("sensitive", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("content_filter", "content_filter"),
    ],
)
def test_other_words_for_an_end_are_told_as_theirs(
    client: httpx.Client, model: ScriptedUpstream, word: str, told: str
) -> None:
    """Typed clients (.NET, Java, Rust) fail at a finish reason that their API does not have."""
    deltas = [{"delta": {"content": "Hi"}}, {"delta": {}, "finish_reason": word}]
    model.script = [events(*[json.dumps({"choices": [choice]}) for choice in deltas], "[DONE]")] * 3
    assert ask(client).json()["choices"][0]["finish_reason"] == told
    assert streamed(client, stream=True)[-1]["choices"][0]["finish_reason"] == told
    response = client.post("/v1/responses", json={"model": "default", "input": "hi"}).json()
    reasons = {"stop": None, "length": {"reason": "max_output_tokens"}, "content_filter": {"reason": "content_filter"}}
    assert response["incomplete_details"] == reasons[told]
    assert response["status"] == ("completed" if told == "stop" else "incomplete")


def test_parts_and_images(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a cat"), answer("ok"), answer("ok")]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    parts = [{"type": "text", "text": "What is this?"}, image]
    assert ask(client, messages=[{"role": "user", "name": "ann", "content": parts}]).status_code == 200
    assert model.requests[-1].body["messages"] == [{"role": "user", "name": "ann", "content": parts}]
    refusal = {"role": "assistant", "content": None, "refusal": "no"}
    assert ask(client, messages=[*HI, refusal, *HI]).status_code == 200
    texts = [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, *HI]
    assert ask(client, messages=texts).status_code == 200
    assert model.requests[-1].body["messages"] == [{"role": "system", "content": "Be brief."}, *HI]


# Models -------------------------------------------------------------------------------------------------------------
def test_models(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="mine", name="Mine", api_url=model.url, model="upstream-name", context_window=5000)
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    found = {item["id"]: item for item in listed["data"]}
    assert {"default", "mine"} <= found.keys()
    assert found["mine"] == {
        "id": "mine",
        "object": "model",
        "created": 0,
        "owned_by": "chatproject",
        "name": "Mine",
        "context_window": 5000,
        "capabilities": {"images": None, "tools": None, "reasoning": None},
        "extra_fields": [],
    }
    assert client.get("/v1/models/mine").json() == found["mine"]
    missing = client.get("/v1/models/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    model.script = [answer("ok"), answer("ok")]
    assert ask(client, model="mine").json()["model"] == "mine"
    assert ask(client, model="upstream-name").json()["model"] == "upstream-name"
    assert ask(client, model="none").json()["error"]["code"] == "model_not_found"


def test_default_is_what_a_chat_would_take(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": "", "LOCAL_MODEL_FILE": ""}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DEFAULT_MODEL_TYPE": "mine"}
    Preset.objects.create(type="mine", name="Mine", api_url=model.url, model="upstream-name", context_window=5000)
    assert client.get("/v1/models/default").json()["name"] == "Mine"
    model.script = [answer("ok"), answer("ok")]
    answered = ask(client, model="default")
    assert (answered.json()["model"], answered.headers["x-model-type"]) == ("default", "mine")
    assert ask(client, model="upstream-name").status_code == 200


# Errors -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": {}, "content": "hi"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": 5}]}]}, "messages[0].tool_calls"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": CALL_OF_NO_TEXT}]}]},
            "messages[0].tool_calls",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "description": 5}}]},
            "tools[0].function.description",
        ),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stop": 5}, "stop"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0]"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"store": True, "metadata": {"session_id": "x"}}, "metadata"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(
    client: httpx.Client, model: ScriptedUpstream, body: dict[str, Any], param: str
) -> None:
    content = json.dumps({"model": "default", "messages": HI, **body})
    refused = client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert nothing_runs()
    assert model.calls == 0


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/chat/completions", 405),
    ],
)
def test_every_error_looks_like_theirs(client: httpx.Client, method: str, path: str, code: int) -> None:
    refused = client.request(method, path)
    assert refused.status_code == code
    assert refused.headers["content-type"] == "application/json"
    assert set(refused.json()) == {"error"}
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("content", ["{", '{"temperature": 1e400}', '{"temperature": NaN}'])
def test_broken_json(client: httpx.Client, content: str) -> None:
    refused = client.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "malformed_json")


def test_a_failure_before_the_first_word_has_a_status(client: httpx.Client, model: ScriptedUpstream) -> None:
    refusal = status(429, {"error": {"message": "slow"}}, {"Retry-After": "60"})
    model.script = [refusal, refusal]
    for stream in (True, False):
        refused = ask(client, stream=stream)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert refused.json()["error"]["type"] == "rate_limit_error"
    until(nothing_runs)
    assert DailyUsage.objects.get().estimated_requests == 2


@pytest.mark.parametrize("code", [401, 402])
def test_what_no_retry_mends_is_not_to_be_tried_again(
    client: httpx.Client, model: ScriptedUpstream, code: int
) -> None:
    model.script = [status(code, {"error": {"message": "no"}})]
    refused = ask(client)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (502, "false")


def test_who_is_not_on_this_machine_has_no_wrong_key(client: httpx.Client) -> None:
    refused = client.get("/v1/models", headers={"X-Forwarded-For": "1.2.3.4"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "login_required")


def test_a_refusal_says_what_would_be_right(client: httpx.Client) -> None:
    assert ask(client, temperature=2.5).json()["error"]["message"].endswith("A number from 0 to 2.")
    assert "131072" in ask(client, max_tokens=10**9).json()["error"]["message"]


def test_a_long_history_is_taken(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("ok")]
    assert ask(client, messages=HI * 1_500).status_code == 200


def test_a_failure_in_the_stream_is_an_error_event(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("half", "never", cut=1)]
    parts = streamed(client, stream=True)
    assert said(parts[:-1]) == "half"
    assert parts[-1]["error"]["code"] == "upstream_protocol"


# Whose, how much ----------------------------------------------------------------------------------------------------
def test_keys_scopes_and_limits(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings, MAX_ANSWERS_PER_CALLER=1, TOKENS_PER_DAY=100_000)
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "ALLOWED_UPSTREAM_HOSTS": ["127.0.0.1"]}
    kim = make_user("kim")
    refused = ask(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    client.headers.update(bearer("chatkey_wrong"))
    assert ask(client).json()["error"]["type"] == "authentication_error"
    client.headers.update(key_of(kim, ["read"]))
    assert ask(client).status_code == 403
    client.headers.update(key_of(kim))
    model.script = [answer("one", "two", gate="g", gate_at=1)]
    with client.stream(
        "POST", "/v1/chat/completions", json={"model": "default", "messages": HI, "stream": True}
    ) as first:
        lines = first.iter_lines()
        next(lines)
        busy = ask(client)
        assert (busy.status_code, busy.json()["error"]["code"]) == (429, "too_many_answers")
        # A stored answer is one, too.
        assert client.post("/chat", json={"message": "hi", "stream": False}).json()["code"] == "too_many_answers"
        assert TokenBudget.objects.get().spent > 1000
        model.gate("g").open()
        chunks(lines)
    until(nothing_runs)
    counted = DailyUsage.objects.get()
    assert TokenBudget.objects.get().spent == counted.prompt_tokens + counted.completion_tokens
    TokenBudget.objects.update(spent=100_000)
    spent = ask(client)
    assert (spent.status_code, spent.json()["error"]["type"]) == (429, "insufficient_quota")
    assert spent.headers["x-should-retry"] == "false"


def test_who_leaves_closes_the_upstream(client: httpx.Client, model: ScriptedUpstream) -> None:
    for _number in range(5):
        model.script = [answer("one", "two", endless=True, delay=0.01)]
        with client.stream(
            "POST", "/v1/chat/completions", json={"model": "default", "messages": HI, "stream": True}
        ) as left:
            next(left.iter_raw())
        model.wait_until(lambda: model.requests[-1].closed_by_client)
    until(nothing_runs)
    row = DailyUsage.objects.get()
    assert (row.requests, row.estimated_requests) == (0, 5)
    assert row.estimated_completion_tokens > 0


def test_an_open_server_takes_any_key_for_none(api: APIClient) -> None:
    api.credentials(HTTP_AUTHORIZATION="Bearer sk-anything")
    assert api.get("/v1/models").status_code == 200

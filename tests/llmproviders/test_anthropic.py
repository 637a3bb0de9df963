"""Anthropic's Messages: what is sent, every event that comes, sliced anyhow, and what goes wrong."""

from __future__ import annotations

import json
from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders.answer import AnswerFraming, MessagesReader
from llmproviders.answer.tool_calls import MAX_CALLS
from llmproviders.backends.anthropic import Anthropic, messages_url, request_body
from llmproviders.exceptions import (
    AnswerCut,
    ContextLengthExceeded,
    EmptyAnswer,
    ProviderError,
    UpstreamAuthenticationFailed,
    UpstreamUnavailable,
)
from llmproviders.types import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Image,
    ReasoningDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tests.upstream import ScriptedUpstream, raw, status
from tests.upstream.server import MESSAGES

from .conftest import endpoint, request

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-x",
        "usage": {"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def end(reason: str = "end_turn", tokens: int = 9) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": words}


def said(part: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": part}


WHOLE = [
    START,
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": ""},
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "abc"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "x"}),
    *block(2, {"type": "text", "text": ""}, text("The weather "), text("in Köln: \ud83d"), text("\ude00")),
    *block(3, {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}, said('{"ci'), said('ty": 1}')),
    *block(4, {"type": "tool_use", "id": "t2", "name": "time", "input": {}}),
    end("tool_use"),
    STOP,
]


def wire(events: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def read(body: bytes, sizes: list[int], *, takes_tools: bool = True) -> list[Delta]:
    framing = AnswerFraming(max_line_bytes=100_000, max_bytes=1_000_000)
    reader = MessagesReader(max_bytes=1_000_000, takes_tools=takes_tools)
    deltas: list[Delta] = []
    at, turn = 0, 0
    while at < len(body):
        deltas += reader.read(framing.feed(body[at : (at := at + sizes[turn % len(sizes)])]))
        turn += 1
    deltas += reader.read(framing.end())
    deltas += reader.flush()
    return [*deltas, reader.finished()]


def told(deltas: list[Delta]) -> tuple[str, str, list[list[str]]]:
    """The reasoning, the answer, and the calls."""
    calls: list[list[str]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            if delta.index == len(calls):
                calls.append([delta.id, delta.name, ""])
            calls[delta.index][2] += delta.arguments
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    return reasoning, "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)), calls


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_a_whole_stream_in_any_slices(sizes: list[int]) -> None:
    deltas = read(wire(WHOLE), sizes)
    assert told(deltas) == (
        "Let me see.",
        "The weather in Köln: 😀",
        [["t1", "weather", '{"city": 1}'], ["t2", "time", "{}"]],
    )
    assert deltas[-1] == CompletionFinished("tool_calls", Usage(25, 9, 34), "claude-x")


def test_calls_whose_ends_come_together_are_calls_of_their_own() -> None:
    """As llama.cpp tells two of them."""
    calls = [{"type": "tool_use", "id": key, "name": "weather", "input": {}} for key in ("a", "b")]
    (*first, first_end), (*second, second_end) = (block(index, call, said("{}")) for index, call in enumerate(calls))
    events = [START, *first, *second, first_end, second_end, end("tool_use"), STOP]
    assert told(read(wire(events), [1000]))[2] == [["a", "weather", "{}"], ["b", "weather", "{}"]]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
    ],
)
def test_how_it_ended_in_the_words_of_the_field(theirs: str, ours: str) -> None:
    last = read(wire([START, *block(0, {"type": "text", "text": "hi"}), end(theirs), STOP]), [100])[-1]
    assert isinstance(last, CompletionFinished)
    assert last.finish_reason == ours


def test_a_whole_answer_in_one_document() -> None:
    message = {
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "hi"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    deltas = read(json.dumps(message).encode(), [11])
    assert told(deltas) == ("", "hi", [["t", "f", '{"a": 1}']])
    assert deltas[-1] == CompletionFinished("tool_calls", Usage(1, 2, 3), "m")


def test_a_call_without_arguments_in_a_whole_answer_stands_before_what_follows() -> None:
    content = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "text", "text": "Looking."}]
    message = {"type": "message", "model": "m", "content": content, "stop_reason": "tool_use"}
    assert in_order(read(json.dumps(message).encode(), [1000])) == ["f{}", "Looking."]


def test_what_the_model_says_of_tags_stays_text() -> None:
    words = "It ends with\n</think>\nalone."
    assert told(read(wire([START, *block(0, {"type": "text", "text": words}), end(), STOP]), [9]))[1] == words


def test_what_breaks_is_an_error_after_what_was_said() -> None:
    half = [START, *block(0, {"type": "text", "text": ""}, text("half"))]
    with pytest.raises(AnswerCut):
        read(wire(half), [50])
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(ProviderError):
        read(wire([*half, overloaded]), [50])
    with pytest.raises(EmptyAnswer):
        read(wire([START, end(), STOP]), [50])
    with pytest.raises(EmptyAnswer):
        read(wire(WHOLE[:1] + WHOLE[-8:]), [50], takes_tools=False)


def test_an_error_is_told_in_any_form() -> None:
    begun = wire([START, *block(0, {"type": "text", "text": ""}, text("half"))])
    for body, kind in (
        (begun + b"event: error\ndata: Overloaded\n\n", UpstreamUnavailable),
        (b'[{"error": {"message": "Overloaded", "code": 503}}]', UpstreamUnavailable),
        (begun + b'data: [{"error": {"message": "Overloaded", "code": 503}}]\n\n', UpstreamUnavailable),
    ):
        with pytest.raises(kind, match="Overloaded"):
            read(body, [50])


def test_an_end_without_a_reason_is_one() -> None:
    deltas = read(wire([START, *block(0, {"type": "text", "text": "hi"}), STOP]), [50])
    assert deltas[-1] == CompletionFinished("stop", Usage(25, 1, 26), "claude-x")
    cut = wire([START, *block(0, {"type": "text", "text": "hi"}), end(), STOP])[:-12]
    assert isinstance(read(cut, [50])[-1], CompletionFinished)


def test_a_call_that_came_whole_is_not_told_twice() -> None:
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": 1}}
    deltas = read(wire([START, *block(0, call, said('{"city": 1}')), end("end_turn"), STOP]), [50])
    assert told(deltas)[2] == [["a", "weather", '{"city": 1}']]
    assert isinstance(deltas[-1], CompletionFinished)
    assert deltas[-1].finish_reason == "tool_calls"


CALLS = [{"type": "tool_use", "id": key, "name": "weather", "input": {}} for key in "ab"]
A, B = (block(index, call) for index, call in enumerate(CALLS))


def more(index: int, part: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": said(part)}


@pytest.mark.parametrize(
    "events",
    [
        [A[0], B[0], more(0, '{"c": 1}'), more(1, '{"c": 2}'), A[-1], B[-1]],
        [A[0], more(0, '{"c"'), B[0], more(1, '{"c": 2}'), more(0, ": 1}"), A[-1], B[-1]],
        # As a gateway ends a block when the next one begins.
        [*A, B[0], more(0, '{"c": 1}'), more(1, '{"c": 2}'), B[-1]],
        [A[0], more(0, "{}"), more(0, '{"c": '), more(0, "1}"), A[-1], B[0], more(1, '{"c": 2}'), B[-1]],
        [A[0], more(0, '{"c": 1}'), more(0, '{"c": 1}'), A[-1], B[0], more(1, '{"c": 2}'), B[-1]],
        [A[0], more(0, '{"c": 1}'), A[-1], {**B[0], "index": 0}, more(0, '{"c": 2}'), {**B[-1], "index": 0}],
    ],
    ids=["beside each other", "one overtakes", "after its end", "a placeholder", "all once again", "one index"],
)
def test_calls_that_are_said_at_once_keep_their_own_arguments(events: list[dict[str, Any]]) -> None:
    deltas = read(wire([START, *events, end("tool_use"), STOP]), [1000])
    assert told(deltas)[2] == [["a", "weather", '{"c": 1}'], ["b", "weather", '{"c": 2}']]


def in_order(deltas: list[Delta]) -> list[str]:
    """What was said and called, one after the other, pieces of one kind joined."""
    found: list[tuple[object, str]] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            found.append((delta.index, delta.name + delta.arguments))
        elif isinstance(delta, ContentDelta | ReasoningDelta):
            found.append((type(delta), delta.text))
    return ["".join(text for _kind, text in group) for _kind, group in groupby(found, itemgetter(0))]


@pytest.mark.parametrize(
    ("events", "order"),
    [
        (A, ["weather{}"]),
        ([A[0], more(0, ""), A[-1]], ["weather{}"]),
        ([A[0], more(0, "{}"), A[-1]], ["weather{}"]),
        ([A[0], more(0, "{}")], ["weather{}"]),
        ([A[0], more(0, '{"c": '), A[-1], B[0], more(1, '{"c": 2}'), B[-1]], ['weather{"c": ', 'weather{"c": 2}']),
    ],
    ids=["none", "an empty piece", "a placeholder", "no end", "cut"],
)
@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_what_is_said_after_calls_stays_after_them(events: list[dict[str, Any]], order: list[str], kind: str) -> None:
    after = block(2, {"type": kind, kind: ""}, {"type": f"{kind}_delta", kind: "Looking."})
    reader = MessagesReader(max_bytes=1_000_000, takes_tools=True)
    deltas = list(reader.read(AnswerFraming(max_line_bytes=1000, max_bytes=100_000).feed(wire([*events, *after]))))
    assert in_order(deltas) == [*order, "Looking."]
    assert not [delta for delta in reader.flush() if isinstance(delta, ToolCallDelta)]


@pytest.mark.parametrize("part", ["", "{}"])
def test_the_end_of_a_call_without_arguments_is_told_at_once(part: str) -> None:
    """What breaks off after it has the call."""
    reader = MessagesReader(max_bytes=1_000_000, takes_tools=True)
    body = wire([START, A[0], more(0, part), A[-1]])
    deltas = list(reader.read(AnswerFraming(max_line_bytes=1000, max_bytes=100_000).feed(body)))
    assert told(deltas)[2] == [["a", "weather", "{}"]]


@pytest.mark.parametrize(
    "events",
    [
        [*block(0, {"type": "text", "text": "hi"}), B[0], more(0, '{"c": 2}'), B[-1]],
        [*block(0, CALLS[0], said('{"c": 1}')), B[0], more(0, '{"c"'), more(0, ": 2}"), B[-1]],
        [*block(0, CALLS[0], said("")), B[0], more(0, '{"c": 2}'), B[-1]],
    ],
    ids=["a text's", "another call's", "that of a call without arguments"],
)
def test_arguments_at_a_place_where_nothing_is_to_come_are_of_the_newest_call(events: list[dict[str, Any]]) -> None:
    deltas = read(wire([START, *events, end("tool_use"), STOP]), [1000])
    assert told(deltas)[2][-1] == ["b", "weather", '{"c": 2}']


@pytest.mark.parametrize(
    "parts", [['{"c": 1}', '{"c":1}'], ['{"c"', ": 1}", '{"c":1}'], ["{}", '{"c": 1}', '{"c":1}']]
)
def test_a_block_is_one_call(parts: list[str]) -> None:
    events = [A[0], *(more(0, part) for part in parts), A[-1], B[0], more(1, '{"c": 2}'), B[-1]]
    deltas = read(wire([START, *events, end("tool_use"), STOP]), [1000])
    assert told(deltas)[2] == [["a", "weather", '{"c": 1}'], ["b", "weather", '{"c": 2}']]


def test_too_many_calls_after_the_end_change_nothing() -> None:
    calls = [{"type": "tool_use", "id": f"{n}", "name": "f", "input": {"c": n}} for n in range(MAX_CALLS + 2)]
    blocks = [block(n, call) for n, call in enumerate(calls)]
    events = [START, *blocks[0], end("tool_use"), *(event for parts in blocks[1:] for event in parts), STOP]
    assert len(told(read(wire(events), [10_000]))[2]) == MAX_CALLS


def test_arguments_that_are_a_text_of_json_stay_so() -> None:
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": '{"city": 1}'}
    assert told(read(wire([START, *block(0, call), end("tool_use"), STOP]), [50]))[2] == [
        ["a", "weather", '{"city": 1}']
    ]


def test_what_comes_after_the_end_changes_nothing() -> None:
    answer = [START, *block(0, {"type": "text", "text": "hi"})]
    for body in (
        wire([*answer, end()]) + b"data: [DONE]\n\n",
        wire([*answer, end()]) + b"data: {half\n\n",
        wire(answer) + b"data: [DONE]\n\n",
    ):
        deltas = read(body, [50])
        assert told(deltas)[1] == "hi"
        assert isinstance(deltas[-1], CompletionFinished)
        assert deltas[-1].finish_reason == "stop"
    with pytest.raises(AnswerCut):
        read(b"data: [DONE]\n\n", [50])


# What is sent -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "call"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        ("https://example.com/anthropic", "https://example.com/anthropic/v1/messages"),
        ("https://example.com/api/v1/messages?x=1", "https://example.com/api/v1/messages?x=1"),
        ("https://example.com/v1?x=1", "https://example.com/v1/messages?x=1"),
    ],
)
def test_the_url_of_the_call(url: str, call: str) -> None:
    assert messages_url(url) == call


def test_the_body_of_a_call() -> None:
    asked = CompletionRequest(
        (
            ChatMessage("system", "Be brief."),
            ChatMessage("user", "one"),
            ChatMessage("user", parts=("two", Image("data:image/png;base64,QUE="), Image("https://x.example/y.png"))),
            ChatMessage(
                "assistant", "well", tool_calls=(ToolCall("t", "f", '{"a": 1}'), ToolCall("u", "g", "broken"))
            ),
            ChatMessage("tool", "yes", tool_call_id="t"),
            ChatMessage("tool", "no", tool_call_id="u"),
            ChatMessage("user", "and now?"),
        ),
        temperature=1.7,
        max_tokens=50,
        tools=(Tool("f", "Does f.", {"type": "object", "properties": {}}), Tool("g")),
        params={"stop": "END", "top_p": 0.9, "tool_choice": "required", "parallel_tool_calls": False, "seed": 5},
    )
    body = request_body(endpoint("https://x.example", parameters={"top_k": 3, "temperature": None}), asked)
    assert body == {
        "model": "test-model",
        "max_tokens": 50,
        "system": "Be brief.",
        "stream": True,
        "stop_sequences": ["END"],
        "top_p": 0.9,
        "top_k": 3,
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "tools": [
            {"name": "f", "description": "Does f.", "input_schema": {"type": "object", "properties": {}}},
            {"name": "g", "input_schema": {"type": "object"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "one"},
                    {"type": "text", "text": "two"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUE="}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "well"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "u", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "yes"}]},
                    {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text", "text": "no"}]},
                    {"type": "text", "text": "and now?"},
                ],
            },
        ],
    }


def test_calls_of_before_stand_beside_their_tools_which_are_not_to_be_called_again() -> None:
    """Without a `tools` of its own a request with calls is refused there."""
    call = ChatMessage("assistant", tool_calls=(ToolCall("t", "f", "{}"), ToolCall("u", "f", "{}")))
    results = tuple(ChatMessage("tool", "yes", tool_call_id=key) for key in "tu")
    asked = CompletionRequest((ChatMessage("user", "one"), call, *results, ChatMessage("user", "and now?")))
    body = request_body(endpoint("https://x.example"), asked)
    assert (body["tools"], body["tool_choice"]) == (
        [{"name": "f", "input_schema": {"type": "object"}}],
        {"type": "none"},
    )


# Over a real connection ---------------------------------------------------------------------------------------------
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def ask(upstream: ScriptedUpstream, **options: Any) -> list[Delta]:
    provider = Anthropic(endpoint(f"{upstream.base_url}{MESSAGES}"))
    return [delta async for delta in provider.stream(request("hi", **options))]


async def test_over_a_real_connection(upstream: ScriptedUpstream) -> None:
    upstream.script = [raw(HEAD, *(wire([event]) for event in WHOLE))]
    deltas = await ask(upstream, tools=(Tool("weather"), Tool("time")))
    assert told(deltas)[1] == "The weather in Köln: 😀"
    assert isinstance(deltas[-1], CompletionFinished)
    sent = upstream.requests[-1]
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.headers["x-api-key"].startswith("sk-")
    assert "authorization" not in sent.headers


@pytest.mark.parametrize(
    ("code", "kind", "message", "error"),
    [
        (401, "authentication_error", "invalid x-api-key", UpstreamAuthenticationFailed),
        (529, "overloaded_error", "Overloaded", UpstreamUnavailable),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 208310 tokens > 200000 maximum",
            ContextLengthExceeded,
        ),
    ],
)
async def test_refusals_by_their_kinds(
    upstream: ScriptedUpstream, settings: Any, code: int, kind: str, message: str, error: type[ProviderError]
) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "MAX_RETRIES": 0}
    upstream.script = [status(code, {"type": "error", "error": {"type": kind, "message": message}})]
    with pytest.raises(error):
        await ask(upstream)

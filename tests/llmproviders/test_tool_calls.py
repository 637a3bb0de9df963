"""Calls of tools in every shape that servers give them; messages and tools as a call sends them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders.answer import AnswerFraming, AnswerReader
from llmproviders.answer.tool_calls import MAX_CALLS, ToolCalls
from llmproviders.backends.openai_compatible import OpenAICompatible, request_body
from llmproviders.dialect import Dialect
from llmproviders.exceptions import AnswerTooLarge, EmptyAnswer, ProviderError
from llmproviders.sse import Event
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
)
from tests.upstream import ScriptedUpstream, events

from .conftest import endpoint, request

WEATHER = {"name": "weather", "arguments": '{"city": "Köln"}'}
TIME = {"name": "time", "arguments": "{}"}


def piece(**fields: Any) -> dict[str, Any]:
    """A piece of a call: ``name`` and ``arguments`` under ``function``."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {**fields, "function": function}


# What deltas have under tool_calls, one after the other, and the calls that it is.
SHAPES: dict[str, tuple[list[Any], list[tuple[str, str, str]]]] = {
    "in pieces by index": (
        [
            [piece(index=0, id="a", type="function", name="weather", arguments="")],
            [piece(index=0, arguments='{"city": ')],
            [piece(index=0, arguments='"Köln"}')],
        ],
        [("a", "weather", '{"city": "Köln"}')],
    ),
    "whole in one": ([[piece(index=0, id="a", **WEATHER)]], [("a", "weather", WEATHER["arguments"])]),
    "several at once": (
        [[piece(index=0, id="a", **WEATHER), piece(index=1, id="b", **TIME)]],
        [("a", "weather", WEATHER["arguments"]), ("b", "time", "{}")],
    ),
    "without index": (
        [[piece(id="a", **WEATHER)], [piece(id="b", **TIME)]],
        [("a", "weather", WEATHER["arguments"]), ("b", "time", "{}")],
    ),
    "without index, in pieces": (
        [[piece(id="a", name="weather", arguments='{"city"')], [piece(arguments=': "Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "arguments as an object": (
        [[piece(index=0, id="a", name="weather", arguments={"city": "Köln"})]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "each counted as the first": (
        [[piece(index=0, id="a", **WEATHER)], [piece(index=0, id="b", **TIME)]],
        [("a", "weather", WEATHER["arguments"]), ("b", "time", "{}")],
    ),
    "from one on": ([[piece(index=1, id="a", **TIME)]], [("a", "time", "{}")]),
    "beside each other": (
        [
            [piece(index=0, id="a", name="weather", arguments='{"city": ')],
            [piece(index=1, id="b", **TIME)],
            [piece(index=0, arguments='"Köln"}')],
        ],
        [("a", "weather", WEATHER["arguments"]), ("b", "time", "{}")],
    ),
    "no arguments": ([[piece(index=0, id="a", name="time")]], [("a", "time", "")]),
    "the id with each piece": (
        [[piece(index=0, id="a", name="time", arguments="{")], [piece(index=0, id="a", arguments="}")]],
        [("a", "time", "{}")],
    ),
    "old function_call": ([{"name": "time", "arguments": "{}"}], [("", "time", "{}")]),
    # Gemini: every call is the first, with its name or without, and perhaps an id that says nothing.
    "each the first, no ids": (
        [[piece(index=0, id="", **WEATHER)], [piece(index=0, id="", **TIME)]],
        [("", "weather", WEATHER["arguments"]), ("", "time", "{}")],
    ),
    "each the first, of one tool": (
        [[piece(index=0, **WEATHER), piece(index=0, name="weather", arguments='{"city": "\\"}{"}')]],
        [("", "weather", WEATHER["arguments"]), ("", "weather", '{"city": "\\"}{"}')],
    ),
    "each the first, the second without a name": (
        [
            [piece(index=0, id="a", name="weather", arguments="")],
            [piece(index=0, name="", arguments=WEATHER["arguments"])],
            [piece(index=0, name="", arguments='{"city": "Bonn"}')],
        ],
        [("a", "weather", WEATHER["arguments"]), ("", "weather", '{"city": "Bonn"}')],
    ),
    "each with its tool alone": (
        [[piece(index=0, id="a", name="time")], [piece(index=0, id="b", name="time")]],
        [("a", "time", ""), ("b", "time", "")],
    ),
    # SGLang until 2025, Poolside
    "a new id with each piece": (
        [[piece(index=0, id="a", name="weather")], [piece(index=0, id="b", arguments='{"city": ')],
         [piece(index=0, id="c", arguments='"Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "a new id with each piece, and the name": (
        [[piece(index=0, id="a", name="weather", arguments='{"city": ')],
         [piece(index=0, id="b", name="weather", arguments='"Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "a new id with each piece, no index": (
        [[piece(id="a", name="weather", arguments="{")], [piece(id="b", arguments='"city": "Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    # NIM
    "the name with each piece": (
        [[piece(name="weather", arguments='{"city": ')], [piece(name="weather", arguments='"Köln"}')],
         [piece(name="weather", arguments="")]],
        [("", "weather", WEATHER["arguments"])],
    ),
    "the whole once again": (
        [[piece(index=0, id="a", name="weather", arguments='{"city": ')], [piece(index=0, arguments='"Köln"}')],
         [piece(index=0, arguments=WEATHER["arguments"])], [piece(index=0, id="a", **WEATHER)]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "an escape in two pieces": (
        [[piece(index=0, **TIME | {"arguments": '{"a": "\\'})], [piece(index=0, arguments='"}{"}')],
         [piece(index=0, id="", **TIME)]],
        [("", "time", '{"a": "\\"}{"}'), ("", "time", "{}")],
    ),
    # A whole answer has no index: what stands beside each other are calls, whatever is in them.
    "beside each other, broken": (
        [[piece(id="a", name="weather", arguments='{"city": 1'), piece(id="b", **WEATHER)]],
        [("a", "weather", '{"city": 1'), ("b", "weather", WEATHER["arguments"])],
    ),
    "beside each other, null": (
        [[piece(id="a", name="time", arguments="null"), piece(id="b", name="time", arguments="null")]],
        [("a", "time", "null"), ("b", "time", "null")],
    ),
    "beside each other, no ids": (
        [[piece(**TIME), piece(**TIME), piece(name="time", arguments="")]],
        [("", "time", "{}"), ("", "time", "{}"), ("", "time", "")],
    ),
    "beside each other, each the first": (
        [[piece(index=0, **TIME), piece(index=0, **TIME)]],
        [("", "time", "{}"), ("", "time", "{}")],
    ),
    "one after the other, null": (
        [[piece(id="a", name="time", arguments="null")], [piece(id="b", name="time", arguments="null")]],
        [("a", "time", "null"), ("b", "time", "null")],
    ),
    "one after the other, no ids, after a line": (
        [[piece(name="weather", arguments='\n{"c": 1}')], [piece(name="weather", arguments='\n{"c": 2}')]],
        [("", "weather", '\n{"c": 1}'), ("", "weather", '\n{"c": 2}')],
    ),
    "beside each other, in pieces by id": (
        [[piece(id="a", name="time", arguments='{"c"'), piece(id="b", name="time", arguments='{"d"')],
         [piece(id="a", arguments=": 1}"), piece(id="b", arguments=": 2}")]],
        [("a", "time", '{"c": 1}'), ("b", "time", '{"d": 2}')],
    ),
    # Gateways before Anthropic's and Gemini's models: first that there are no arguments, then those that there are.
    "a placeholder, then pieces": (
        [[piece(index=0, id="a", name="weather", arguments="{}")], [piece(index=0, arguments='{"city": ')],
         [piece(index=0, arguments='"Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "a placeholder, then all": (
        [[piece(index=0, id="a", name="weather", arguments={})], [piece(index=0, arguments="")],
         [piece(index=0, **WEATHER | {"name": ""})]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "a placeholder, then all with its id": (
        [[piece(index=0, id="a", name="weather", arguments="{}")], [piece(index=0, id="a", **WEATHER)]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "a placeholder, then pieces with new ids": (
        [[piece(id="a", name="weather", arguments="null")], [piece(id="b", arguments='{"city": ')],
         [piece(id="c", arguments='"Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "two placeholders beside each other": (
        [[piece(index=0, id="a", name="weather", arguments="{}"), piece(index=1, id="b", name="weather",
          arguments="{}")], [piece(index=0, arguments='{"c": 1}')], [piece(index=1, arguments='{"c": 2}')]],
        [("a", "weather", '{"c": 1}'), ("b", "weather", '{"c": 2}')],
    ),
    "no arguments, then another with some": (
        [[piece(index=0, id="a", name="time", arguments="null")], [piece(index=1, id="b", **WEATHER)]],
        [("a", "time", "null"), ("b", "weather", WEATHER["arguments"])],
    ),
    "in another spelling with its id": (
        [[piece(index=0, id="a", **WEATHER)], [piece(index=0, id="a", name="weather", arguments='{"city":"Köln"}')]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "no arguments, then another": (
        [[piece(index=0, id="a", **TIME)], [piece(index=0, id="b", name="time", arguments='{"zone": "')],
         [piece(index=0, arguments='CET"}')]],
        [("a", "time", "{}"), ("b", "time", '{"zone": "CET"}')],
    ),
    "no arguments in the end": (
        [[piece(index=0, id="a", **WEATHER)], [piece(index=0, id="a", name="weather", arguments="{}")]],
        [("a", "weather", WEATHER["arguments"])],
    ),
    "nothing of use": ([[None, 5, {}], "x"], []),
}  # fmt: skip


def calls(deltas: list[ToolCallDelta]) -> list[tuple[str, str, str]]:
    """What the deltas come to; each call's first has its name, and they come one after the other."""
    found: list[list[str]] = []
    for delta in deltas:
        if delta.index == len(found):
            assert delta.name
            assert delta.id
            found.append([delta.id, delta.name, ""])
        assert delta.index == len(found) - 1, "one after the other"
        found[delta.index][2] += delta.arguments
    return [(identifier, name, arguments) for identifier, name, arguments in found]


@pytest.mark.parametrize("shape", SHAPES)
def test_calls_in_every_shape(shape: str) -> None:
    said, wanted = SHAPES[shape]
    tools = ToolCalls()
    deltas = [delta for value in said for delta in tools.feed(value)]
    deltas += tools.flush()
    found = calls(deltas)
    assert [(identifier if wanted[n][0] else "", *rest) for n, (identifier, *rest) in enumerate(found)] == wanted


def test_a_call_without_an_id_gets_one() -> None:
    first, second = (next(ToolCalls().feed([piece(**TIME)])).id for _number in range(2))
    assert first.startswith("call_")
    assert first != second


def test_nobody_makes_so_many_calls() -> None:
    tools = ToolCalls()
    many = [piece(index=number, id=f"{number}", **TIME) for number in range(MAX_CALLS + 1)]
    with pytest.raises(AnswerTooLarge):
        list(tools.feed(many))


def test_what_a_call_costs_does_not_grow_with_what_came_before() -> None:
    """The first waits for its end, since another has begun: each of its pieces was once read with all before it."""
    tools = ToolCalls()
    list(tools.feed([piece(index=0, id="a", name="weather", arguments='{"city": "'), piece(index=1, id="b", **TIME)]))
    before = time.process_time()
    given = [delta for _piece in range(5_000) for delta in tools.feed([piece(index=0, arguments="K" * 20)])]
    assert time.process_time() - before < 1
    assert sum(len(delta.arguments) for delta in given) == 100_000


def test_what_keeps_a_place_is_looked_at_once() -> None:
    """The second waits behind the first: whether it keeps a place was asked of its begin with each piece of it."""
    tools = ToolCalls()
    list(tools.feed([piece(index=0, id="a", name="weather", arguments='{"city": "')]))
    list(tools.feed([piece(index=1, id="b", name="weather", arguments=" " + '{"city": "' + "K" * 900_000)]))
    before = time.process_time()
    for _piece in range(4_000):
        list(tools.feed([piece(index=1, arguments="")]))
    assert time.process_time() - before < 0.5


def test_what_calls_cost_that_keep_a_place_does_not_grow_with_their_number() -> None:
    tools = ToolCalls()
    for number in range(MAX_CALLS):
        list(tools.feed([piece(index=number, id=f"{number}", **TIME)]))
    said = [[piece(index=MAX_CALLS - 1, arguments="")]] * 60_000
    before = time.process_time()
    for value in said:
        list(tools.feed(value))
    assert time.process_time() - before < 1.5


def body_of(said: list[Any], *, finish: str = "tool_calls", text: str = "") -> bytes:
    deltas = [{"content": text}] if text else []
    deltas += [{"tool_calls": value} if isinstance(value, list) else {"function_call": value} for value in said]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def read(body: bytes, sizes: list[int], *, takes_tools: bool = True) -> list[Delta]:
    """What a reader gives of a body that comes in slices of these sizes, again and again."""
    framing = AnswerFraming(max_line_bytes=100_000, max_bytes=1_000_000)
    reader = AnswerReader(max_bytes=1_000_000, takes_tools=takes_tools)
    deltas: list[Delta] = []
    at, turn = 0, 0
    while at < len(body):
        end = at + sizes[turn % len(sizes)]
        deltas += reader.read(framing.feed(body[at:end]))
        at, turn = end, turn + 1
    deltas += reader.read(framing.end())
    deltas += reader.flush()
    return [*deltas, reader.finished()]


@given(
    st.sampled_from(sorted(SHAPES)),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from(["", "Hm. "]),
)
def test_the_same_whatever_the_slices(shape: str, sizes: list[int], text: str) -> None:
    said, wanted = SHAPES[shape]
    if not wanted:
        return
    deltas = read(body_of([value for value in said if isinstance(value, list | dict)], text=text), sizes)
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)) == text
    found = calls([delta for delta in deltas if isinstance(delta, ToolCallDelta)])
    assert [rest for _id, *rest in found] == [rest for _id, *rest in wanted]
    assert isinstance(deltas[-1], CompletionFinished)
    assert deltas[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("finish", ["stop", "function_call", "tool_use", "tool_calls"])
def test_an_answer_with_calls_ends_as_one(finish: str) -> None:
    last = read(body_of([[piece(index=0, id="a", **TIME)]], finish=finish), [1000])[-1]
    assert isinstance(last, CompletionFinished)
    assert last.finish_reason == "tool_calls"
    plain = read(body_of([], finish="stop", text="hi"), [1000])[-1]
    assert isinstance(plain, CompletionFinished)
    assert plain.finish_reason == "stop"


def test_who_offered_no_tools_gets_none() -> None:
    with pytest.raises(EmptyAnswer):
        read(body_of([[piece(index=0, id="a", **TIME)]]), [1000], takes_tools=False)


def test_a_thought_before_a_call_stays_one() -> None:
    body = b'data: {"choices":[{"delta":{"content":"<think>hm</think>"}}]}\n\n' + body_of([[piece(id="a", **TIME)]])
    deltas = read(body, [7])
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "hm"
    assert not [delta for delta in deltas if isinstance(delta, ContentDelta)]


@pytest.mark.parametrize("kept", ["{}", "null"])
@pytest.mark.parametrize("kind", ["content", "reasoning"])
def test_what_is_said_after_a_call_without_arguments_stays_after_it(kind: str, kept: str) -> None:
    """Nothing more comes of it then: nothing is lost where the answer breaks off."""
    deltas = [{"content": "Let "}, {"content": "me "}, {"content": "see."}] * 4
    deltas += [{"tool_calls": [piece(index=0, id="a", name="time", arguments=kept)]}, {"content": "\n"}]
    deltas += [{kind: "Look"}, {kind: "ing."}]
    chunks = [json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    reader = AnswerReader(max_bytes=1_000_000, takes_tools=True)
    found = [delta for chunk in chunks for delta in reader.read([Event("message", chunk, "")])]
    assert calls([delta for delta in found if isinstance(delta, ToolCallDelta)]) == [("a", "time", kept)]
    last = max(n for n, delta in enumerate(found) if isinstance(delta, ToolCallDelta))
    said = ContentDelta if kind == "content" else ReasoningDelta
    assert "".join(delta.text for delta in found[last:] if isinstance(delta, said)) == "Looking."
    assert not [delta for delta in reader.flush() if isinstance(delta, ToolCallDelta)]


def test_blanks_between_say_nothing_of_the_arguments() -> None:
    body = b"".join(
        b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"
        for delta in (
            {"tool_calls": [piece(index=0, id="a", name="weather", arguments="{}")]},
            {"content": "\n"},
            {"tool_calls": [piece(index=0, arguments=WEATHER["arguments"])]},
        )
    )
    deltas = read(body + body_of([]), [1000])
    assert calls([delta for delta in deltas if isinstance(delta, ToolCallDelta)]) == [
        ("a", "weather", WEATHER["arguments"])
    ]


def test_a_whole_answer_has_calls_too() -> None:
    call = {"id": "a", "type": "function", "function": WEATHER}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()
    assert calls([delta for delta in read(body, [9]) if isinstance(delta, ToolCallDelta)]) == [
        ("a", "weather", WEATHER["arguments"])
    ]


def test_calls_of_the_message_count_where_the_text_alone_came_in_pieces() -> None:
    call = {"id": "a", "type": "function", "function": TIME}
    message = {"content": "Hi", "reasoning": "hm", "tool_calls": [call]}
    chunks = [{"choices": [{"delta": {"content": "Hi"}}]},
              {"choices": [{"delta": {}, "message": message, "finish_reason": "tool_calls"}]}]  # fmt: skip
    deltas = read(b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), [9])
    assert calls([delta for delta in deltas if isinstance(delta, ToolCallDelta)]) == [("a", "time", "{}")]
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta | ReasoningDelta)) == "Hi"


# What is sent -------------------------------------------------------------------------------------------------------
def test_messages_and_tools_as_they_are_sent() -> None:
    asked = CompletionRequest(
        (
            ChatMessage("user", parts=("What is this?", Image("data:image/png;base64,AA=="))),
            ChatMessage("assistant", tool_calls=(ToolCall("a", "weather", '{"city": "Bonn"}'), ToolCall("b", "time"))),
            ChatMessage("tool", "sunny", tool_call_id="a"),
            ChatMessage("tool", "noon", tool_call_id="b"),
        ),
        tools=(Tool("weather", "Says how it is.", {"type": "object"}), Tool("time")),
        params={"tool_choice": "auto", "top_p": 0.5},
    )
    body = request_body(endpoint("http://127.0.0.1/"), asked)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}},
                {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "a"},
        {"role": "tool", "content": "noon", "tool_call_id": "b"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Says how it is.", "parameters": {"type": "object"}},
        },
        {"type": "function", "function": {"name": "time"}},
    ]
    assert (body["tool_choice"], body["top_p"], body["stream"]) == ("auto", 0.5, True)
    plain = request_body(endpoint("http://127.0.0.1/"), request("hi"))
    assert plain["messages"] == [{"role": "user", "content": "hi"}]
    assert "tools" not in plain


def test_a_system_prompt_goes_before_parts_where_its_role_is_not_taken() -> None:
    asked = CompletionRequest((ChatMessage("system", "Be brief."), ChatMessage("user", parts=("Hi", Image("data:x")))))
    body = Dialect(no_system=True).spoken(request_body(endpoint("http://127.0.0.1/"), asked))
    assert body["messages"][0]["content"][:2] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Hi"},
    ]


async def test_over_a_real_connection(upstream: ScriptedUpstream) -> None:
    said, wanted = SHAPES["beside each other"]
    chunks = [{"choices": [{"delta": {"tool_calls": value}}]} for value in said]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    upstream.script = [events(*(json.dumps(chunk) for chunk in chunks), "[DONE]")]
    provider = OpenAICompatible(endpoint(upstream.url))
    asked = CompletionRequest((ChatMessage("user", "hi"),), tools=(Tool("weather"), Tool("time")))
    deltas = [delta async for delta in provider.stream(asked)]
    assert calls([delta for delta in deltas if isinstance(delta, ToolCallDelta)]) == wanted
    assert upstream.requests[-1].body["tools"][0]["function"]["name"] == "weather"
    assert not [delta for delta in deltas if isinstance(delta, ProviderError)]

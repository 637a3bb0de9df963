"""Whole streams of both formats, every kind of event in them, cut at every byte: always the same answer.

``test_dialects`` has the odd ways of single servers; here are whole answers as OpenAI and Anthropic document them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from llmproviders.answer import AnswerFraming, AnswerReader, MessagesReader
from llmproviders.backends.anthropic import Anthropic
from llmproviders.backends.openai_compatible import OpenAICompatible
from llmproviders.exceptions import ProviderError
from llmproviders.types import (
    CompletionFinished,
    ContentDelta,
    Delta,
    ReasoningDelta,
    ThoughtSoFar,
    Tool,
    ToolCallDelta,
    Usage,
)
from tests.upstream import ScriptedUpstream, raw
from tests.upstream.server import MESSAGES, PATH

from .conftest import endpoint, request
from .test_anthropic import START, STOP, block, end, said, text, wire
from .test_tool_calls import SHAPES

Json = dict[str, Any]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
TOOLS = (Tool("weather"), Tool("time"))
WEATHER = ("weather", '{"city": "Köln"}')


@dataclass(frozen=True)
class Told:
    """What an answer comes to, however it was cut: (kind, text) in order, a call's kind being its name."""

    parts: tuple[tuple[str, str], ...]
    finished: CompletionFinished | None = None
    error: str = ""

    @property
    def summary(self) -> tuple[list[tuple[str, str]], str]:
        return list(self.parts), self.error or (self.finished.finish_reason if self.finished else "")


def told(deltas: Iterable[Delta]) -> Told:
    """Take deltas until they end or fail."""
    parts: list[tuple[str, str]] = []
    finished, error, calls = None, "", -1
    try:
        for delta in deltas:
            if isinstance(delta, CompletionFinished):
                finished = delta
            elif isinstance(delta, ThoughtSoFar):
                parts = [("reasoning", "".join(piece for _kind, piece in parts))]
            elif isinstance(delta, ToolCallDelta):
                if delta.index > calls:
                    assert delta.id
                    calls = delta.index
                    parts.append((f"{delta.name}()", ""))
                parts[-1] = parts[-1][0], parts[-1][1] + delta.arguments
            else:
                assert delta.text
                kind = "reasoning" if isinstance(delta, ReasoningDelta) else "content"
                if not parts or parts[-1][0] != kind:
                    parts.append((kind, ""))
                parts[-1] = kind, parts[-1][1] + delta.text
    except ProviderError as failure:
        error = failure.code
    return Told(tuple(parts), finished, error)


def deltas_of(reader: AnswerReader | MessagesReader, pieces: Iterable[bytes]) -> Iterator[Delta]:
    framing = AnswerFraming(max_line_bytes=100_000, max_bytes=100_000)
    for piece in pieces:
        yield from reader.read(framing.feed(piece))
    yield from reader.read(framing.end())
    yield from reader.flush()
    yield reader.finished()


# OpenAI's -----------------------------------------------------------------------------------------------------------
def chunk(delta: Json | None = None, finish: str | None = None, **fields: Any) -> Json:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}


def stream(*events: Json | bytes, line: bytes = b"\n", done: bool = True) -> bytes:
    """Events as ``data:`` lines; bytes as they are."""
    said = [event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() for event in events]
    said += [b"data: [DONE]"] if done else []
    return b"".join(event + line + line for event in said)


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
COUNTED = chunk(
    usage={"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 3}}
)
USAGE = Usage(9, 7, 16, 3)
FILTERED = chunk(prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
# An emoji whose halves came in two chunks, and every kind of bytes.
WORDS = [chunk({"content": part}) for part in ("Grüße ", "aus 科隆: \ud83d", "\ude00", ' "\\"\n\tend.')]
SAID = 'Grüße aus 科隆: 😀 "\\"\n\tend.'
THOUGHT = [chunk({"reasoning_content": part, "content": None}) for part in ("Let me ", "see: 科隆.")]
OPENAI: dict[str, tuple[bytes, list[tuple[str, str]], str]] = {
    "every event of a plain answer": (
        stream(FILTERED, ROLE, *WORDS, chunk({}, "stop"), COUNTED),
        [("content", SAID)],
        "stop",
    ),
    "carriage returns": (
        stream(ROLE, *WORDS, chunk({}, "stop"), COUNTED, line=b"\r\n"),
        [("content", SAID)],
        "stop",
    ),
    "pings, comments and other fields": (
        stream(
            b": OPENROUTER PROCESSING",
            b"retry: 2000",
            b"event: ping\ndata: {}",
            ROLE,
            b"id: 7\nevent: message\ndata: " + json.dumps(WORDS[0]).encode(),
            b'event: something.new\ndata: {"content": "no"}',
            b": ping",
            *WORDS[1:],
            chunk({}, "stop"),
            COUNTED,
        ),
        [("content", SAID)],
        "stop",
    ),
    "thoughts that are told apart": (
        stream(ROLE, *THOUGHT, *WORDS, chunk({}, "length"), COUNTED),
        [("reasoning", "Let me see: 科隆."), ("content", SAID)],
        "length",
    ),
    "thoughts by the other name, in parts": (
        stream(
            chunk({"reasoning": [{"type": "summary_text", "text": "Let me "}, {"type": "text", "text": "see."}]}),
            chunk({"content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            chunk({}, "stop"),
        ),
        [("reasoning", "Let me see."), ("content", "Hi")],
        "stop",
    ),
    "thoughts between tags": (
        stream(
            *(chunk({"content": part}) for part in ("<thi", "nk>Let me", " see.</", "think>\n\nHi")), chunk({}, "stop")
        ),
        [("reasoning", "Let me see."), ("content", "Hi")],
        "stop",
    ),
    "a thought that nobody opened": (
        stream(*(chunk({"content": part}) for part in ("Let me", " see.\n</", "think>", "\n\nHi")), chunk({}, "stop")),
        [("reasoning", "Let me see.\n"), ("content", "Hi")],
        "stop",
    ),
    "a refusal": (
        stream(ROLE, chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "content_filter")),
        [("content", "I cannot.")],
        "content_filter",
    ),
    "counts in each chunk": (
        stream(
            *({**event, "usage": {"prompt_tokens": 9, "completion_tokens": 2}} for event in WORDS),
            chunk({}, "stop"),
            COUNTED,
        ),
        [("content", SAID)],
        "stop",
    ),
    "an error event": (
        stream(ROLE, *WORDS, b'event: error\ndata: {"error": {"message": "out of memory", "code": 500}}'),
        [("content", SAID)],
        "upstream_unavailable",
    ),
    "an error among the chunks": (
        stream(ROLE, {"error": {"message": "too long", "type": "exceed_context_size_error", "n_ctx": 5}}),
        [],
        "context_length",
    ),
    "an end too soon": (stream(ROLE, *WORDS, done=False), [("content", SAID)], "upstream_protocol"),
    "text, then several calls at once": (
        stream(
            ROLE,
            *THOUGHT,
            chunk({"content": "Let me ask."}),
            chunk(
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "a",
                            "type": "function",
                            "function": {"name": WEATHER[0], "arguments": WEATHER[1]},
                        },
                        {"index": 1, "id": "b", "type": "function", "function": {"name": "time", "arguments": {}}},
                    ]
                }
            ),
            chunk({}, "tool_calls"),
            COUNTED,
        ),
        [("reasoning", "Let me see: 科隆."), ("content", "Let me ask."), ("weather()", WEATHER[1]), ("time()", "{}")],
        "tool_calls",
    ),
}
for shape, (values, calls) in SHAPES.items():
    if calls:
        pieces = [
            chunk({"tool_calls": value} if isinstance(value, list) else {"function_call": value}) for value in values
        ]
        OPENAI[f"calls {shape}"] = (
            stream(ROLE, *pieces, chunk({}, "tool_calls"), COUNTED),
            [(f"{name}()", arguments) for _id, name, arguments in calls],
            "tool_calls",
        )

# Anthropic's --------------------------------------------------------------------------------------------------------
PING = {"type": "ping"}
THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Let me "},
    {"type": "thinking_delta", "thinking": "see: 科隆."},
    {"type": "signature_delta", "signature": "EqQB" * 10},
)
REDACTED = block(1, {"type": "redacted_thinking", "data": "EmwK" * 10})
SEARCHED = [
    *block(
        2, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}, said('{"query": '), said('"x"}')
    ),
    *block(
        3,
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s1",
            "content": [
                {"type": "web_search_result", "title": "T", "url": "https://x.example", "encrypted_content": "e"}
            ],
        },
    ),
]
CITED = block(
    4,
    {"type": "text", "text": "", "citations": []},
    text("Grüße aus "),
    {"type": "citations_delta", "citation": {"type": "web_search_result_location", "cited_text": "no answer of it"}},
    text("科隆: \ud83d"),
    text("\ude00"),
)
CALLED = [
    *block(
        5,
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
        said(""),
        said('{"city": '),
        said('"Köln"}'),
    ),
    *block(6, {"type": "tool_use", "id": "t2", "name": "time", "input": {}}),
    *block(7, {"type": "tool_use", "id": "t3", "name": "time", "input": {"zone": "CET"}}),
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
THOUGHT_FIRST = [("reasoning", "Let me see: 科隆."), ("content", "Grüße aus 科隆: 😀")]
ANTHROPIC: dict[str, tuple[bytes, list[tuple[str, str]], str]] = {
    "every event there is": (
        wire([START, PING, *THINKING, *REDACTED, PING, *SEARCHED, *CITED, *CALLED, end("tool_use"), STOP]),
        [*THOUGHT_FIRST, ("weather()", WEATHER[1]), ("time()", "{}"), ("time()", '{"zone": "CET"}')],
        "tool_calls",
    ),
    "kinds of events and blocks that are new": (
        wire(
            [
                START,
                {"type": "content_block_pause", "index": 0},
                *block(0, {"type": "container_upload", "file_id": "f"}),
                *block(1, {"type": "text", "text": "Hi"}, {"type": "new_delta", "text": "no"}, text("!")),
                {**end("pause_turn"), "context_management": {"applied_edits": []}},
                STOP,
            ]
        ),
        [("content", "Hi!")],
        "stop",
    ),
    "carriage returns": (
        wire([START, *THINKING, *CITED, end("max_tokens"), STOP]).replace(b"\n", b"\r\n"),
        THOUGHT_FIRST,
        "length",
    ),
    "without names of events": (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in [START, *CITED, end(), STOP]),
        [("content", "Grüße aus 科隆: 😀")],
        "stop",
    ),
    "an error in the middle": (wire([START, *THINKING, OVERLOADED]), [THOUGHT_FIRST[0]], "upstream_unavailable"),
    "an error at once": (wire([OVERLOADED]), [], "upstream_unavailable"),
    "an end too soon": (wire([START, *CITED[:-1]]), [("content", "Grüße aus 科隆: 😀")], "upstream_protocol"),
    "a call that is cut": (
        wire([START, *CALLED[:3]]),
        [("weather()", '{"city": ')],
        "upstream_protocol",
    ),
}  # fmt: skip

Reader = Callable[[], AnswerReader | MessagesReader]
CASES = [
    *(("openai", name, *case) for name, case in OPENAI.items()),
    *(("anthropic", name, *case) for name, case in ANTHROPIC.items()),
]
every_case = pytest.mark.parametrize(
    ("format_", "name", "body", "parts", "ending"), CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES]
)


def reader_of(format_: str) -> AnswerReader | MessagesReader:
    kind = AnswerReader if format_ == "openai" else MessagesReader
    return kind(max_bytes=100_000, takes_tools=True)


@every_case
def test_wherever_the_bytes_are_cut(
    format_: str, name: str, body: bytes, parts: list[tuple[str, str]], ending: str
) -> None:
    whole = told(deltas_of(reader_of(format_), [body]))
    assert whole.summary == (parts, ending)
    assert told(deltas_of(reader_of(format_), (body[at : at + 1] for at in range(len(body))))) == whole
    for at in range(1, len(body)):
        assert told(deltas_of(reader_of(format_), [body[:at], body[at:]])) == whole, at


@every_case
async def test_over_a_socket_a_byte_a_packet(
    upstream: ScriptedUpstream, format_: str, name: str, body: bytes, parts: list[tuple[str, str]], ending: str
) -> None:
    upstream.script = [raw(HEAD, *(body[at : at + 1] for at in range(len(body))))]
    backend, path = (OpenAICompatible, PATH) if format_ == "openai" else (Anthropic, MESSAGES)
    deltas: list[Delta | ProviderError] = []
    try:
        async with aclosing(
            backend(endpoint(f"{upstream.base_url}{path}")).stream(request("hi", tools=TOOLS))
        ) as come:
            async for delta in come:
                deltas.append(delta)  # one by one: those before an error count
    except ProviderError as error:
        deltas.append(error)
    assert told(_raising(deltas)).summary == (parts, ending)


def _raising(deltas: list[Delta | ProviderError]) -> Iterator[Delta]:
    for delta in deltas:
        if isinstance(delta, ProviderError):
            raise delta
        yield delta


def test_what_was_counted_is_told() -> None:
    body = OPENAI["every event of a plain answer"][0]
    assert told(deltas_of(reader_of("openai"), [body])).finished == CompletionFinished("stop", USAGE, "m")
    body = ANTHROPIC["every event there is"][0]
    finished = CompletionFinished("tool_calls", Usage(25, 9, 34), "claude-x")
    assert told(deltas_of(reader_of("anthropic"), [body])).finished == finished


def test_no_kind_of_delta_is_left_out() -> None:
    """Of those that the cases are made of."""
    kinds = {
        type(delta)
        for format_, _name, body, *_told in CASES
        for delta in _until_it_fails(deltas_of(reader_of(format_), (body[at : at + 1] for at in range(len(body)))))
    }
    assert kinds == {ContentDelta, ReasoningDelta, ThoughtSoFar, ToolCallDelta, CompletionFinished}


def _until_it_fails(deltas: Iterator[Delta]) -> Iterator[Delta]:
    with suppress(ProviderError):
        yield from deltas

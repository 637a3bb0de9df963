"""The OpenAI-compatible backend against the scripted upstream: what it tolerates, and every fault it must name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Endpoint,
    ReasoningDelta,
    ThoughtSoFar,
    UnknownModelType,
    Usage,
    get_provider,
)
from llmproviders import exceptions as e
from llmproviders.answer import AnswerReader
from llmproviders.backends.openai_compatible import OpenAICompatible
from llmproviders.base import Flowing
from llmproviders.sse import Event
from llmproviders.types import Delta
from tests.llmproviders.conftest import KEY, Ask, endpoint, request
from tests.upstream import Behaviour, ScriptedUpstream, answer, echo_text, events, raw, redirect, status

Limits = Callable[..., None]


def chunk(content: str | None = None, *, finish: str | None = None, **delta: Any) -> str:
    if content is not None:
        delta["content"] = content
    return json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


# The request ----------------------------------------------------------------------------------------------------
async def test_the_request_is_openais(upstream: ScriptedUpstream) -> None:
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "你好 😀"))
    provider = OpenAICompatible(endpoint(upstream.url))
    async for _ in provider.stream(CompletionRequest(messages, temperature=0.1, max_tokens=7)):
        pass
    (call,) = upstream.completions
    assert call.body == {
        "model": "test-model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好 😀"}],
        "temperature": 0.1,
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"


async def test_no_key_no_header(ask: Ask, upstream: ScriptedUpstream) -> None:
    await ask(key="")
    assert "authorization" not in upstream.requests[0].headers


async def test_a_key_of_the_environment(ask: Ask, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "from-outside")
    await ask(key="env:MY_KEY")
    assert upstream.requests[0].headers["authorization"] == "Bearer from-outside"
    monkeypatch.setenv("MY_KEY", "another")
    await ask(key="env:MY_KEY")
    assert upstream.requests[1].headers["authorization"] == "Bearer another"


async def test_a_missing_key_of_the_environment_calls_nobody(ask: Ask, upstream: ScriptedUpstream) -> None:
    outcome = await ask(key="env:NO_SUCH_VARIABLE_HERE")
    assert type(outcome.error) is e.UpstreamAuthenticationFailed
    assert upstream.calls == 0


async def test_a_refused_address_is_not_called(ask: Ask) -> None:
    outcome = await ask(url="http://169.254.169.254/latest")
    assert type(outcome.error) is e.AddressRefused


async def test_a_lone_surrogate_in_a_prompt_is_no_error(ask: Ask, upstream: ScriptedUpstream) -> None:
    assert (await ask("a\ud800")).finished
    assert upstream.requests[0].body["messages"][0]["content"] == "a?"


@pytest.mark.parametrize("code", [400, 422])
async def test_a_server_without_stream_options_is_asked_without(
    ask: Ask, upstream: ScriptedUpstream, code: int
) -> None:
    upstream.script = [
        status(code, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}),
        answer("a"),
    ]
    assert (await ask()).content == "a"
    assert ["stream_options" in call.body for call in upstream.completions] == [True, False]


async def test_it_is_asked_without_only_once(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [status(400, {"error": {"message": "stream_options"}})] * 3
    assert type((await ask()).error) is e.UpstreamBadRequest
    assert upstream.calls == 2


# Answers --------------------------------------------------------------------------------------------------------
async def test_deltas_come_one_by_one_then_the_end(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("Hel", "lo", finish="length", model="real-name", delay=0.02)]
    outcome = await ask("one two three")
    assert outcome.deltas == [
        ContentDelta("Hel"),
        ContentDelta("lo"),
        CompletionFinished("length", Usage(3, 2, 5), "real-name"),
    ]


async def test_text_of_one_kind_that_comes_together_is_one_delta(ask: Ask, upstream: ScriptedUpstream) -> None:
    thought = [chunk(reasoning="h"), chunk(reasoning="m")]
    upstream.script = [
        events(*thought, chunk("a"), chunk("\n"), chunk("b"), *thought, chunk("c"), chunk(finish="stop"), "[DONE]")
    ]
    assert (await ask()).deltas == [
        ReasoningDelta("hm"),
        ContentDelta("a\nb"),
        ReasoningDelta("hm"),
        ContentDelta("c"),
        CompletionFinished("stop", None, "m"),
    ]


async def test_text_that_comes_with_an_error_is_given_before_it(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(chunk("a"), chunk("b"), '{"error": {"message": "m", "code": 503}}', chunk("c"))]
    outcome = await ask()
    assert (type(outcome.error), outcome.deltas) == (e.UpstreamUnavailable, [ContentDelta("ab")])


async def test_a_chunked_answer_that_is_read_slowly_is_whole(upstream: ScriptedUpstream) -> None:
    """It has more parts, and more bytes, than are read ahead: the connection is paused and goes on."""
    event = f"data: {chunk('x' * 50)}\n\n".encode()
    last = f"data: {chunk(finish='stop')}\n\ndata: [DONE]\n\n".encode()
    body = (b"%x\r\n%s\r\n" % (len(event), event)) * 20_000 + b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.script = [raw(head, body)]
    length = 0
    async for delta in OpenAICompatible(endpoint(upstream.url)).stream(request()):
        await asyncio.sleep(0.01)
        length += len(getattr(delta, "text", ""))
    assert length == 1_000_000


async def test_a_delta_is_given_while_the_next_is_not_there(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", "b", gate="go", gate_at=1)]
    async with aclosing(OpenAICompatible(endpoint(upstream.url)).stream(request())) as deltas:
        assert await anext(deltas) == ContentDelta("a")
        upstream.gate("go").open()
        assert await anext(deltas) == ContentDelta("b")


class Taker:
    """Takes text that flows in one go, once the upstream has sent all that it will; ``times`` counts how often."""

    def __init__(self, upstream: ScriptedUpstream, *, pause: float = 0.0) -> None:
        self.times = 0
        self.taken: list[Delta] = []
        self._upstream = upstream
        self._pause = pause
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, flowing: Flowing) -> None:
        self.times += 1
        self._tasks.add(asyncio.create_task(self._take(flowing)))

    async def _take(self, flowing: Flowing) -> None:
        self._upstream.gate("go").open()
        await self._upstream.until(lambda: self._upstream.requests[0].answered or not self._upstream.open_connections)
        await asyncio.sleep(0.05 + self._pause)  # what is in the socket, and its end, is received
        self.taken += flowing.take()
        assert not flowing.take()

    def provider(self) -> OpenAICompatible:
        provider = OpenAICompatible(endpoint(self._upstream.url))
        provider.flows = self
        return provider

    async def all_of(self, deltas: AsyncIterator[Delta]) -> list[Delta]:
        """Return what was yielded, and where it was taken what was taken."""
        found: list[Delta] = []
        async for delta in deltas:
            found += [*self.taken, delta]
            self.taken.clear()
        return found


async def test_what_came_meanwhile_is_taken_as_one_delta(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", "b", "c", "d", gate="go", gate_at=1)]
    taker = Taker(upstream)
    deltas = await taker.all_of(taker.provider().stream(request()))
    assert deltas == [ContentDelta("a"), ContentDelta("bcd"), CompletionFinished("stop", Usage(1, 4, 5), "test-model")]
    assert taker.times == 1, "nothing flows once the answer is whole"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_what_came_before_a_cut_is_given_also_where_it_is_taken_later(
    upstream: ScriptedUpstream, how: Literal["fin", "rst"]
) -> None:
    upstream.script = [answer("a", "b", "c", gate="go", gate_at=1, cut=3, how=how)]
    taker = Taker(upstream)
    deltas = taker.provider().stream(request())
    assert await anext(deltas) == ContentDelta("a")
    with pytest.raises(e.AnswerCut):
        await anext(deltas)
    assert taker.taken == [ContentDelta("bc")]


async def test_what_is_more_than_a_step_is_yielded(upstream: ScriptedUpstream) -> None:
    words = ["word " * 50] * 40
    upstream.script = [answer("a", *words, gate="go", gate_at=1)]
    taker = Taker(upstream)
    deltas = await taker.all_of(taker.provider().stream(request()))
    assert "".join(getattr(delta, "text", "") for delta in deltas) == "a" + "".join(words)
    assert deltas[-1] == CompletionFinished("stop", Usage(1, 41, 42), "test-model")


async def test_a_whole_answer_without_the_end_of_its_body_is_whole(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", "b", gate="go", gate_at=1, cut="done", how="fin")]
    taker = Taker(upstream)
    deltas = await taker.all_of(taker.provider().stream(request()))
    assert deltas[1:] == [ContentDelta("b"), CompletionFinished("stop", Usage(1, 2, 3), "test-model")]


async def test_who_takes_late_is_not_the_upstreams_fault(upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(TOTAL_TIMEOUT=2.0)
    upstream.script = [answer("a", "b", gate="go", gate_at=1)]
    taker = Taker(upstream, pause=2.1)
    assert (await taker.all_of(taker.provider().stream(request())))[1] == ContentDelta("b")


async def test_a_server_that_stops_in_the_middle_of_what_flows_is_too_late(
    upstream: ScriptedUpstream, limits: Limits
) -> None:
    limits(BETWEEN_TOKENS_TIMEOUT=0.3)
    upstream.script = [answer("a", "b", gate="never", gate_at=1)]
    provider = OpenAICompatible(endpoint(upstream.url))
    provider.flows = lambda flowing: None
    deltas = provider.stream(request())
    assert await anext(deltas) == ContentDelta("a")
    with pytest.raises(e.UpstreamTimeout):
        await anext(deltas)


async def test_a_server_that_says_itself_that_it_took_too_long_is_believed(upstream: ScriptedUpstream) -> None:
    """Also where more has come before anybody could read on."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    too_long = '{"error": {"message": "timeout", "code": 504}}'
    said = [b"data: %b\n\n" % data.encode() for data in (chunk("a"), too_long, "[DONE]")]
    upstream.script = [raw(head, *said, delay=0.05)]
    provider = OpenAICompatible(endpoint(upstream.url))
    taken = asyncio.Event()

    def flows(flowing: Flowing) -> None:
        def take() -> None:
            flowing.take()
            if flowing._over.done() and flowing._over.exception():  # type: ignore[attr-defined]
                flowing._reply._answer._parts.append(b"data: [DONE]\n\n")  # type: ignore[attr-defined]
                taken.set()

        flowing.on_news = take

    provider.flows = flows
    deltas = provider.stream(request())
    assert await anext(deltas) == ContentDelta("a")
    with pytest.raises(e.UpstreamTimeout):
        await anext(deltas)
    assert taken.is_set()


async def test_an_error_in_what_flows_is_raised_after_what_came_before_it(upstream: ScriptedUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    said = [b"data: %b\n\n" % data.encode() for data in (chunk("a"), chunk("b"), '{"error": {"message": "no"}}')]
    upstream.script = [raw(head, said[0], said[1] + said[2], delay=0.05)]
    taker = Taker(upstream)
    deltas = taker.provider().stream(request())
    assert await anext(deltas) == ContentDelta("a")
    with pytest.raises(e.ProviderError):
        await anext(deltas)
    assert taker.taken == [ContentDelta("b")]


async def test_the_echo_tells_what_the_model_saw(ask: Ask) -> None:
    assert (await ask("Hello  there")).content == echo_text("Hello  there", 0)


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_bytes_in_small_packets(ask: Ask, upstream: ScriptedUpstream, size: int) -> None:
    text = ["你好", "👩‍👩‍👧", "a\u2028b\u0085c\x0bd", "\ud83d", "\ude00"]
    upstream.script = [answer(*text, slice=size)]
    assert (await ask()).content == "你好👩‍👩‍👧a\u2028b\u0085c\x0bd😀"


async def test_raw_line_separators_in_the_text_are_text(ask: Ask, upstream: ScriptedUpstream) -> None:
    line = json.dumps(
        {"choices": [{"delta": {"content": "a\u2028b\u0085c"}, "finish_reason": "stop"}]}, ensure_ascii=False
    )
    upstream.script = [events(line, "[DONE]")]
    assert (await ask()).content == "a\u2028b\u0085c"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_any_line_end(ask: Ask, upstream: ScriptedUpstream, end: bytes) -> None:
    upstream.script = [events(b"\xef\xbb\xbf", ": hi", chunk("a"), ":", chunk("b", finish="stop"), "[DONE]", end=end)]
    assert (await ask()).content == "ab"


async def test_nul_and_surrogates_are_cleaned(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a\0b", "\ud800", "c\ud83d")]
    outcome = await ask()
    assert outcome.content == "ab\ufffdc\ufffd"
    assert all(delta.text for delta in outcome.deltas if isinstance(delta, ContentDelta))
    assert outcome.finished.finish_reason == "stop"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text"])
async def test_reasoning_in_a_field(ask: Ask, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script = [answer("<think>", "yes", reasoning=["h\ud83d", "\ude00m"], reasoning_field=name)]
    outcome = await ask()
    assert (outcome.reasoning, outcome.content) == ("h😀m", "<think>yes")


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_reasoning_in_the_text(ask: Ask, upstream: ScriptedUpstream, size: int) -> None:
    text = "<think>\nhm < 5</think>\n\nyes <think>"
    upstream.script = [answer(*(text[start : start + size] for start in range(0, len(text), size)))]
    outcome = await ask()
    assert (outcome.reasoning, outcome.content) == ("hm < 5", "yes <think>")
    assert outcome.finished


@pytest.mark.parametrize("how_often", [0, 1, 2])
async def test_done_once_twice_or_never(ask: Ask, upstream: ScriptedUpstream, how_often: int) -> None:
    upstream.script = [answer("a", done=how_often)]
    assert (await ask()).finished.usage == Usage(1, 1, 2)


async def test_done_without_a_finish_reason_is_a_stop(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", finish=None)]
    assert (await ask()).finished.finish_reason == "stop"


async def test_no_usage(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", usage=None)]
    assert (await ask()).finished.usage is None


@pytest.mark.parametrize(
    "usage",
    ["many", [], {"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": True, "completion_tokens": 1},
     {"prompt_tokens": 1.5, "completion_tokens": 1}, {"prompt_tokens": 10**30, "completion_tokens": 1}, {}],
)  # fmt: skip
async def test_usage_that_makes_no_sense_is_none(ask: Ask, upstream: ScriptedUpstream, usage: Any) -> None:
    upstream.script = [events(chunk("a", finish="stop"), json.dumps({"choices": [], "usage": usage}), "[DONE]")]
    assert (await ask()).finished.usage is None


async def test_usage_in_the_last_chunk_itself(ask: Ask, upstream: ScriptedUpstream) -> None:
    last = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}
    last["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}  # type: ignore[assignment]
    upstream.script = [events(json.dumps(last), close=False)]
    assert (await ask()).finished.usage == Usage(1, 2, 3)


ODDITIES: list[str | bytes] = [
    ": comment",
    "",
    "{}",
    "[]",
    "null",
    "3",
    '{"choices": []}',
    '{"choices": null}',
    '{"choices": {"a": 1}}',
    '{"choices": [null, 1, "x", []]}',
    '{"choices": [{"delta": null}]}',
    '{"choices": [{"delta": []}]}',
    '{"choices": [{"delta": {"content": null}}]}',
    '{"choices": [{"delta": {"content": [["x"], 7]}}]}',
    '{"choices": [{"delta": {"content": 3, "reasoning": {}}}]}',
    '{"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}, {"index": 2}]}',
    '{"choices": [{"delta": {"role": "assistant", "tool_calls": [{}]}, "finish_reason": null}], "new": {"field": 1}}',
    '{"choices": [{"delta": {}, "finish_reason": 7}], "model": 7, "usage": 7, "error": null}',
    b"event: ping\ndata: not json\n\n",
    b"retry: 5\nid: 3\n\n",
]


async def test_what_is_unknown_or_empty_is_dropped(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(*ODDITIES, chunk("a"), *ODDITIES, chunk("b", finish="stop"), *ODDITIES, "[DONE]")]
    outcome = await ask()
    assert (outcome.content, outcome.finished) == ("ab", CompletionFinished("stop", None, "m"))


async def test_a_whole_answer_as_json(ask: Ask, upstream: ScriptedUpstream) -> None:
    message = {"role": "assistant", "content": "<think>hm</think>yes", "reasoning_content": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "length"}], "usage": usage}
    upstream.script = [status(200, whole)]
    outcome = await ask()
    assert (outcome.reasoning, outcome.content) == ("hm", "yes")
    assert outcome.finished == CompletionFinished("length", Usage(1, 2, 3), "m")


async def test_a_million_small_chunks(ask: Ask, upstream: ScriptedUpstream) -> None:
    one = f"data: {chunk('x')}\n\n".encode()
    upstream.script = [events(one * 100_000, chunk("", finish="stop"), "[DONE]")]
    outcome = await ask()
    assert len(outcome.content) == 100_000
    assert outcome.finished


# Complete or not ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("place", [0, 1, "finish"])
async def test_a_cut_stream_is_not_complete(ask: Ask, upstream: ScriptedUpstream, place: Any, how: str) -> None:
    upstream.script = [answer("a", "b", cut=place, how=how)]
    outcome = await ask()
    assert type(outcome.error) is e.AnswerCut
    assert outcome.content == {0: "", 1: "a", "finish": "ab"}[place]


async def test_a_stream_cut_inside_a_chunk(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(chunk("a"), f"data: {chunk('b', finish='stop')}"[:-4].encode())]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (e.AnswerCut, "a")


@pytest.mark.parametrize("fault", [{"cut": "done", "how": "rst"}, {"cut": "done", "how": "fin"}, {"stall": "done"}])
async def test_after_the_finish_reason_and_usage_nothing_is_missing(
    ask: Ask, upstream: ScriptedUpstream, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproviders.backends.flowing.USAGE_SECONDS", 60.0)
    upstream.script = [answer("a", **fault)]
    started = time.monotonic()
    assert (await ask()).finished == CompletionFinished("stop", Usage(1, 1, 2), "test-model")
    assert time.monotonic() - started < 30


async def test_usage_is_waited_for_a_short_time_only(
    ask: Ask, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproviders.backends.flowing.USAGE_SECONDS", 0.1)
    upstream.script = [answer("a", usage=None, stall="done")]
    assert (await ask()).finished == CompletionFinished("stop", None, "test-model")
    await upstream.closed_by_client()


@pytest.mark.parametrize("word", ["abort", "error"])
async def test_a_finish_reason_that_means_a_failure(ask: Ask, upstream: ScriptedUpstream, word: str) -> None:
    upstream.script = [answer("a", finish=word)]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (e.AnswerCut, "a")


async def test_rubbish_after_the_finish_reason_changes_nothing(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(chunk("a", finish="stop"), "{", '{"error": "x"}', "[DONE]", chunk("more"))]
    outcome = await ask()
    assert (outcome.content, outcome.finished.finish_reason) == ("a", "stop")


# Faults ---------------------------------------------------------------------------------------------------------
DEEP = "[" * 3000


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (events(chunk("a"), "{"), e.UpstreamProtocolError),
        (events(chunk("a"), DEEP), e.UpstreamProtocolError),
        (events(chunk("a"), '{"a":' * 100_000), e.UpstreamProtocolError),
        (events(chunk("a"), f'{{"n": {"9" * 5000}}}'), e.UpstreamProtocolError),
        (events(chunk("a"), '{"error": {"message": "m", "code": 429}}'), e.UpstreamRateLimited),
        (events(chunk("a"), '{"error": "text"}', "[DONE]"), e.UpstreamUnavailable),
        (events(chunk("a"), '{"object": "error", "message": "m", "code": 400}'), e.UpstreamBadRequest),
        (events(chunk("a"), b'event: error\ndata: {"message": "m"}\n\n'), e.UpstreamUnavailable),
        (events(chunk("a")), e.AnswerCut),
    ],
)
async def test_faults_inside_a_stream_keep_what_came_before(
    ask: Ask, upstream: ScriptedUpstream, behaviour: Behaviour, kind: type[e.ProviderError]
) -> None:
    upstream.script = [behaviour]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (kind, "a")


GZIP = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (status(401, {"error": {"message": "no"}}), e.UpstreamAuthenticationFailed),
        (status(403), e.UpstreamAuthenticationFailed),
        (status(400, {"error": {"message": "m", "code": "context_length_exceeded"}}), e.ContextLengthExceeded),
        (status(404, {"error": {"message": "no such model"}}), e.UpstreamBadRequest),
        (status(429), e.UpstreamRateLimited),
        (status(500, "<html>Oops</html>"), e.UpstreamUnavailable),
        (status(503, {"message": "loading"}), e.UpstreamUnavailable),
        (status(408), e.UpstreamTimeout),
        (status(504), e.UpstreamTimeout),
        (redirect("http://169.254.169.254/"), e.UpstreamProtocolError),
        (redirect("http://127.0.0.1:1/", 307), e.UpstreamProtocolError),
        (status(204, content_type="text/event-stream"), e.AnswerCut),
        (status(200, "<html>hi</html>"), e.UpstreamProtocolError),
        (status(200, {"error": {"message": "m", "code": 401}}), e.UpstreamAuthenticationFailed),
        (status(200, {"error": "m"}), e.UpstreamUnavailable),
        (status(200, {"code": 500, "msg": "404 NOT_FOUND", "success": False}), e.UpstreamUnavailable),
        (status(200, {"choices": []}), e.EmptyAnswer),
        (status(200, [1, 2]), e.UpstreamProtocolError),
        (status(200, "{", content_type="application/json"), e.UpstreamProtocolError),
        (status(200, DEEP, content_type="application/json; charset=utf-8"), e.UpstreamProtocolError),
        (status(200, "plain words", content_type="text/plain"), e.AnswerCut),
        (status(200, "x", GZIP), e.UpstreamProtocolError),
        (status(401, "x", GZIP), e.UpstreamAuthenticationFailed),
        (status(429, "x", GZIP), e.UpstreamRateLimited),
        (events(), e.AnswerCut),
        (events(": only a comment"), e.AnswerCut),
    ],
)
async def test_answers_that_are_none(
    ask: Ask, upstream: ScriptedUpstream, behaviour: Behaviour, kind: type[e.ProviderError]
) -> None:
    upstream.script = [behaviour]
    outcome = await ask()
    assert type(outcome.error) is kind
    assert outcome.deltas == []
    assert upstream.calls == 1


async def test_a_key_that_the_upstream_repeats_is_blotted_out(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [status(401, {"error": {"message": f"Key {KEY} (Bearer {KEY}) is wrong\n<b>"}})]
    error = (await ask()).error
    assert error is not None
    assert KEY not in f"{error!r} {error.message}"
    assert error.status == 401


async def test_a_page_is_never_quoted(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [status(500, "<html><body>internal host db-1</body></html>")]
    assert str((await ask()).error) == "The model's server is not available."


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("99999999", 86_400.0), ("soon", None)])
async def test_retry_after_is_handed_on(
    ask: Ask, upstream: ScriptedUpstream, value: str, seconds: float | None
) -> None:
    upstream.script = [status(429, "", {"Retry-After": value})]
    error = (await ask()).error
    assert error is not None
    assert error.retry_after == seconds


async def test_an_error_whose_body_never_comes_is_still_that_error(
    ask: Ask, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproviders.backends.call.ERROR_BODY_SECONDS", 0.05)
    upstream.script = [raw(b"HTTP/1.1 401 No\r\nContent-Length: 100\r\n\r\n{", close=False)]
    assert type((await ask()).error) is e.UpstreamAuthenticationFailed


async def test_an_endless_error_body_is_not_read_to_its_end(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [raw(b"HTTP/1.1 400 No\r\nContent-Length: 999999999\r\n\r\n", b"x" * 200_000, close=False)]
    assert type((await ask()).error) is e.UpstreamBadRequest


async def test_a_line_of_a_hundred_megabytes(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [events(chunk("a"), b"data: " + b"x" * 100_000_000, close=False)]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (e.AnswerTooLarge, "a")
    await upstream.closed_by_client()


@pytest.mark.parametrize(
    "behaviour", [answer("好" * 10, endless=True), answer("x", reasoning=["x" * 50_000], endless=True)]
)
async def test_an_answer_has_a_cap_in_bytes(
    ask: Ask, upstream: ScriptedUpstream, limits: Limits, behaviour: Behaviour
) -> None:
    limits(MAX_ANSWER_BYTES=30_000)
    upstream.script = [behaviour]
    outcome = await ask()
    assert type(outcome.error) is e.AnswerTooLarge
    assert len(outcome.content.encode()) <= 30_000
    await upstream.until(lambda: upstream.open_connections == 0)


# Time -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("place", ["headers", 0])
async def test_the_first_token_has_a_time_limit(
    ask: Ask, upstream: ScriptedUpstream, limits: Limits, place: Any
) -> None:
    limits(FIRST_TOKEN_TIMEOUT=0.2)
    upstream.script = [answer("a", stall=place)]
    error = (await ask()).error
    assert type(error) is e.UpstreamTimeout
    assert str(error) == "The model did not begin to answer in time."
    await upstream.until(lambda: upstream.open_connections == 0)


async def test_an_empty_delta_is_no_first_token(ask: Ask, upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(FIRST_TOKEN_TIMEOUT=0.2)
    upstream.script = [events(chunk("", role="assistant"), close=False)]
    async with asyncio.timeout(5):
        assert type((await ask()).error) is e.UpstreamTimeout


async def test_a_silence_in_the_middle_has_a_time_limit(ask: Ask, upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(BETWEEN_TOKENS_TIMEOUT=0.1)
    upstream.script = [answer("a", "b", stall=1)]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (e.UpstreamTimeout, "a")
    assert str(outcome.error) == "The model stopped in the middle of its answer."
    await upstream.until(lambda: upstream.open_connections == 0)


async def test_comments_are_no_progress(ask: Ask, upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(BETWEEN_TOKENS_TIMEOUT=0.1)
    head, body = events(chunk("a")).pieces
    upstream.script = [raw(head, body, *[b": still here\n\n"] * 200, delay=0.02)]
    outcome = await ask()
    assert (type(outcome.error), outcome.content) == (e.UpstreamTimeout, "a")


async def test_a_whole_answer_has_a_time_limit(ask: Ask, upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(TOTAL_TIMEOUT=0.2)
    upstream.script = [answer("a", endless=True, delay=0.01)]
    outcome = await ask()
    assert type(outcome.error) is e.UpstreamTimeout
    assert str(outcome.error) == "The model did not finish its answer in time."
    await upstream.until(lambda: upstream.open_connections == 0)


async def test_the_time_limits_count_the_upstreams_time_only(upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(BETWEEN_TOKENS_TIMEOUT=1.0)
    upstream.script = [answer("a", "b", "c", gate="go", gate_at=2)]
    upstream.gate("go").open()
    text = ""
    async for delta in OpenAICompatible(endpoint(upstream.url)).stream(request()):
        await asyncio.sleep(1.1)
        text += getattr(delta, "text", "")
    assert text == "abc"


# Stopping -------------------------------------------------------------------------------------------------------
async def test_closing_the_iterator_closes_the_connection_at_once(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", "b", stall=1)]
    deltas = OpenAICompatible(endpoint(upstream.url)).stream(request())
    await anext(deltas)
    await deltas.aclose()
    await upstream.closed_by_client()


@pytest.mark.parametrize("place", ["headers", 0, 1, "done"])
async def test_cancelling_the_task_closes_the_connection_at_once(upstream: ScriptedUpstream, place: Any) -> None:
    upstream.script = [answer("a", usage=None, gate="here", gate_at=place)]

    async def consume() -> None:
        async for _ in OpenAICompatible(endpoint(upstream.url)).stream(request()):
            pass

    task = asyncio.create_task(consume())
    await upstream.until(lambda: upstream.gate("here").reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.closed_by_client()


async def test_many_cancelled_calls_leak_nothing(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.default = answer("a", endless=True, delay=0.001)
    tasks_before = asyncio.all_tasks()

    async def call(index: int) -> None:
        async with asyncio.timeout(0.002 * (index % 20)):
            await ask()

    results = await asyncio.gather(*(call(index) for index in range(200)), return_exceptions=True)
    assert {type(result) for result in results} == {TimeoutError}
    await upstream.until(lambda: upstream.open_connections == 0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks_before
    upstream.default = answer("fine")
    assert (await ask()).content == "fine"


@pytest.mark.parametrize("size", [None, 1])
async def test_a_finished_answer_leaves_its_connection_for_the_next(
    ask: Ask, upstream: ScriptedUpstream, size: int | None
) -> None:
    upstream.default = answer("a", slice=size)  # a byte at a time: the body ends some time after [DONE]
    for _ in range(3):
        assert (await ask()).finished
    assert upstream.connections == 1


# Trying again ---------------------------------------------------------------------------------------------------
@pytest.fixture
def retries(limits: Limits) -> None:
    limits(MAX_RETRIES=2, MAX_RETRY_WAIT=1.0)


@pytest.mark.parametrize(
    "failures",
    [
        [status(503), status(500)],
        [status(429, "", {"Retry-After": "0"})],
        [answer("a", cut="headers")],
        [events('{"error": {"message": "busy", "code": 503}}')],
    ],
)
@pytest.mark.usefixtures("retries")
async def test_a_passing_failure_is_tried_again(ask: Ask, upstream: ScriptedUpstream, failures: list[Any]) -> None:
    upstream.script = [*failures, answer("fine")]
    assert (await ask()).content == "fine"
    assert upstream.calls == len(failures) + 1


@pytest.mark.usefixtures("retries")
async def test_it_is_given_up_after_a_few(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [status(503)] * 5
    assert type((await ask()).error) is e.UpstreamUnavailable
    assert upstream.calls == 3


@pytest.mark.parametrize(
    "behaviour",
    [
        status(401),
        status(400),
        status(504),
        status(429, "", {"Retry-After": "2"}),
        status(503, "", {"Retry-After": "2"}),
        status(200, "<html>"),
        answer("a", "b", cut=1),
        answer("a", "b", cut=0),
        events(chunk("a"), '{"error": {"message": "busy", "code": 503}}'),
    ],
)
@pytest.mark.usefixtures("retries")
async def test_other_failures_are_not_tried_again(ask: Ask, upstream: ScriptedUpstream, behaviour: Behaviour) -> None:
    upstream.script = [behaviour]
    assert (await ask()).error is not None
    assert upstream.calls == 1


@pytest.mark.usefixtures("retries")
async def test_a_short_retry_after_is_waited_for(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [status(429, "", {"Retry-After": "0.2"}), answer("fine")]
    started = time.monotonic()
    assert (await ask()).content == "fine"
    assert time.monotonic() - started >= 0.2


LOADING = [
    status(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    status(503, {"error": "Model m is currently loading", "estimated_time": 0.1}),
    status(503, "The model is still loading"),
]


@pytest.mark.usefixtures("retries")
async def test_a_model_that_loads_is_waited_for_longer_than_other_faults(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [*LOADING, *LOADING, answer("fine")]
    assert (await ask()).content == "fine"
    assert upstream.calls == 7


async def test_a_model_that_loads_is_waited_for_no_longer_than_for_a_first_token(
    ask: Ask, upstream: ScriptedUpstream, limits: Limits
) -> None:
    limits(FIRST_TOKEN_TIMEOUT=1.0)
    upstream.default = LOADING[0]
    assert type((await ask()).error) is e.ModelLoading
    assert upstream.calls <= 5


async def test_no_try_begins_past_the_total(ask: Ask, upstream: ScriptedUpstream, limits: Limits) -> None:
    limits(MAX_RETRIES=5, TOTAL_TIMEOUT=20, MAX_RETRY_WAIT=60)
    upstream.script = [status(429, "", {"Retry-After": "30"})]
    assert type((await ask()).error) is e.UpstreamRateLimited
    assert upstream.calls == 1


# The registry, and the reader by itself -------------------------------------------------------------------------
def test_the_registry_finds_the_backend() -> None:
    assert isinstance(get_provider(endpoint("http://x/")), OpenAICompatible)


def test_the_registry_names_an_unknown_backend() -> None:
    with pytest.raises(UnknownModelType, match="carrier_pigeon"):
        get_provider(Endpoint("x", "X", "http://x/", "m", backend="carrier_pigeon"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "reasoning", "usage", "error", "message", "index", "model",
                             "finish_reason", "object", "code", "prompt_tokens", "completion_tokens"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(documents=st.lists(JSON, max_size=5))
def test_any_json_gives_deltas_or_a_typed_error(documents: Sequence[object]) -> None:
    reader = AnswerReader(max_bytes=1000)
    with suppress(e.ProviderError):
        for document in documents:
            for delta in reader.read([Event("message", json.dumps(document), "")]):
                assert isinstance(delta, ContentDelta | ReasoningDelta)
                assert delta.text
        reader.flush()
        reader.finished()


# Events that differ in their text only are not parsed ------------------------------------------------------------
def what_is_read(lines: Sequence[str], cuts: int, *, parses_all: bool) -> tuple[object, ...]:
    reader = AnswerReader(max_bytes=60, key="secret")
    reader._pattern_pays = not parses_all
    texts: dict[type, str] = {ContentDelta: "", ReasoningDelta: ""}
    order: list[type] = []
    error: type | None = None
    try:
        for start in range(0, len(lines), cuts):
            for delta in reader.read(Event("message", line, "") for line in lines[start : start + cuts]):
                if isinstance(delta, ContentDelta | ReasoningDelta):
                    texts[type(delta)] += delta.text
                else:
                    assert isinstance(delta, ThoughtSoFar)
                order += [] if order[-1:] == [type(delta)] else [type(delta)]
    except e.ProviderError as raised:
        error = type(raised)
    return texts, order, error, reader.events, reader.finish_reason, reader.usage, reader.model, reader.whole


TEXTS = st.one_of(
    st.sampled_from(["a", ":", ",", "content", "delta", "好", "<think>", "</think>", "\"", "\\", "\n", "\0", "",
                     "\x7f", "\ud83d", "\ude00", "\ud800", "\u2028"]),
    st.text(max_size=3),
)  # fmt: skip
FRAMES = [
    '{"choices": [{"delta": {"content": %s}}], "model": "m"}',
    '{"model": "content", "choices": [{"index": 0, "delta": {"role": "a", "content": %s}, "finish_reason": null}]}',
    '{"choices": [{"delta": {"content": "a", "content": %s}}]}',
    '{"choices": [{"delta": {"content": %s, "content": "a"}}]}',
    '{"choices": [{"delta": {"content": %s}}], "choices": [{"delta": {"content": "a"}}]}',
    '{"a":"a", "choices": [{"delta": {"content": "a", "x": %s}}], "n": NaN}',
    '{"choices": [{"delta": {"content": %s, "reasoning": "a"}}]}',
    '{"choices": [{"delta": {"reasoning_content": %s}}]}',
    '{"choices": [{"delta": {"content": %s}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}',
    '{"choices": [{"delta": {"content": %s}, "finish_reason": "stop"}]}',
    '{"choices": [{"delta": {"content": %s}, "index": 1}]}',
    '{"choices": [{"delta": {"content": %s}}, {"delta": {"content": "b"}}]}',
    '{"choices": [{"message": {"content": %s}}]}',
    '{"error": {"message": %s}}',
    '{"choices": [{"delta": {"content": %s}}]',
    "[DONE]%.0s",
]


def run_of(frame: str, texts: Sequence[str], is_ascii: bool) -> list[str]:
    """Events of one kind; a lone surrogate can only be sent escaped."""
    quoted = [json.dumps(text, ensure_ascii=is_ascii).encode("utf-8", "replace").decode() for text in texts]
    return [frame % text for text in quoted]


RUNS = st.builds(
    run_of, st.sampled_from(FRAMES[:2]) | st.sampled_from(FRAMES), st.lists(TEXTS, max_size=8), st.booleans()
)
LINES = st.lists(RUNS, max_size=6).map(lambda runs: [line for run in runs for line in run])


@given(lines=LINES, cuts=st.integers(1, 25))
def test_the_same_is_read_whether_each_event_is_parsed_or_not(lines: Sequence[str], cuts: int) -> None:
    assert what_is_read(lines, cuts, parses_all=False) == what_is_read(lines, cuts, parses_all=True)


def test_events_that_differ_in_their_text_only_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = AnswerReader(max_bytes=1000)
    assert list(reader.read([Event("message", chunk("a"), "")])) == [ContentDelta("a")]
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    assert list(reader.read(Event("message", chunk(text), "") for text in "bcd")) == [ContentDelta("bcd")]


def test_an_event_of_another_kind_is_not_taken_for_one_of_the_pattern() -> None:
    reader = AnswerReader(max_bytes=1000)
    assert list(reader.read(Event(kind, chunk("a"), "") for kind in ("message", "ping", "message"))) == [
        ContentDelta("aa")
    ]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}, ["a", "b"]),
        ({"object": "list", "data": None}, []),  # Ollama, where there is none
        ({"data": None, "models": ["a"]}, ["a"]),
        ({"error": {"message": "no such key", "code": 401}, "data": None}, e.UpstreamAuthenticationFailed),
        ({"success": False, "message": "no", "data": None}, e.UpstreamUnavailable),
        (None, e.UpstreamProtocolError),
        ({"code": 0, "message": "Success", "data": []}, []),
        ({"error": {"message": "no such key", "code": 401}}, e.UpstreamAuthenticationFailed),
        ({"success": False, "errors": [{"message": "no route"}]}, e.UpstreamUnavailable),
        ({"object": "list"}, e.UpstreamProtocolError),
    ],
)
async def test_models_are_listed(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, listed: Any, names: Any
) -> None:
    monkeypatch.setattr(upstream, "_other", lambda _method, _path: status(200, listed))
    asked = OpenAICompatible(endpoint(upstream.url)).list_models(seconds=5)
    if isinstance(names, list):
        assert await asked == names
    else:
        with pytest.raises(names):
            await asked

"""OpenAI's chat completions, as its many imitators speak it: vLLM, SGLang, llama.cpp, GLM, DeepSeek, …

What is tolerated beyond the format: comments, empty choices, null content, any number of ``[DONE]``, usage in
any chunk or none, reasoning in ``reasoning_content``, ``reasoning`` or a leading ``<think>``, errors inside a
200 stream, and a whole answer as JSON although a stream was asked for. A server that refuses
``stream_options`` is asked once more without it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any

from django.utils.translation import gettext_noop

from .. import conf, failures
from ..base import Provider
from ..exceptions import AnswerCut, AnswerTooLarge, ProviderError, UpstreamProtocolError, UpstreamTimeout
from ..guard import check_callable, read_key
from ..http import Deadline, Reply, post_stream
from ..retry import with_retries
from ..sse import Event, SSEDecoder
from ..text import TextCleaner, ThinkSplitter, clean
from ..types import CompletionFinished, CompletionRequest, ContentDelta, Delta, ReasoningDelta, Usage

MAX_ERROR_BYTES = 65_536
MAX_WORD_CHARS = 200
ERROR_BODY_SECONDS = 5.0
# How long to wait after the finish reason for usage and [DONE], and after those for the end of the body,
# without which the connection could not be used again.
USAGE_SECONDS = 2.0
DRAIN_SECONDS = 0.1
BROKEN_OFF = frozenset({"abort", "error"})  # the finish reasons (vLLM, OpenRouter) of an answer that is none
_GONE = (AnswerCut, UpstreamTimeout)


class OpenAICompatible(Provider):
    """Posts to the endpoint's URL and reads the answer as a stream."""

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        url = check_callable(self.endpoint.api_url)
        key = read_key(self.endpoint.api_key)
        with Deadline(conf.get().TOTAL_TIMEOUT) as deadline:
            call = _Call(url, key, request_body(self.endpoint.model, request), deadline)
            async with aclosing(with_retries(call.attempt, deadline)) as deltas:
                async for delta in deltas:
                    yield delta


def request_body(model: str, request: CompletionRequest) -> dict[str, Any]:
    """The JSON of a call, as Python values."""
    return {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


class _Call:
    """One request, posted as often as it takes to get an answer to it."""

    def __init__(self, url: str, key: str, body: dict[str, Any], deadline: Deadline) -> None:
        self._url = url
        self._key = key
        self._body = body
        self._deadline = deadline
        self._settings = conf.get()

    async def attempt(self) -> AsyncGenerator[Delta, None]:
        """Post once and yield the answer's deltas."""
        async with self._accepted() as reply:
            answer = AnswerReader(max_bytes=self._settings.MAX_ANSWER_BYTES, key=self._key)
            if reply.content_type == "application/json":
                for delta in answer.read_whole(await reply.read_all(self._settings.MAX_ANSWER_BYTES)):
                    yield delta
            else:
                events = SSEDecoder(max_line_bytes=self._settings.MAX_LINE_BYTES)
                pace = _Pace(self._deadline, answer)
                while chunk := await pace.read(reply):
                    for event in events.feed(chunk):
                        for delta in answer.read(event):
                            yield delta
            for delta in answer.flush():
                yield delta
            last = answer.finished()
            # Before the last delta: nobody asks for more after it, and an unread connection serves no other call.
            await self._rest(reply, DRAIN_SECONDS)
            yield last

    @asynccontextmanager
    async def _accepted(self) -> AsyncIterator[Reply]:
        """The reply to the request, if it is neither a refusal nor a web page."""
        self._deadline.set(
            self._settings.FIRST_TOKEN_TIMEOUT, gettext_noop("The model did not begin to answer in time.")
        )
        async with self._post() as reply:
            if 200 <= reply.status < 300:
                if reply.content_type == "text/html":
                    raise UpstreamProtocolError(
                        gettext_noop("The model's server sent a web page instead of an answer.")
                    )
                yield reply
                return
            error_body = await self._rest(reply, ERROR_BODY_SECONDS)
        if reply.status in (400, 422) and b"stream_options" in error_body and "stream_options" in self._body:
            del self._body["stream_options"]
            async with self._accepted() as reply:
                yield reply
            return
        raise failures.from_response(reply.status, reply.headers, error_body, key=self._key)

    def _post(self) -> AbstractAsyncContextManager[Reply]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # What UTF-8 cannot hold (lone surrogates) becomes "?" rather than an error here.
        body = json.dumps(self._body, ensure_ascii=False).encode("utf-8", "replace")
        return post_stream(self._url, body=body, headers=headers, model=self._body["model"], deadline=self._deadline)

    async def _rest(self, reply: Reply, seconds: float) -> bytes:
        """What comes of the body within ``seconds``, and no more than is worth reading."""
        self._deadline.set(seconds, "")
        body = b""
        with suppress(*_GONE):
            while len(body) < MAX_ERROR_BYTES and (chunk := await reply.read()):
                body += chunk
        return body[:MAX_ERROR_BYTES]


class _Pace:
    """Reads a reply, with the patience that its phase deserves."""

    def __init__(self, deadline: Deadline, answer: AnswerReader) -> None:
        self._deadline = deadline
        self._answer = answer
        self._between = conf.get().BETWEEN_TOKENS_TIMEOUT
        self._events = 0
        self._ending = False

    async def read(self, reply: Reply) -> bytes:
        """Return the next bytes, or ``b""`` when there are no more or no more are needed."""
        answer = self._answer
        if answer.whole:
            return b""
        if answer.finish_reason is None:
            # A comment does not count as progress, any event does: some models think in empty deltas.
            if answer.begun and answer.events > self._events:
                self._events = answer.events
                self._deadline.set(self._between, gettext_noop("The model stopped in the middle of its answer."))
            return await reply.read()
        if not self._ending:
            self._ending = True
            self._deadline.set(USAGE_SECONDS, "")
        with suppress(*_GONE):
            return await reply.read()
        return b""


class AnswerReader:
    """Turns the events of one answer into deltas. No I/O.

    ``finish_reason`` is set when the upstream has given it, ``whole`` when there is nothing left to wait
    for, ``begun`` with the first delta; ``events`` counts the chunks read.
    """

    def __init__(self, *, max_bytes: int, key: str = "") -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.begun = False
        self.events = 0
        self._done = False
        self._room = max_bytes
        self._key = key
        self._reasoning = TextCleaner()
        self._content = TextCleaner()
        self._splitter: ThinkSplitter | None = ThinkSplitter()

    @property
    def whole(self) -> bool:
        return self._done or (self.finish_reason is not None and self.usage is not None)

    def read(self, event: Event) -> list[Delta]:
        """Return the deltas of one event; unknown kinds of events have none."""
        if event.event not in ("message", "error") or not event.data or self._done:
            return []
        if event.data.startswith("[DONE]"):
            self._done = True
            return []
        self.events += 1
        try:
            document = _object(event.data)
            if event.event == "error" and "error" not in document:
                document = {"error": document or "unknown"}
            return self._read(document)
        except ProviderError:
            if self.finish_reason is None:
                raise
            return []

    def read_whole(self, body: bytes) -> list[Delta]:
        """Return the deltas of an answer that came in one piece, as JSON."""
        document = _object(body.decode("utf-8", "replace"))
        deltas = self._read(document)
        if not document.get("choices"):
            raise UpstreamProtocolError(failures.PLAIN[UpstreamProtocolError])
        self._done = True
        return deltas

    def flush(self) -> list[Delta]:
        """Return the deltas that were held back because more might have belonged to them."""
        deltas = [*self._reasoned(self._reasoning.flush()), *self._split(self._content.flush())]
        if self._splitter is not None:
            reasoning, answer = self._splitter.flush()
            deltas += [*self._reasoned(reasoning), *self._answered(answer)]
        return deltas

    def finished(self) -> CompletionFinished:
        """Return the last delta. Raises ``AnswerCut`` if the upstream did not say that the answer is whole."""
        reason = self.finish_reason or ("stop" if self._done else None)
        if reason is None or reason in BROKEN_OFF:
            raise AnswerCut(gettext_noop("The model's server broke off its answer."))
        return CompletionFinished(reason, self.usage, self.model)

    def _read(self, document: dict[str, Any]) -> list[Delta]:
        if error := failures.from_document(document, key=self._key):
            raise error
        if usage := document.get("usage"):
            self.usage = _usage(usage) or self.usage
        if not self.model:
            self.model = _word(document.get("model"))
        choices = document.get("choices")
        if not isinstance(choices, list):
            return []
        return [delta for choice in choices if isinstance(choice, dict) for delta in self._choice(choice)]

    def _choice(self, choice: dict[str, Any]) -> list[Delta]:
        if choice.get("index"):  # only the first answer was asked for
            return []
        deltas: list[Delta] = []
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if reasoning and isinstance(reasoning, str):
                self._splitter = None
                deltas += self._reasoned(self._reasoning.feed(reasoning))
            content = delta.get("content")
            if content and isinstance(content, str):
                deltas += self._reasoned(self._reasoning.flush())
                deltas += self._split(self._content.feed(content))
        self.finish_reason = _word(choice.get("finish_reason")) or self.finish_reason
        return deltas

    def _split(self, text: str) -> list[Delta]:
        if self._splitter is None:
            return self._answered(text)
        reasoning, answer = self._splitter.feed(text)
        if self._splitter.passed:
            self._splitter = None
        return [*self._reasoned(reasoning), *self._answered(answer)]

    def _reasoned(self, text: str) -> list[Delta]:
        return [ReasoningDelta(self._counted(text))] if text else []

    def _answered(self, text: str) -> list[Delta]:
        return [ContentDelta(self._counted(text))] if text else []

    def _counted(self, text: str) -> str:
        self.begun = True
        self._room -= len(text) if text.isascii() else len(text.encode())
        if self._room < 0:
            raise AnswerTooLarge(gettext_noop("The model's answer is larger than it may be."))
        return text


def _object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``; other JSON values, of which nothing is known, count as an empty one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise UpstreamProtocolError(gettext_noop("The model's server sent malformed JSON.")) from None
    return document if isinstance(document, dict) else {}


def _usage(value: object) -> Usage | None:
    if not isinstance(value, Mapping):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = _count(value.get("total_tokens"))
    return Usage(prompt, completion, prompt + completion if total is None else total)


def _count(value: object) -> int | None:
    """A token count that a database column holds too."""
    return value if type(value) is int and 0 <= value < 2**31 else None


def _word(value: object) -> str:
    return clean(value)[:MAX_WORD_CHARS] if isinstance(value, str) else ""

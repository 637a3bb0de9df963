"""Reads the answer to an OpenAI chat completion: events or one JSON document in, deltas out. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_noop

from .. import failures
from ..exceptions import AnswerCut, AnswerTooLarge, ProviderError, UpstreamProtocolError
from ..sse import Event
from ..text import TextCleaner, ThinkSplitter, clean
from ..types import CompletionFinished, ContentDelta, Delta, ReasoningDelta, Usage

MAX_WORD_CHARS = 200
BROKEN_OFF = frozenset({"abort", "error"})  # the finish reasons (vLLM, OpenRouter) of an answer that is none


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
            self.model = self._word(document.get("model"))
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
        self.finish_reason = self._word(choice.get("finish_reason")) or self.finish_reason
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

    def _word(self, value: object) -> str:
        return failures.without_key(clean(value), self._key)[:MAX_WORD_CHARS] if isinstance(value, str) else ""

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

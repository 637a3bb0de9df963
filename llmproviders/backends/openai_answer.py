"""Reads the answer to an OpenAI chat completion: events or one JSON document in, deltas out. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_noop

from .. import failures
from ..exceptions import AnswerCut, AnswerTooLarge, ProviderError, UpstreamProtocolError
from ..sse import Event
from ..text import TextCleaner, ThinkSplitter, clean
from ..types import CompletionFinished, ContentDelta, Delta, ReasoningDelta, Usage

MAX_WORD_CHARS = 200
BROKEN_OFF = frozenset({"abort", "error"})  # the finish reasons (vLLM, OpenRouter) of an answer that is none

# A pattern that did not even last for this many events costs more than it saves.
PATTERN_PAYS = 4
_PROBE = "\ue000 probe \ue001"
_ESCAPED = re.compile('["\\\\\x00-\x1f]')


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
        # What was read and not yet taken: whole deltas, and the pieces of the one that may go on.
        self._deltas: list[Delta] = []
        self._kind: type[ContentDelta] | type[ReasoningDelta] = ContentDelta
        self._pieces: list[str] = []
        self._pattern: Pattern | None = None
        self._pattern_since = 0
        self._pattern_pays = True
        self._may_skip = False  # whether nothing is going on that an event of the pattern has to go through

    @property
    def whole(self) -> bool:
        return self._done or (self.finish_reason is not None and self.usage is not None)

    def read(self, events: Iterable[Event]) -> Iterator[Delta]:
        """Yield what ``events``, which came together, say: text of one kind that came together is one delta.

        So a delta's way to its reader is gone once for each read, not once for each token. What came before
        an error is given before it is raised. Unknown kinds of events have no deltas.
        """
        try:
            for event in events:
                text = self._pattern.text_of(event.data) if self._may_skip and self._pattern is not None else None
                if text is None or event.event != "message":
                    self._event(event)
                else:
                    self.events += 1
                    self._add(ContentDelta, text)
        except ProviderError:
            yield from self._taken()
            raise
        yield from self._taken()

    def read_whole(self, body: bytes) -> list[Delta]:
        """Return the deltas of an answer that came in one piece, as JSON."""
        document = _object(body.decode("utf-8", "replace"))
        self._read(document)
        if not document.get("choices"):
            raise UpstreamProtocolError(failures.PLAIN[UpstreamProtocolError])
        self._done = True
        return self._taken()

    def flush(self) -> list[Delta]:
        """Return the deltas that were held back because more might have belonged to them."""
        self._add(ReasoningDelta, self._reasoning.flush())
        self._split(self._content.flush())
        if self._splitter is not None:
            reasoning, answer = self._splitter.flush()
            self._add(ReasoningDelta, reasoning)
            self._add(ContentDelta, answer)
        return self._taken()

    def finished(self) -> CompletionFinished:
        """Return the last delta. Raises ``AnswerCut`` if the upstream did not say that the answer is whole."""
        reason = self.finish_reason or ("stop" if self._done else None)
        if reason is None or reason in BROKEN_OFF:
            raise AnswerCut(gettext_noop("The model's server broke off its answer."))
        return CompletionFinished(reason, self.usage, self.model)

    def _event(self, event: Event) -> None:
        if event.event not in ("message", "error") or not event.data or self._done:
            return
        if event.data.startswith("[DONE]"):
            self._done = True
            self._may_skip = False
            return
        self.events += 1
        self._may_skip = False
        try:
            document = _object(event.data)
            if event.event == "error" and "error" not in document:
                document = {"error": document or "unknown"}
            self._read(document)
        except ProviderError:
            if self.finish_reason is None:
                raise
            return
        text_waits = self._splitter is not None or self._content.waits or self._reasoning.waits
        if self._pattern_pays and self.finish_reason is None and not text_waits:
            self._learn(event.data, document)
            self._may_skip = self._pattern_pays

    def _learn(self, data: str, document: dict[str, Any]) -> None:
        """Take this event for the pattern of the next ones, unless it is one of the old pattern."""
        if self._pattern is not None and self._pattern.fits(data):
            return
        pattern = Pattern.of(data, document)
        if pattern is not None:
            self._pattern_pays = self._pattern is None or self.events - self._pattern_since >= PATTERN_PAYS
            self._pattern, self._pattern_since = pattern, self.events

    def _read(self, document: dict[str, Any]) -> None:
        if error := failures.from_document(document, key=self._key):
            raise error
        if usage := document.get("usage"):
            self.usage = _usage(usage) or self.usage
        if not self.model:
            self.model = self._word(document.get("model"))
        choices = document.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        if choice.get("index"):  # only the first answer was asked for
            return
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if reasoning and isinstance(reasoning, str):
                self._splitter = None
                self._add(ReasoningDelta, self._reasoning.feed(reasoning))
            content = delta.get("content")
            if content and isinstance(content, str):
                self._add(ReasoningDelta, self._reasoning.flush())
                self._split(self._content.feed(content))
        self.finish_reason = self._word(choice.get("finish_reason")) or self.finish_reason

    def _split(self, text: str) -> None:
        if self._splitter is None:
            self._add(ContentDelta, text)
            return
        reasoning, answer = self._splitter.feed(text)
        if self._splitter.passed:
            self._splitter = None
        self._add(ReasoningDelta, reasoning)
        self._add(ContentDelta, answer)

    def _add(self, kind: type[ContentDelta] | type[ReasoningDelta], text: str) -> None:
        if not text:
            return
        self.begun = True
        self._room -= len(text) if text.isascii() else len(text.encode())
        if self._room < 0:
            raise AnswerTooLarge(gettext_noop("The model's answer is larger than it may be."))
        if kind is not self._kind:
            self._join()
            self._kind = kind
        self._pieces.append(text)

    def _join(self) -> None:
        if self._pieces:
            self._deltas.append(self._kind("".join(self._pieces)))
            self._pieces.clear()

    def _taken(self) -> list[Delta]:
        self._join()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _word(self, value: object) -> str:
        return failures.without_key(clean(value), self._key)[:MAX_WORD_CHARS] if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What the events of an answer have in common: everything but the text, with most servers.

    To parse a hundred times the same id, time and model is most of what an answer costs (measured: 4 µs an
    event against 1). An event that differs from a parsed one only within the quotes of its text, and has
    nothing there that JSON escapes, would be parsed to the same document with the other text.
    """

    before: str
    after: str
    least: int

    @classmethod
    def of(cls, data: str, document: dict[str, Any]) -> Pattern | None:
        """Return the pattern of an event that was read, if it had text of the answer and nothing else."""
        text = _only_text(document)
        if not text or _ESCAPED.search(text) or _PROBE in data:
            return None
        before, quoted, after = data.rpartition(f'"{text}"')
        if not quoted:
            return None
        before, after = before + '"', '"' + after
        # The place is the right one if another text there is read as the answer's, and all else stays.
        try:
            probed = json.loads(before + _PROBE + after)
            if _only_text(probed) != _PROBE:
                return None
            probed["choices"][0]["delta"]["content"] = text
            return cls(before, after, len(before) + len(after)) if probed == document else None
        except (ValueError, RecursionError):
            return None

    def fits(self, data: str) -> bool:
        """Whether an event is one of these, whatever its text."""
        return data.startswith(self.before) and data.endswith(self.after) and len(data) >= self.least

    def text_of(self, data: str) -> str | None:
        """Return the text of an event that fits; None when it has to be parsed."""
        if not self.fits(data):
            return None
        text = data[len(self.before) : len(data) - len(self.after)]
        return None if _ESCAPED.search(text) else text


def _only_text(document: dict[str, Any]) -> str:
    """The text of an event that has nothing else which ``AnswerReader`` would look at, or ``""``."""
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict):
        return ""
    if document.get("usage") or choice.get("index") or choice.get("finish_reason"):
        return ""
    if delta.get("reasoning_content") or delta.get("reasoning"):
        return ""
    text = delta.get("content")
    return text if isinstance(text, str) else ""


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

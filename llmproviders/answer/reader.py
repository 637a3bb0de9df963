"""Reads the answer to an OpenAI chat completion: events or one JSON document in, deltas out. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.utils.translation import gettext_noop

from .. import failures
from ..exceptions import AnswerCut, AnswerTooLarge, ProviderError, UpstreamProtocolError
from ..reasons import clean_reason, without_key
from ..sse import Event
from ..text import TextCleaner, ThinkSplitter, clean
from ..types import CompletionFinished, ContentDelta, Delta, ReasoningDelta, Usage
from .chunk import choice_of, fullest, texts_of, usage_of
from .documents import MAX_DOCUMENTS, objects, parsed, sequence
from .ending import broken_off, judged, nothing_said
from .framing import LAST, PLAIN, WHOLE
from .gathered import Gathered
from .pattern import Pattern
from .tool_calls import ToolCalls

MAX_WORD_CHARS = 200
MAX_UNKNOWN_PARTS = 8

# A pattern that did not even last for this many events costs more than it saves.
PATTERN_PAYS = 4
_READ = frozenset({"message", "error", LAST})
# How an answer ends that calls tools, and what some servers say instead.
TOOL_CALLS = "tool_calls"
_STOPS = frozenset({"stop", "function_call", "tool_use"})
# What some servers write while an answer goes on.
_NO_REASONS = frozenset({"", "null", "none"})


class AnswerReader:
    """Turns the events of one answer into deltas. No I/O.

    ``finish_reason`` is set when the upstream has given it, ``whole`` when there is nothing left to wait
    for, ``begun`` with the first text, ``unopened`` if it turned out to be thought that nobody had begun; ``events``
    counts the chunks read, ``unknown_parts`` names those of which nothing is known. ``thinks_first``: see
    ``Endpoint``. With ``takes_tools`` calls of tools are part of the answer, and may be all of it.
    """

    def __init__(
        self, *, max_bytes: int, key: str = "", thinks_first: bool = False, takes_tools: bool = False
    ) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.events = 0
        self.unknown_parts: set[str] = set()
        self._done = False
        self._counted = False  # whether counts came with the end, or after it: earlier ones may not be all
        self._gathered = Gathered(max_bytes=max_bytes)
        self._key = key
        self._reasoning = TextCleaner()
        self._content = TextCleaner()
        self._splitter: ThinkSplitter | None = ThinkSplitter(within=thinks_first)
        # Which kinds of text came, also if nothing of it was given yet.
        self._came: set[str] = set()
        self._tools = ToolCalls() if takes_tools else None
        self._pattern: Pattern | None = None
        self._pattern_since = 0
        self._pattern_pays = True
        self._may_skip = False  # whether nothing is going on that an event of the pattern has to go through

    @property
    def begun(self) -> bool:
        return self._gathered.begun

    @property
    def unopened(self) -> bool:
        return self._gathered.unopened

    @property
    def whole(self) -> bool:
        return self._done or self._counted

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
                    self._gathered.add(ContentDelta, text)
        except ProviderError:
            yield from self._gathered.take()
            raise
        yield from self._gathered.take()

    def flush(self) -> list[Delta]:
        """Return the deltas that were held back because more might have belonged to them."""
        self._end_text()
        self._gathered.flush()
        if self._tools is not None:
            self._gathered.calls(self._tools.flush())
        return self._gathered.take()

    def _end_text(self) -> None:
        """Give what of the text was held."""
        self._gathered.add(ReasoningDelta, self._reasoning.flush())
        self._split(self._content.flush())
        if self._splitter is not None:
            reasoning, answer = self._splitter.flush()
            self._gathered.add(ReasoningDelta, reasoning)
            self._gathered.add(ContentDelta, answer)

    def finished(self) -> CompletionFinished:
        """Return the last delta. Raises ``AnswerCut`` if the answer is not whole, ``EmptyAnswer`` if it is none."""
        reason = self.finish_reason or ("stop" if self._done else None)
        if reason is None:
            raise broken_off()
        if "tools" in self._came and reason in _STOPS:
            reason = TOOL_CALLS
        finished = CompletionFinished(reason, self.usage, self.model)
        return judged(finished, answered=self._gathered.answered, thought=self._gathered.thought)

    # Events -------------------------------------------------------------------------------------------------
    def _event(self, event: Event) -> None:
        if self._done:
            return
        self._may_skip = False
        if event.event == WHOLE:
            self._whole(event.data)
        elif event.event == PLAIN:
            raise AnswerCut(clean_reason(event.data, key=self._key) or str(broken_off()))
        elif event.event in _READ and event.data:
            self._chunk(event)

    def _chunk(self, event: Event) -> None:
        data = event.data.lstrip().removeprefix("data:").lstrip()  # some write the field's name twice
        if data.startswith("[DONE]"):
            self._done = True
        elif data.startswith(("{", "[")) or event.event == "error":  # else it is a ping, a date, …
            self.events += 1
            try:
                self._documents(event, data)
            except ProviderError:
                if self.finish_reason is None:
                    raise

    def _documents(self, event: Event, data: str) -> None:
        try:
            document = parsed(data)
        except ValueError:
            self._lines(event, data)
            return
        if event.event == "error" and not (isinstance(document, dict) and "error" in document):
            document = {"error": document or "unknown"}
        for item in objects(document):
            self._read(item)
        if event.event == "message" and isinstance(document, dict):
            self._learn(data, document)

    def _lines(self, event: Event, data: str) -> None:
        """Several documents in one event: the blank lines between them are missing."""
        lines = data.split("\n")
        if event.event == "error":
            self._read({"error": data})
        elif len(lines) > MAX_DOCUMENTS:
            raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
        elif len(lines) > 1:
            for line in lines:
                self._event(event._replace(data=line))
        elif event.event != LAST:  # else half of one: what is missing was cut off
            raise UpstreamProtocolError(gettext_noop("The model's server sent malformed JSON."))

    def _whole(self, text: str) -> None:
        """A body that is JSON: one document, or a line for each chunk."""
        documents, rest = sequence(text)
        for document in documents:
            self._read(document)
        if rest.startswith(("[DONE]", "data: [DONE]", "data:[DONE]")):
            self._done = True
        elif rest or not documents:
            raise UpstreamProtocolError(gettext_noop("The model's server sent malformed JSON."))
        last = documents[-1] if documents else {}
        choice = choice_of(last)
        if choice is None and not self.begun and self.finish_reason is None:
            raise self._no_choice(text, last)
        if choice is not None and not choice.get("delta"):
            self._done = True

    def _no_choice(self, text: str, document: dict[str, Any]) -> ProviderError:
        error = failures.from_response(200, {}, text.encode("utf-8", "replace"), key=self._key)
        if not document or str(error) != failures.PLAIN[UpstreamProtocolError]:
            return error
        return nothing_said(CompletionFinished("", self.usage, self.model), thought=False)

    def _learn(self, data: str, document: dict[str, Any]) -> None:
        """Take this event for the pattern of the next ones, unless it is one of the old pattern."""
        if not self._pattern_pays or self.finish_reason is not None or self._text_waits():
            return
        if self._pattern is None or not self._pattern.fits(data):
            pattern = Pattern.of(data, document)
            if pattern is not None:
                self._pattern_pays = self._pattern is None or self.events - self._pattern_since >= PATTERN_PAYS
                self._pattern, self._pattern_since = pattern, self.events
        self._may_skip = self._pattern_pays

    def _text_waits(self) -> bool:
        held = self._content.waits or self._reasoning.waits or (self._tools is not None and self._tools.waits)
        return held or self._splitter is not None

    # What they say ------------------------------------------------------------------------------------------
    def _read(self, document: dict[str, Any]) -> None:
        if error := failures.from_document(document, key=self._key):
            raise error
        if not self.model:
            self.model = self._word(document.get("model"))
        choice = choice_of(document)
        usage = usage_of(document, choice)
        self.usage = fullest(self.usage, usage)
        if choice is not None:
            self._choice(choice)
        self._counted = self._counted or (usage is not None and self.finish_reason is not None)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        if not self._texts(choice.get("delta")):
            # The whole again, beside a last delta that says nothing, counts for what did not come in pieces. What was
            # thought may have come with the text, within tags.
            thought = {"reasoning"} if "content" in self._came else set()
            self._texts(choice.get("message"), but=frozenset(self._came | thought))
        if choice.get("error") and self.finish_reason is None:
            raise failures.from_document({"error": choice["error"]}, key=self._key) or broken_off()
        reason = self._word(choice.get("finish_reason"))
        if reason.lower() not in _NO_REASONS and (reason != "stop" or self.finish_reason is None):
            self.finish_reason = reason  # some add that it stopped, however it did

    def _texts(self, message: object, *, but: frozenset[str] = frozenset()) -> bool:
        """Take what a delta or message says, but for kinds that came; tell whether it said anything."""
        said = False
        for kind, text in texts_of(message):
            if kind == "unknown":
                if len(self.unknown_parts) < MAX_UNKNOWN_PARTS:
                    self.unknown_parts.add(self._word(text))
            elif kind not in but:
                said = True
                self._came.add(kind)
                if self._tools is not None and self._tools.waits and text.strip():
                    self._gathered.calls(self._tools.settle())
                if kind == "reasoning":
                    self._think(text)
                else:
                    self._gathered.add(ReasoningDelta, self._reasoning.flush())
                    self._split(self._content.feed(text))
        return self._calls(message, but=but) or said

    def _calls(self, message: object, *, but: frozenset[str]) -> bool:
        """Take the calls of a delta or message; tell whether there were any."""
        if self._tools is None or not isinstance(message, dict) or "tools" in but:
            return False
        calls = message.get("tool_calls") or message.get("function_call")
        if not calls:
            return False
        self._came.add("tools")
        self._end_text()
        self._gathered.calls(self._tools.feed(calls))
        return True

    def _think(self, text: str) -> None:
        """Reasoning that is told apart by the server: tags in the text mean nothing then."""
        if self._splitter is not None:
            held = self._splitter.flush()
            self._splitter = None
            self._gathered.add(ReasoningDelta, held[0])
            self._gathered.add(ContentDelta, held[1].lstrip() and held[1])
        self._gathered.add(ReasoningDelta, self._reasoning.feed(text))

    def _split(self, text: str) -> None:
        if self._splitter is None:
            self._gathered.add(ContentDelta, text)
            return
        reasoning, answer = self._splitter.feed(text)
        if self._splitter.passed:
            self._splitter = None
        self._gathered.add(ReasoningDelta, reasoning)
        self._gathered.add(ContentDelta, answer)

    def _word(self, value: object) -> str:
        return without_key(clean(value), self._key)[:MAX_WORD_CHARS] if isinstance(value, str) else ""

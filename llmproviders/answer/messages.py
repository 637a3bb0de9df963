"""Reads the answer to Anthropic's Messages: events or one JSON document in, deltas out. No I/O.

https://docs.anthropic.com/en/api/messages-streaming has the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_noop

from .. import failures
from ..exceptions import AnswerCut, ProviderError, UpstreamProtocolError
from ..reasons import clean_reason, without_key
from ..sse import Event
from ..text import TextCleaner
from ..types import CompletionFinished, ContentDelta, Delta, ReasoningDelta, Usage
from .chunk import count
from .documents import objects, parsed
from .ending import broken_off, judged
from .framing import LAST, PLAIN, WHOLE
from .gathered import Gathered
from .tool_calls import ToolCalls, word

MAX_WORD_CHARS = 200
MAX_UNKNOWN_PARTS = 8
# Their words for the end of an answer, in the words of OpenAI's API; every other word is kept.
FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_PROMPT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_NO_BLOCKS = frozenset({"redacted_thinking"})


@dataclass(slots=True)
class _Call:
    """A block that calls a tool: the number of the call, and how far its arguments have come."""

    number: int
    # Whether all of them came with its begin.
    is_given: bool = False
    # Whether a piece of them came, be it an empty one.
    is_said: bool = False
    # Whether any came.
    is_argued: bool = False
    # Whether the block's end came after a piece.
    is_ended: bool = False


class MessagesReader:
    """The counterpart of ``AnswerReader``; the attributes mean the same. Thoughts are always told apart here."""

    unopened = False

    def __init__(self, *, max_bytes: int, key: str = "", takes_tools: bool = False) -> None:
        self.finish_reason: str | None = None
        self.model = ""
        self.events = 0
        self.unknown_parts: set[str] = set()
        self.whole = False
        self._key = key
        self._tools = ToolCalls(by_index=True) if takes_tools else None
        self._gathered = Gathered(max_bytes=max_bytes, finds_thoughts=False)
        self._reasoning = TextCleaner()
        self._content = TextCleaner()
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._calls: list[_Call] = []
        # The calls by the indexes of their blocks, None for a block that is none; that of the newest block.
        self._call_at: dict[int, _Call | None] = {}
        self._newest: _Call | None = None

    @property
    def begun(self) -> bool:
        return self._gathered.begun

    def read(self, events: Iterable[Event]) -> Iterator[Delta]:
        """Yield what ``events``, which came together, say; what came before an error is given before it is raised."""
        try:
            for event in events:
                self._event(event)
        except ProviderError:
            yield from self._gathered.take()
            raise
        yield from self._gathered.take()

    def flush(self) -> list[Delta]:
        """Return the deltas that were held back because more might have belonged to them."""
        for call in self._calls:
            self._end_call(call)
        self._end_text()
        self._gathered.flush()
        if self._tools is not None:
            self._gathered.calls(self._tools.flush())
        return self._gathered.take()

    def finished(self) -> CompletionFinished:
        """Return the last delta. Raises ``AnswerCut`` if the answer is not whole, ``EmptyAnswer`` if it is none."""
        if self.finish_reason is None:
            raise broken_off()
        usage = None
        if self._prompt_tokens is not None and self._completion_tokens is not None:
            total = self._prompt_tokens + self._completion_tokens
            usage = Usage(self._prompt_tokens, self._completion_tokens, total) if total else None
        # Some say that the turn has ended where it has to go on with the calls.
        reason = "tool_calls" if self._calls and self.finish_reason == "stop" else self.finish_reason
        finished = CompletionFinished(reason, usage, self.model)
        return judged(finished, answered=self._gathered.answered, thought=self._gathered.thought)

    def _event(self, event: Event) -> None:
        if self.whole:
            return
        if event.event == PLAIN:
            raise AnswerCut(clean_reason(event.data, key=self._key) or str(broken_off()))
        try:
            for document in self._documents(event):
                self.events += 1
                self._read(document, whole=event.event == WHOLE)
        except ProviderError:
            if self.finish_reason is None:
                raise

    def _read(self, document: Mapping[str, Any], *, whole: bool) -> None:
        if whole and document.get("type") == "message":
            self._message(document)
        elif error := failures.from_document(document, key=self._key):
            raise error
        else:
            self._say(document)

    def _documents(self, event: Event) -> list[dict[str, Any]]:
        if event.data.lstrip().startswith("[DONE]"):  # of OpenAI's API, and some say nothing else of the end
            self._end(None if self.finish_reason or not self.begun else "end_turn")
            self.whole = True
            return []
        if not event.data.lstrip().startswith(("{", "[")):
            return [{"error": event.data}] if event.event == "error" else []
        try:
            return objects(parsed(event.data))
        except ValueError:
            if event.event == LAST:
                return []  # half of one: what is missing was cut off
            raise UpstreamProtocolError(gettext_noop("The model's server sent malformed JSON.")) from None

    def _say(self, document: Mapping[str, Any]) -> None:
        kind = document.get("type")
        if kind == "message_start":
            self._start(_mapping(document.get("message")))
        elif kind == "content_block_start":
            self._block(_mapping(document.get("content_block")), document.get("index"))
        elif kind == "content_block_delta":
            self._delta(_mapping(document.get("delta")), document.get("index"))
        elif kind == "content_block_stop":
            self._end_call(self._call_of(document.get("index")))
        elif kind == "message_delta":
            self._end(_mapping(document.get("delta")).get("stop_reason"))
            self._count(_mapping(document.get("usage")))
        elif kind == "message_stop":
            self.finish_reason = self.finish_reason or "stop"
            self.whole = True

    def _message(self, document: Mapping[str, Any]) -> None:
        """A whole answer in one document."""
        self._start(document)
        content = document.get("content")
        for block in content if isinstance(content, list) else []:
            self._block(_mapping(block))
            if self._newest is not None:
                self._newest.is_said = True
                self._end_call(self._newest)
        self._end(document.get("stop_reason"))
        self.whole = self.finish_reason is not None

    def _start(self, message: Mapping[str, Any]) -> None:
        self.model = self.model or self._word(message.get("model"))
        self._count(_mapping(message.get("usage")))

    def _block(self, block: Mapping[str, Any], index: object = None) -> None:
        kind = block.get("type")
        self._newest = None
        if kind == "text":
            self._text(ContentDelta, block.get("text"))
        elif kind == "thinking":
            self._text(ReasoningDelta, block.get("thinking"))
        elif kind == "tool_use" and self._tools is not None and self._word(block.get("name")):
            self._end_text()
            given = block.get("input") or ""
            call = _Call(len(self._calls), is_given=bool(given), is_said=bool(given), is_argued=bool(given))
            self._say_call(call, given, id=self._word(block.get("id")), name=self._word(block.get("name")))
            self._calls.append(call)
            self._newest = call
        elif kind not in _NO_BLOCKS and kind != "tool_use" and len(self.unknown_parts) < MAX_UNKNOWN_PARTS:
            self.unknown_parts.add(self._word(kind) or "?")
        if isinstance(index, int):
            self._call_at[index] = self._newest

    def _delta(self, delta: Mapping[str, Any], index: object) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self._text(ContentDelta, delta.get("text"))
        elif kind == "thinking_delta":
            self._text(ReasoningDelta, delta.get("thinking"))
        elif kind == "input_json_delta":
            call, text = self._call_of(index), delta.get("partial_json")
            if call is None or call.is_ended:
                call = self._newest  # some number all of them alike
            if call is not None and not call.is_given and isinstance(text, str):
                call.is_said, call.is_argued = True, call.is_argued or bool(text)
                self._say_call(call, text)

    def _call_of(self, index: object) -> _Call | None:
        """Return the call of a block, without an index the newest: some go on with one when another has begun."""
        return self._call_at.get(index, self._newest) if isinstance(index, int) else self._newest

    def _say_call(self, call: _Call, arguments: object, **fields: str) -> None:
        assert self._tools is not None
        self._gathered.calls(self._tools.feed({"index": call.number, "arguments": arguments, **fields}))

    def _end_call(self, call: _Call | None) -> None:
        """Arguments that did not come are none; where nothing was said of them they still may.

        Some end a block as the next one begins, and say the arguments of both then.
        """
        if call is None or call.is_ended:
            return
        if not call.is_argued:
            call.is_argued = True
            self._say_call(call, "{}")
        if call.is_said and self._tools is not None:
            call.is_ended = True
            self._gathered.calls(self._tools.end(call.number))

    def _text(self, kind: type[ContentDelta] | type[ReasoningDelta], text: object) -> None:
        if isinstance(text, str) and text:
            if self._tools is not None and self._tools.waits and text.strip():
                self._gathered.calls(self._tools.settle())
            cleaner = self._content if kind is ContentDelta else self._reasoning
            self._gathered.add(kind, cleaner.feed(text))

    def _end_text(self) -> None:
        self._gathered.add(ReasoningDelta, self._reasoning.flush())
        self._gathered.add(ContentDelta, self._content.flush())

    def _end(self, reason: object) -> None:
        if word := self._word(reason):
            self.finish_reason = FINISH_REASONS.get(word, word)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """The prompt is counted at the begin, and perhaps again at the end; the answer at the end."""
        if any(count(usage.get(name)) for name in _PROMPT):
            self._prompt_tokens = sum(count(usage.get(name)) or 0 for name in _PROMPT)
        if (tokens := count(usage.get("output_tokens"))) is not None:
            self._completion_tokens = max(tokens, self._completion_tokens or 0)

    def _word(self, value: object) -> str:
        return without_key(word(value), self._key)[:MAX_WORD_CHARS] if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

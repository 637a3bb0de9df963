"""What a model said, as the events of a response and as one response.

``sequence_number`` is 16 × position + k, the place among the events at that position: opening and closing events come
where they happen. So a stream goes on after any of them with nothing stored but the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine.completions import CompletionFinished, ContentDelta, Delta, ReasoningDelta, ThoughtSoFar, ToolCallDelta
from ..web.sse import encode_json, line_of
from .told import FILTERED, LENGTH, finish_reason_of

EVENTS_A_POSITION = 16
MESSAGE, REASONING, CALL = "message", "reasoning", "function_call"
# Of each kind of item: the prefix of its id, and what its events are called.
PREFIXES = {MESSAGE: "msg", REASONING: "rs", CALL: "fc"}
NAMES = {MESSAGE: "output_text", REASONING: "reasoning_text", CALL: "function_call_arguments"}
IN_PROGRESS, COMPLETED, INCOMPLETE = "in_progress", "completed", "incomplete"
FAILED, CANCELLED = "failed", "cancelled"
# Why a response is not whole, by how a completion tells its end.
REASONS = {LENGTH: "max_output_tokens", FILTERED: "content_filter"}
# How a stream tells each end; there is no event of its own for one that was stopped.
LAST_EVENTS = {CANCELLED: INCOMPLETE}


@dataclass(slots=True)
class Item:
    """One part of the output. ``said`` is its text, or a call's arguments; ``place`` counts the parts."""

    kind: str
    id: str
    place: int = 0
    call_id: str = ""
    name: str = ""
    said: list[str] = field(default_factory=list)
    status: str = IN_PROGRESS

    @property
    def text(self) -> str:
        return "".join(self.said)

    @property
    def part(self) -> dict[str, Any]:
        """What stands in its ``content``."""
        if self.kind == REASONING:
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def shown(self) -> dict[str, Any]:
        """Return it as their API shows it."""
        if self.kind == CALL:
            return {
                "id": self.id,
                "type": CALL,
                "status": self.status,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": self.text,
            }
        content = [self.part] if self.said else []
        if self.kind == REASONING:
            return {"id": self.id, "type": REASONING, "summary": [], "content": content, "status": self.status}
        return {"id": self.id, "type": MESSAGE, "role": "assistant", "status": self.status, "content": content}


class Telling:
    """One response while it is told. ``response`` is what is known of it from the begin; ``key`` is in its items' ids.

    ``after`` is the last ``sequence_number`` that the reader has: what came up to it is taken in and not told.
    """

    def __init__(self, response: dict[str, Any], key: str, *, after: int = -1) -> None:
        self.response = response
        self._key = key
        self._after = after
        self._has = after // EVENTS_A_POSITION
        self._position = 0
        self._last = -1
        self.items: list[Item] = []
        self._calls: dict[int, Item] = {}
        # What is not closed yet: at most one text, and at most one call beside it.
        self._open: list[Item] = []
        self.finished: CompletionFinished | None = None

    def begin(self) -> bytes:
        """Return the events that open the stream."""
        running = {**self.response, "status": IN_PROGRESS}
        return self._event("response.created", response=running) + self._event(
            "response.in_progress", response=running
        )

    def tell(self, batch: Iterable[Delta]) -> bytes:
        """Take deltas in; return the events that tell them."""
        return b"".join(event for delta in batch for event in self._told(delta))

    def end(self, status: str, error: dict[str, Any] | None = None, *, reasoning_chars: int = 0) -> bytes:
        """Return the events that close what is open, and the last one."""
        closing = b"".join(self._close(*self._open, status=COMPLETED if status == COMPLETED else INCOMPLETE))
        self.rethink(reasoning_chars)
        kind = f"response.{LAST_EVENTS.get(status, status)}"
        return closing + self._event(kind, response=self.whole(status, error))

    def fault(self, error: dict[str, Any], *, is_end: bool) -> bytes:
        """Return how a fault is told: as the response's end, or as one of the stream alone."""
        told = {name: error[name] for name in ("code", "message")}
        if is_end:
            return self.end(FAILED, told)
        # It has no place among the events: whoever goes on does so after the last that was told.
        body = {"type": "error", "sequence_number": max(self._last, 0), **told, "param": error["param"]}
        return b"event: error\n" + line_of(encode_json(body))

    def whole(self, status: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the response as it ended."""
        for item in self.items:
            item.status = COMPLETED
        if self.items and status != COMPLETED:
            self.items[-1].status = INCOMPLETE
        usage = self.finished.usage if self.finished else None
        return {
            **self.response,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": self._reason()} if status == INCOMPLETE else None,
            "output": [item.shown() for item in self.items],
            "usage": None
            if usage is None
            else usage_shown(usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens),
        }

    def status(self) -> str:
        """How it ended, if it was not by failure or a stop."""
        return INCOMPLETE if self._reason() else COMPLETED

    def rethink(self, reasoning_chars: int) -> None:
        """Take so much of all that was said, from its beginning, for reasoning: a model may say so late."""
        items, self.items, position = self.items, [], 0
        for item in items:
            thought = item.text[: max(0, reasoning_chars - position)] if item.kind == MESSAGE else ""
            position += len(item.text)
            last = self.items[-1] if self.items else None
            if thought and last is not None and last.kind == REASONING:
                last.said.append(thought)
            elif thought:
                self.items.append(Item(REASONING, self._new_id(REASONING), said=[thought]))
            if not thought or len(thought) < len(item.text):
                kept = replace(item, id=self._new_id(item.kind), place=len(self.items))
                self.items.append(replace(kept, said=[item.text[len(thought) :]]) if thought else kept)

    def _reason(self) -> str:
        return REASONS.get(finish_reason_of(self.finished, calls=bool(self._calls)), "")

    def _told(self, delta: Delta) -> Iterator[bytes]:
        if isinstance(delta, ContentDelta | ReasoningDelta):
            kind = MESSAGE if isinstance(delta, ContentDelta) else REASONING
            text = next((item for item in self._open if item.kind != CALL), None)
            if text is not None and text.kind != kind:
                yield from self._close(text)
                text = None
            if text is None:
                text = Item(kind, self._new_id(kind))
                yield from self._opened(text)
            yield self._more(text, delta.text)
        elif isinstance(delta, ToolCallDelta):
            if (call := self._calls.get(delta.index)) is None:
                yield from self._close(*self._open)  # calls come one after the other
                call = self._calls[delta.index] = Item(CALL, self._new_id(CALL), call_id=delta.id, name=delta.name)
                yield from self._opened(call)
            if delta.arguments:
                yield self._more(call, delta.arguments)
        elif isinstance(delta, ThoughtSoFar):
            yield from self._close(*self._open)
            for item in self.items:
                item.kind = REASONING if item.kind == MESSAGE else item.kind
        elif isinstance(delta, CompletionFinished):
            self.finished = delta

    def _new_id(self, kind: str) -> str:
        """Return the id of the next item: its place is in it, so that none has another's."""
        return f"{PREFIXES[kind]}_{self._key}_{len(self.items)}"

    def _opened(self, item: Item) -> Iterator[bytes]:
        item.place = len(self.items)
        self.items.append(item)
        self._open.append(item)
        yield self._event("response.output_item.added", output_index=item.place, item=item.shown())
        if item.kind != CALL:
            yield self._event("response.content_part.added", **_place(item), part=item.part)

    def _more(self, item: Item, text: str) -> bytes:
        item.said.append(text)
        start, self._position = self._position, self._position + len(text)
        missing = text[max(0, self._has - start) :]
        return self._event(f"response.{NAMES[item.kind]}.delta", **_place(item), delta=missing, **_logprobs(item))

    def _close(self, *items: Item, status: str = COMPLETED) -> Iterator[bytes]:
        for item in items:
            self._open.remove(item)
            item.status = status
            key = "arguments" if item.kind == CALL else "text"
            said = {**_place(item), key: item.text, **_logprobs(item)}
            if item.kind == CALL:
                said["name"] = item.name
            yield self._event(f"response.{NAMES[item.kind]}.done", **said)
            if item.kind != CALL:
                yield self._event("response.content_part.done", **_place(item), part=item.part)
            yield self._event("response.output_item.done", output_index=item.place, item=item.shown())

    def _event(self, kind: str, **told: Any) -> bytes:
        number = self._last = max(self._last + 1, EVENTS_A_POSITION * self._position)
        if number <= self._after:
            return b""
        body = {"type": kind, "sequence_number": number, **told}
        return f"event: {kind}\n".encode() + line_of(encode_json(body))


def _place(item: Item) -> dict[str, Any]:
    place: dict[str, Any] = {"item_id": item.id, "output_index": item.place}
    return place if item.kind == CALL else {**place, "content_index": 0}


def _logprobs(item: Item) -> dict[str, Any]:
    return {"logprobs": []} if item.kind == MESSAGE else {}


def usage_shown(prompt: int, completion: int, reasoning: int | None) -> dict[str, Any]:
    """Return what was counted in their words."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning or 0},
        "total_tokens": prompt + completion,
    }

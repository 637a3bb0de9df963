"""An answer as the events of a run: it starts, thinks, says something, and is finished or failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.answer_errors import describe
from ..engine.events import (
    CONTENT,
    FAILED,
    INTERRUPTED,
    STOPPED,
    AnswerIds,
    DoneEvent,
    ErrorEvent,
    Event,
    IdleEvent,
    LoadingEvent,
    Piece,
)
from ..web.sse import LOADING, PING, data_of

PROTOCOL = "1.0"
# What was counted, by their names.
COUNTS = {
    "inputTokens": "prompt_tokens",
    "outputTokens": "completion_tokens",
    "totalTokens": "total_tokens",
    "reasoningTokens": "reasoning_tokens",
}


class Telling:
    """One run while it is told. ``has`` is what the client has of the answer, by the ids of its messages.

    What it has is not told again, if the answer begins so: a client adds what comes to what it has.
    """

    def __init__(self, thread_id: str, run_id: str, ids: AnswerIds, has: Mapping[str, str]) -> None:
        self._run = {"threadId": thread_id, "runId": run_id}
        self._ids: dict[str, Any] = {
            "session_id": str(ids.session_id),
            "message_id": ids.message_id,
            "generation_id": str(ids.generation_id),
        }
        names = {"TEXT": str(ids.message_id), "REASONING": f"{ids.message_id}-reasoning"}
        self._spans = {kind: _Span(kind, name, has.get(name, "")) for kind, name in names.items()}
        self._open: _Span | None = None

    @property
    def opening(self) -> bytes:
        """The event that begins the stream; ``metadata`` is what the answer is called here."""
        return _event("RUN_STARTED", **self._run, protocolVersion=PROTOCOL, metadata=self._ids)

    def encode(self, event: Event, _generation_id: str) -> bytes:
        """Return the events that tell one of the answer's."""
        if isinstance(event, IdleEvent):
            return LOADING if isinstance(event, LoadingEvent) else PING
        if isinstance(event, Piece):
            return self._more(self._spans["TEXT" if event.kind == CONTENT else "REASONING"], event.text)
        if isinstance(event, ErrorEvent):
            waiting = {} if event.retry_after is None else {"retry_after": event.retry_after}
            return self._failed(event.code, event.message, **waiting)
        return self._ended(event)

    def _more(self, span: _Span, text: str) -> bytes:
        opening = b""
        if self._open is not span:
            opening = self._close() + span.begin()
            self._open = span
        return opening + span.content(text)

    def _close(self) -> bytes:
        span, self._open = self._open, None
        return span.end() if span else b""

    def _failed(self, code: str, message: str, **metadata: Any) -> bytes:
        return self._close() + _event("RUN_ERROR", message=message, code=code, metadata={**self._ids, **metadata})

    def _ended(self, done: DoneEvent) -> bytes:
        ending = done.ending
        if ending.status == FAILED:
            return b""  # its error was told
        if ending.status == INTERRUPTED:
            code = ending.error_code or INTERRUPTED
            return self._failed(code, str(describe(code, ending.error_message)))
        told: dict[str, Any] = {
            "outcome": {"type": "cancelled" if ending.status == STOPPED else "success"},
            "metadata": {
                **self._ids,
                "status": ending.status,
                "finish_reason": ending.finish_reason or None,
                "reasoning_chars": done.reasoning_chars,
            },
        }
        if ending.usage is not None:
            told["usage"] = [{name: int(ending.usage[ours]) for name, ours in COUNTS.items() if ours in ending.usage}]
        return self._close() + _event("RUN_FINISHED", **self._run, **told)


class _Span:
    """What is told under one id: a message, or the reasoning before it."""

    def __init__(self, kind: str, name: str, has: str) -> None:
        self._message = f"{kind}_MESSAGE"
        self._is_reasoning = kind == "REASONING"
        self._id = {"messageId": name}
        self._has = has
        # What came and may be what the client has.
        self._held = ""

    def begin(self) -> bytes:
        """Return the events that open it."""
        role = "reasoning" if self._is_reasoning else "assistant"
        opening = _event("REASONING_START", **self._id) if self._is_reasoning else b""
        return opening + _event(f"{self._message}_START", **self._id, role=role)

    def content(self, text: str) -> bytes:
        """Return the event that tells more text, but for what the client has."""
        if self._has:
            self._held += text
            if len(self._held) < len(self._has) and self._has.startswith(self._held):
                return b""
            text = self._held.removeprefix(self._has)
            self._has = self._held = ""
        return _event(f"{self._message}_CONTENT", **self._id, delta=text) if text else b""

    def end(self) -> bytes:
        """Return the events that close it."""
        closing = _event("REASONING_END", **self._id) if self._is_reasoning else b""
        return _event(f"{self._message}_END", **self._id) + closing


def _event(kind: str, **told: Any) -> bytes:
    return data_of({"type": kind, **told})

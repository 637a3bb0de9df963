"""An answer as the events of a run: it starts, thinks, says something, and is finished or failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.answer_errors import describe
from ..engine.events import (
    CONTENT,
    FAILED,
    INTERRUPTED,
    REASONING,
    STOPPED,
    AnswerIds,
    Call,
    DoneEvent,
    Ending,
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
    """One run while it is told. ``has`` is what the client has of the answer, by the ids of its messages and calls.

    What it has is not told again, if the answer begins so: a client adds what comes to what it has. Clients before 1.0
    (``is_old``: they name no version) refuse an end whose ``outcome`` says more than theirs can.
    """

    def __init__(
        self, thread_id: str, run_id: str, ids: AnswerIds, has: Mapping[str, str], *, is_old: bool = False
    ) -> None:
        self._run = {"threadId": thread_id, "runId": run_id}
        self._ids: dict[str, Any] = {
            "session_id": str(ids.session_id),
            "message_id": ids.message_id,
            "generation_id": str(ids.generation_id),
        }
        self._message = str(ids.message_id)
        self._has = has
        self._is_old = is_old
        # By what they are: a kind of text, or the number of a call.
        self._spans: dict[str | int, _Span] = {}
        self._calls: list[str] = []
        # Each is a message of its own, and stands where it was thought; a text is one, which goes on.
        self._thoughts = 0
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
            return self._more(self._span_of(event), event.text)
        if isinstance(event, ErrorEvent):
            waiting = {} if event.retry_after is None else {"retry_after": event.retry_after}
            return self._failed(event.code, event.message, **waiting)
        return self._ended(event)

    def _span_of(self, piece: Piece) -> _Span:
        key = piece.kind if piece.call is None else piece.call.number
        span = self._spans.get(key)
        if span is None or (key == REASONING and span is not self._open):
            span = self._spans[key] = self._new_span(piece)
        return span

    def _new_span(self, piece: Piece) -> _Span:
        if piece.call is not None:
            self._calls.append(piece.call.id)
            return _call(piece.call, self._message, self._has.get(piece.call.id, ""))
        if piece.kind == CONTENT:
            return _text(self._message, self._has.get(self._message, ""))
        self._thoughts += 1
        name = f"{self._message}-reasoning" + (f"-{self._thoughts}" if self._thoughts > 1 else "")
        return _reasoning(name, self._has.get(name, ""))

    def _more(self, span: _Span, text: str) -> bytes:
        opening = b""
        if self._open is not span:
            opening = self._close() + span.begin
            self._open = span
        return opening + span.content(text)

    def _close(self) -> bytes:
        span, self._open = self._open, None
        return span.end if span else b""

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
            **self._outcome(ending),
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

    def _outcome(self, ending: Ending) -> dict[str, Any]:
        """Return what is said of the end; the calls of a whole answer are the front end's to run."""
        if self._is_old:
            return {}
        if ending.status == STOPPED:
            return {"outcome": {"type": "cancelled"}}
        return {"outcome": {"type": "success", **({"pendingToolCallIds": self._calls} if self._calls else {})}}


class _Span:
    """What is told under one id: a message, the reasoning before it, a call. ``has`` is what the client has of it."""

    def __init__(self, name: dict[str, str], more: str, has: str, *, begin: bytes, end: bytes) -> None:
        self.begin, self.end = begin, end
        self._name, self._kind, self._has = name, more, has
        # What came and may be what the client has.
        self._held = ""

    def content(self, text: str) -> bytes:
        """Return the event that tells more text, but for what the client has."""
        if self._has:
            self._held += text
            if len(self._held) < len(self._has) and self._has.startswith(self._held):
                return b""
            text = self._held.removeprefix(self._has)
            self._has = self._held = ""
        return _event(self._kind, **self._name, delta=text) if text else b""


def _text(message_id: str, has: str) -> _Span:
    name = {"messageId": message_id}
    begin = _event("TEXT_MESSAGE_START", **name, role="assistant")
    return _Span(name, "TEXT_MESSAGE_CONTENT", has, begin=begin, end=_event("TEXT_MESSAGE_END", **name))


def _reasoning(message_id: str, has: str) -> _Span:
    name = {"messageId": message_id}
    begin = _event("REASONING_START", **name) + _event("REASONING_MESSAGE_START", **name, role="reasoning")
    end = _event("REASONING_MESSAGE_END", **name) + _event("REASONING_END", **name)
    return _Span(name, "REASONING_MESSAGE_CONTENT", has, begin=begin, end=end)


def _call(call: Call, message_id: str, has: str) -> _Span:
    name = {"toolCallId": call.id}
    begin = _event("TOOL_CALL_START", **name, toolCallName=call.name, parentMessageId=message_id)
    return _Span(name, "TOOL_CALL_ARGS", has, begin=begin, end=_event("TOOL_CALL_END", **name))


def _event(kind: str, **told: Any) -> bytes:
    return data_of({"type": kind, **told})

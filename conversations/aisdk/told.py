"""An answer as the parts of a message, with no key but those that versions 5, 6 and 7 of the client all take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils import translation

from ..engine import answer_errors
from ..engine.events import (
    COMPLETED,
    CONTENT,
    INTERRUPTED,
    STOPPED,
    Call,
    DoneEvent,
    ErrorEvent,
    Event,
    IdleEvent,
    Piece,
    pieces_of_row,
)
from ..models import Message, parts_of
from ..services import StoredAnswer
from ..web.sse import DONE, PING, EventEncoding, data_of, encode_json, line_of
from .shown import name_of
from .tools import input_of, output_of

START_STEP, FINISH_STEP, ABORT = (data_of({"type": kind}) for kind in ("start-step", "finish-step", "abort"))


@dataclass(slots=True)
class _Called:
    """A call, as far as it was told."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)
    is_looked_at: bool = False
    is_told: bool = False


class Telling:
    """Writes one answer: parts open and close as their kinds come, in any order.

    ``before`` are the answers and results that it goes on from: with it they are one message. They are told too if it
    ``replays`` that message, and else the client has them.
    """

    def __init__(self, answer: StoredAnswer, before: Sequence[Message] = (), *, replays: bool = False) -> None:
        self._answer = answer
        self._before = before
        self._replays = replays
        self._kind = ""  # of the part that is open, and its id
        self._part = ""
        self._parts = 0
        self._calls: dict[int, _Called] = {}  # by their numbers
        self._language = translation.get_language()

    @property
    def encoding(self) -> EventEncoding:
        """How this answer goes out; for one stream."""
        return EventEncoding(self.begin(), self.tell, closing=DONE)

    def begin(self) -> bytes:
        """Return what comes before all text of the answer."""
        answer, message = self._answer, self._answer.message
        metadata = {
            "session_id": str(answer.ids.session_id),
            "message_id": answer.ids.message_id,
            "parent_id": answer.question.pk,
            "generation_id": str(answer.ids.generation_id),
            "model": message.model,
            "model_type": message.model_type,
            "status": "running",
        }
        first = self._before[0] if self._before else message
        told = [data_of({"type": "start", "messageId": name_of(first), "messageMetadata": metadata}), START_STEP]
        for said in self._before if self._replays else ():
            told.append(self._results(said) if said.role == Message.Role.TOOL else self._whole(said))
        return b"".join(told)

    def tell(self, event: Event, _generation_id: str) -> bytes:
        """Return one event in wire format."""
        if isinstance(event, Piece):
            if event.call is not None:
                return self._arguments(event.call, event.text)
            return self._text("text" if event.kind == CONTENT else "reasoning", event.text)
        if isinstance(event, IdleEvent):
            return PING
        if isinstance(event, ErrorEvent):
            return self._end_text() + _error(event.message)
        return self._end(event)

    def _whole(self, answer: Message) -> bytes:
        """Return the parts of an answer that ended."""
        told = [self.tell(piece, "") for piece in pieces_of_row(answer)]
        return b"".join([*told, self._close(), self._called(is_end=True)])

    def _results(self, said: Message) -> bytes:
        """Return what came of calls, and the begin of what goes on with it."""
        told = [
            data_of({"type": "tool-output-available", "toolCallId": part["id"], "output": output_of(text)})
            for part, text in parts_of(said)
        ]
        return b"".join([*told, FINISH_STEP, START_STEP])

    def _text(self, kind: str, text: str) -> bytes:
        opened = b""
        if kind != self._kind:
            opened = self._close() + self._open(kind)
        return opened + line_of(f'{{"type": "{kind}-delta", "id": "{self._part}", "delta": {encode_json(text)}}}')

    def _open(self, kind: str) -> bytes:
        self._kind, self._part = kind, f"{kind}-{self._parts}"
        self._parts += 1
        return data_of({"type": f"{kind}-start", "id": self._part})

    def _close(self) -> bytes:
        """Return the end of what came last: of a text, or else of the calls that are whole by now."""
        return self._end_text() or self._called()

    def _end_text(self) -> bytes:
        kind, self._kind = self._kind, ""
        return data_of({"type": f"{kind}-end", "id": self._part}) if kind else b""

    def _arguments(self, call: Call, text: str) -> bytes:
        told = b""
        if call.id or self._kind:
            told = self._close()
        if call.id:
            self._calls[call.number] = _Called(call.id, call.name)
            told += data_of({"type": "tool-input-start", "toolCallId": call.id, "toolName": call.name})
        called = self._calls[call.number]
        called.arguments.append(text)
        return told + data_of({"type": "tool-input-delta", "toolCallId": called.id, "inputTextDelta": text})

    def _called(self, *, is_end: bool = False) -> bytes:
        """Return the calls that are whole: those whose arguments are JSON when another part begins, at the end all."""
        told = []
        for called in self._calls.values():
            if called.is_told or (called.is_looked_at and not is_end):
                continue  # to look each time would take as long as all arguments together, each time
            called.is_looked_at = True
            given = input_of("".join(called.arguments))
            if is_end or isinstance(given, dict):
                called.is_told = True
                names = {"toolCallId": called.id, "toolName": called.name}
                told.append(data_of({"type": "tool-input-available", **names, "input": given}))
        if is_end:
            self._calls.clear()
        return b"".join(told)

    def _end(self, done: DoneEvent) -> bytes:
        ending = done.ending
        metadata: dict[str, Any] = {
            "status": ending.status,
            "finish_reason": ending.finish_reason or None,
            "usage": ending.usage,
            "reasoning_chars": done.reasoning_chars,
        }
        if ending.model:
            metadata["model"] = ending.model
        told = [self._end_text()]
        if ending.status == COMPLETED:  # else nobody is to run them
            told.append(self._called(is_end=True))
        if ending.status == INTERRUPTED:
            with translation.override(self._language):
                told.append(_error(answer_errors.describe(INTERRUPTED, ending.error_message)))
        if ending.status == STOPPED:
            told.append(ABORT)
        finish = data_of({"type": "finish", "messageMetadata": metadata})
        return b"".join([*told, FINISH_STEP, finish, DONE])


def _error(text: str) -> bytes:
    return data_of({"type": "error", "errorText": text})

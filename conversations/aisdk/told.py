"""An answer as the parts of a message, with no key but those that versions 5, 6 and 7 of the client all take."""

from __future__ import annotations

from typing import Any

from django.utils import translation

from ..engine import answer_errors
from ..engine.events import CONTENT, INTERRUPTED, STOPPED, DoneEvent, ErrorEvent, Event, IdleEvent, Piece
from ..services import StoredAnswer
from ..web.sse import PING, EventEncoding, data_of, encode_json, line_of

DONE = b"data: [DONE]\n\n"
START_STEP, FINISH_STEP, ABORT = (data_of({"type": kind}) for kind in ("start-step", "finish-step", "abort"))


class Telling:
    """Writes one answer: parts open and close as their kinds come, in any order."""

    def __init__(self, answer: StoredAnswer) -> None:
        self._answer = answer
        self._kind = ""  # of the part that is open, and its id
        self._part = ""
        self._parts = 0
        self._language = translation.get_language()

    @property
    def encoding(self) -> EventEncoding:
        """How this answer goes out; for one stream."""
        return EventEncoding(self.begin(), self.tell, closing=DONE)

    def begin(self) -> bytes:
        """Return what comes before all text."""
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
        start = {"type": "start", "messageId": str(answer.ids.message_id), "messageMetadata": metadata}
        return data_of(start) + START_STEP

    def tell(self, event: Event, _generation_id: str) -> bytes:
        """Return one event in wire format."""
        if isinstance(event, Piece):
            return self._text("text" if event.kind == CONTENT else "reasoning", event.text)
        if isinstance(event, IdleEvent):
            return PING
        if isinstance(event, ErrorEvent):
            return self._close() + _error(event.message)
        return self._end(event)

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
        kind, self._kind = self._kind, ""
        return data_of({"type": f"{kind}-end", "id": self._part}) if kind else b""

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
        told = [self._close()]
        if ending.status == INTERRUPTED:
            with translation.override(self._language):
                told.append(_error(answer_errors.describe(INTERRUPTED, ending.error_message)))
        if ending.status == STOPPED:
            told.append(ABORT)
        finish = data_of({"type": "finish", "messageMetadata": metadata})
        return b"".join([*told, FINISH_STEP, finish, DONE])


def _error(text: str) -> bytes:
    return data_of({"type": "error", "errorText": text})

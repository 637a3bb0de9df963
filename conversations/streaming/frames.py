"""The socket's frames: what clients send, checked; and what they get."""

from __future__ import annotations

from typing import Any

from ..api.errors import as_chat_error
from ..api.fields import IntegerField, SessionIdField, StrictSerializer, TextField
from ..api.serializers import ReplyOptionsSerializer
from ..exceptions import ChatError
from ..generation.events import AnswerIds, DoneEvent, ErrorEvent, Piece, payload
from ..problems import problem_of


class AuthenticateFrame(StrictSerializer):
    key = TextField(max_length=200)


class RegenerateFrame(ReplyOptionsSerializer):
    message_id = IntegerField(min_value=0, max_value=2**63 - 1)


class AttachFrame(StrictSerializer):
    generation_id = SessionIdField()
    after = IntegerField(default=0, min_value=0)


class StopFrame(StrictSerializer):
    generation_id = SessionIdField()


def authenticated(frame_id: Any) -> dict[str, Any]:
    """Return the answer to an `authenticate` frame whose key lets in."""
    return {"type": "authenticated", "id": frame_id}


def accepted(frame_id: Any, ids: AnswerIds, position: int) -> dict[str, Any]:
    """Return the first frame of each reply: the counterpart of the SSE headers."""
    return {
        "type": "accepted",
        "id": frame_id,
        "session_id": str(ids.session_id),
        "message_id": ids.message_id,
        "generation_id": str(ids.generation_id),
        "position": position,
    }


def event_frame(frame_id: Any, generation_id: str, event: Piece | ErrorEvent | DoneEvent) -> dict[str, Any]:
    return {**payload(event), "id": frame_id, "generation_id": generation_id, "position": event.position}


def refused(frame_id: Any, error: Exception) -> dict[str, Any]:
    """Return the answer to a frame that was not acted upon; ``error`` is told as its problem+json."""
    return {"type": "refused", "id": frame_id, "error": problem_of(as_chat_error(error) or ChatError())}

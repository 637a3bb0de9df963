"""The socket's frames: what clients send, checked; and what they get."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from ..engine.events import AnswerIds, DoneEvent, ErrorEvent, Piece, payload
from ..exceptions import ChatError, InvalidPosition, problem_of
from ..services.deletion import Deleted
from ..web.errors import as_chat_error
from ..web.fields import MAX_DIGITS, IntegerField, SessionIdField, StrictSerializer, TextField, WordField
from ..web.serializers import ChatSerializer, ReplyOptionsSerializer

MAX_FRAME_ID = 200


class AuthenticateFrame(StrictSerializer):
    key = TextField(max_length=200)


class IdempotencyKeyField(WordField):
    """What is a header of the calls over HTTP."""

    allowed = re.compile(r"[\x21-\x7e]{1,255}")
    default_error_messages = {"control": _("1 to 255 visible ASCII characters.")}


class ChatFrame(ChatSerializer):
    idempotency_key = IdempotencyKeyField(required=False)


class RegenerateFrame(ReplyOptionsSerializer):
    idempotency_key = IdempotencyKeyField(required=False)
    message_id = IntegerField(min_value=0, max_value=2**63 - 1)


class MessageFrame(StrictSerializer):
    """Names a message, to `select` the branch through it or to `delete` it."""

    message_id = IntegerField(min_value=0, max_value=2**63 - 1)


class PositionField(IntegerField):
    """A count of characters; every other value is an ``InvalidPosition``, as over SSE."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        try:
            return super().run_validation(data)
        except serializers.ValidationError as error:
            raise InvalidPosition(errors={"after": error.detail}) from None


class AttachFrame(StrictSerializer):
    generation_id = SessionIdField()
    after = PositionField(default=0, min_value=0, max_value=10**MAX_DIGITS - 1)


class StopFrame(StrictSerializer):
    generation_id = SessionIdField()


def is_frame_id(value: Any) -> bool:
    """Whether a client may name a frame so: what is sent back to it as it is."""
    if isinstance(value, str):
        return len(value) <= MAX_FRAME_ID and WordField.allowed.fullmatch(value) is not None
    return value is None or (type(value) is int and len(str(value)) <= MAX_FRAME_ID)


def pong(frame_id: Any) -> dict[str, Any]:
    """Return the answer to a `ping`, with its id if it has one."""
    return {"type": "pong"} if frame_id is None else {"type": "pong", "id": frame_id}


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


def selected(frame_id: Any, session_id: uuid.UUID, active_leaf_id: int | None) -> dict[str, Any]:
    """Return the answer to `select`: which branch is shown now."""
    return {
        "type": "selected",
        "id": frame_id,
        "session_id": str(session_id),
        "active_leaf": active_leaf_id,
    }


def deleted(frame_id: Any, gone: Deleted) -> dict[str, Any]:
    """Return the answer to `delete`: what is gone with all below it, and which branch is shown now."""
    return {
        "type": "deleted",
        "id": frame_id,
        "session_id": str(gone.session_id),
        "message_id": gone.message_id,
        "active_leaf": gone.active_leaf_id,
    }


def event_frame(frame_id: Any, generation_id: str, event: Piece | ErrorEvent | DoneEvent) -> dict[str, Any]:
    return {**payload(event), "id": frame_id, "generation_id": generation_id, "position": event.position}


def refused(frame_id: Any, error: Exception) -> dict[str, Any]:
    """Return the answer to a frame that was not acted upon; ``error`` is told as its problem+json."""
    return {"type": "refused", "id": frame_id, "error": problem_of(as_chat_error(error) or ChatError())}

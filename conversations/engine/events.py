"""What a reader of an answer gets: text, then perhaps an error, then the end. Plain values, no I/O."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..models import Generation, GenerationChunk

REASONING = GenerationChunk.Kind.REASONING.value
CONTENT = GenerationChunk.Kind.CONTENT.value

COMPLETED = Generation.Status.COMPLETED.value
STOPPED = Generation.Status.STOPPED.value
FAILED = Generation.Status.FAILED.value
INTERRUPTED = Generation.Status.INTERRUPTED.value

# No event carries more text than this (in characters; at most four times as many bytes).
MAX_PIECE = 4_096


@dataclass(frozen=True, slots=True)
class AnswerIds:
    """What identifies an answer to its clients."""

    generation_id: uuid.UUID
    session_id: uuid.UUID
    message_id: int


class Piece(NamedTuple):
    """Text of an answer. ``position`` counts the characters up to and with it, reasoning first."""

    position: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended. ``usage`` is as ``Generation.usage`` tells it; ``error_code`` is ``""`` for no error."""

    status: str
    finish_reason: str = ""
    usage: dict[str, int | float] | None = None
    error_code: str = ""
    error_message: str = ""
    retry_after: int | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Comes right before the end of a failed answer. ``message`` is in the reader's language."""

    position: int
    code: str
    message: str
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The one terminal event.

    ``reasoning_chars`` is how much of the text, from its beginning, is reasoning: also where it came as the answer's.
    """

    position: int
    ids: AnswerIds
    ending: Ending
    reasoning_chars: int


class IdleEvent:
    """Nothing happened for a while; a door may use it to keep its connection open."""


class LoadingEvent(IdleEvent):
    """Nothing happened, as the model's server is still loading the model."""


Event = Piece | ErrorEvent | DoneEvent | IdleEvent


def ending_of(generation: Generation) -> Ending | None:
    """Return the ending that a row tells, None while it runs."""
    if generation.is_running:
        return None
    return Ending(
        status=generation.status,
        finish_reason=generation.finish_reason,
        usage=generation.usage,
        error_code=generation.error_code,
        error_message=generation.error_message,
        retry_after=generation.retry_after,
    )


def ids_of(generation: Generation) -> AnswerIds:
    """Return what names the answer of a row that has its message and conversation."""
    return AnswerIds(generation.pk, generation.message.conversation.session_id, generation.message_id)


def payload(event: Piece | ErrorEvent | DoneEvent) -> dict[str, Any]:
    """Return the JSON object that every door sends for ``event``."""
    if isinstance(event, Piece):
        return {"chunk" if event.kind == CONTENT else "reasoning": event.text}
    if isinstance(event, ErrorEvent):
        error: dict[str, Any] = {"code": event.code, "message": event.message}
        if event.retry_after is not None:
            error["retry_after"] = event.retry_after
        return {"error": error}
    return {
        "done": True,
        "status": event.ending.status,
        "session_id": str(event.ids.session_id),
        "message_id": event.ids.message_id,
        "generation_id": str(event.ids.generation_id),
        "finish_reason": event.ending.finish_reason or None,
        "usage": event.ending.usage,
        "reasoning_chars": event.reasoning_chars,
    }


def cut(position: int, kind: str, text: str) -> list[Piece]:
    """Cut ``text``, which begins at ``position``, into pieces of at most ``MAX_PIECE`` characters."""
    if 0 < len(text) <= MAX_PIECE:  # nearly every text
        return [Piece(position + len(text), kind, text)]
    return [
        Piece(position + start + len(part), kind, part)
        for start in range(0, len(text), MAX_PIECE)
        if (part := text[start : start + MAX_PIECE])
    ]


def as_reasoning(pieces: list[Piece], up_to: int) -> list[Piece]:
    """Return the pieces with their first ``up_to`` characters as reasoning."""
    known: list[Piece] = []
    for piece in pieces:
        start = piece.position - len(piece.text)
        if piece.kind == REASONING or start >= up_to:
            known.append(piece)
        elif piece.position <= up_to:
            known.append(piece._replace(kind=REASONING))
        else:
            known.append(Piece(up_to, REASONING, piece.text[: up_to - start]))
            known.append(piece._replace(text=piece.text[up_to - start :]))
    return known


def pieces_of_row(reasoning: str, content: str) -> list[Piece]:
    """Return the pieces of an answer that ended: nothing but its row is needed."""
    return cut(0, REASONING, reasoning) + cut(len(reasoning), CONTENT, content)


def beyond_position(pieces: list[Piece], position: int) -> list[Piece]:
    """Drop the first ``position`` characters."""
    if pieces and pieces[0].position - len(pieces[0].text) >= position:  # nearly always
        return pieces
    return [
        piece._replace(text=piece.text[-(piece.position - position) :])
        if piece.position - len(piece.text) < position
        else piece
        for piece in pieces
        if piece.position > position
    ]

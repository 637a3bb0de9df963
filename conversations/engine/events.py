"""What a reader of an answer gets: text, then perhaps an error, then the end. Plain values, no I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..models import CALL_LENGTH, Generation, GenerationChunk, parts_of
from ..models import parts as kinds
from ..models.parts import Part, Texts

REASONING = GenerationChunk.Kind.REASONING.value
CONTENT = GenerationChunk.Kind.CONTENT.value
TOOL_CALL = GenerationChunk.Kind.TOOL_CALL.value

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


class Call(NamedTuple):
    """Which call of a tool a piece belongs to, counted as they begin; the first piece of each has its names."""

    number: int
    id: str = ""
    name: str = ""

    @classmethod
    def of(cls, stored: str) -> Call | None:
        """Return what a row of the log says; None for text."""
        return cls(*json.loads(stored)) if stored else None

    @property
    def stored(self) -> str:
        """What a row of the log says."""
        said = json.dumps(self if self.id else self[:1], ensure_ascii=False)
        assert len(said) <= CALL_LENGTH, "providers bound ids and names"
        return said


class Piece(NamedTuple):
    """Text of an answer, or arguments of a ``call``. ``position`` counts the characters up to and with it.

    They are counted over all parts in their order. No call is without arguments: so each piece has a place.
    """

    position: int
    kind: str
    text: str
    call: Call | None = None

    @property
    def start(self) -> int:
        """How many characters are before it."""
        return self.position - len(self.text)

    def continued_by(self, other: Piece) -> bool:
        """Whether what follows it is more of the same part."""
        if self.kind != other.kind:
            return False
        return self.call is None or other.call is None or (self.call.number == other.call.number and not other.call.id)

    def last(self, characters: int) -> Piece:
        """Return its end: of a call that was begun before."""
        return Piece(self.position, self.kind, self.text[-characters:], self.call and Call(self.call.number))


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
    What is thought after that comes as reasoning.
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
        if event.call is not None:
            return {"tool_call": _told(event.call, event.text)}
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


def _told(call: Call, arguments: str) -> dict[str, Any]:
    names = {"id": call.id, "name": call.name} if call.id else {}
    return {"index": call.number, **names, "arguments": arguments}


def cut(position: int, kind: str, text: str, call: Call | None = None) -> list[Piece]:
    """Cut ``text``, which begins at ``position``, into pieces of at most ``MAX_PIECE`` characters."""
    if 0 < len(text) <= MAX_PIECE:  # nearly every text
        return [Piece(position + len(text), kind, text, call)]
    following = call and Call(call.number)
    return [
        Piece(position + start + len(part), kind, part, following if start else call)
        for start in range(0, len(text), MAX_PIECE)
        if (part := text[start : start + MAX_PIECE])
    ]


def as_reasoning(pieces: list[Piece], up_to: int) -> list[Piece]:
    """Return the pieces with what is text of their first ``up_to`` characters as reasoning."""
    known: list[Piece] = []
    for piece in pieces:
        if piece.kind != CONTENT or piece.start >= up_to:
            known.append(piece)
        elif piece.position <= up_to:
            known.append(piece._replace(kind=REASONING))
        else:
            known.append(Piece(up_to, REASONING, piece.text[: up_to - piece.start]))
            known.append(piece._replace(text=piece.text[up_to - piece.start :]))
    return known


def pieces_of_row(message: Texts) -> list[Piece]:
    """Return the pieces of an answer that ended: nothing but its row is needed."""
    pieces: list[Piece] = []
    position = calls = 0
    for part, text in parts_of(message):
        call = None
        if "of" in part:
            call = Call(part["of"])
        elif part["type"] == kinds.TOOL_CALL:
            call, calls = Call(calls, part["id"], part["name"]), calls + 1
        pieces += cut(position, _KINDS[part["type"]], text, call)
        position += len(text)
    return pieces


_KINDS = {kinds.REASONING: REASONING, kinds.TEXT: CONTENT, kinds.TOOL_CALL: TOOL_CALL}
_PARTS = {kind: name for name, kind in _KINDS.items()}


class Folded(NamedTuple):
    """An answer's pieces as the columns of its message: the texts of each kind joined, and ``parts``."""

    reasoning: str
    content: str
    arguments: str | None
    parts: list[Part] | None

    @property
    def text(self) -> str:
        """All that was said."""
        return f"{self.reasoning}{self.content}{self.arguments or ''}"


def folded(pieces: Iterable[Piece]) -> Folded:
    """Return what a message keeps of an answer."""
    texts: dict[str, list[str]] = {REASONING: [], CONTENT: [], TOOL_CALL: []}
    parts: list[Part] = []
    last: Piece | None = None
    for piece in pieces:
        texts[piece.kind].append(piece.text)
        if last is None or not last.continued_by(piece):
            parts.append({"type": _PARTS[piece.kind], **_named(piece.call), "chars": 0})
        parts[-1]["chars"] += len(piece.text)
        last = piece
    reasoning, content, arguments = ("".join(texts[kind]) for kind in (REASONING, CONTENT, TOOL_CALL))
    is_plain = [part["type"] for part in parts] in ([], [kinds.TEXT], [kinds.REASONING], [kinds.REASONING, kinds.TEXT])
    return Folded(reasoning, content, None, None) if is_plain else Folded(reasoning, content, arguments, parts)


def _named(call: Call | None) -> Part:
    """Return what a part says of its call: what it is, or of which it is more."""
    if call is None:
        return {}
    return {"id": call.id, "name": call.name} if call.id else {"of": call.number}


def reasoning_first(pieces: Iterable[Piece]) -> int:
    """Return how many characters, from the beginning, are reasoning."""
    characters = 0
    for piece in pieces:
        if piece.kind != REASONING:
            break
        characters = piece.position
    return characters


def beyond_position(pieces: list[Piece], position: int) -> list[Piece]:
    """Drop the first ``position`` characters."""
    if pieces and pieces[0].start >= position:  # nearly always
        return pieces
    return [
        piece.last(piece.position - position) if piece.start < position else piece
        for piece in pieces
        if piece.position > position
    ]

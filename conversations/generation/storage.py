"""The engine's database jobs: each is one transaction and runs on a database thread."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from .. import budgets
from ..budgets import Outcome
from ..compiled import Count, Delete, InsertMany, Select, Update, given
from ..models import Conversation, Generation, GenerationChunk, Message
from .events import INTERRUPTED, REASONING, STOPPED, AnswerIds, Ending, Piece, beyond_position, pieces_of_row

INTERRUPTED_ENDING = Ending(INTERRUPTED)
STOPPED_ENDING = Ending(STOPPED)
# What readers of an answer see whose conversation was deleted under them.
DELETED_ENDING = STOPPED_ENDING


_end_running = Update(
    lambda: Generation.objects.running().filter(pk=given(Generation, "id")),
    lambda: {
        "active_for": None,
        **{
            name: given(Generation, name)
            for name in (
                "status",
                "finish_reason",
                "error_code",
                "error_message",
                "retry_after",
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "first_token_at",
                "ended_at",
            )
        },
    },
)
_place_of = Select(
    lambda: Generation.objects.filter(pk=given(Generation, "id")).values_list(
        "message_id", "message__conversation_id", "message__model"
    )
)
_chunks_of = Select(
    lambda: (
        GenerationChunk.objects.filter(generation=given(GenerationChunk, "generation"))
        .order_by("position")
        .values_list("position", "kind", "text")
    )
)
_fill = Update(
    lambda: Message.objects.filter(pk=given(Message, "id")),
    lambda: {name: given(Message, name) for name in ("reasoning", "content", "model")},
)
_delete_chunks = Delete(lambda: GenerationChunk.objects.filter(generation=given(GenerationChunk, "generation")))
_insert_chunks = InsertMany(GenerationChunk)
_touch_conversation = Update(
    lambda: Conversation.objects.filter(pk=given(Conversation, "id")),
    lambda: {"updated_at": given(Conversation, "updated_at")},
)


@cache
def _running(number: int) -> Select[uuid.UUID]:
    """Lock, and find, those of so many answers that still run."""
    return Select(lambda: _among(number).order_by("pk").select_for_update().values_list("pk", flat=True))


@cache
def _count_running(number: int) -> Count:
    """Count those of so many answers that still run."""
    return Count(lambda: _among(number))


def _among(number: int) -> QuerySet[Generation]:
    ids = [given(Generation, "id", f"id_{index}") for index in range(number)]
    return Generation.objects.running().filter(pk__in=ids)


@dataclass(slots=True)
class Entry:
    """What one answer adds to a batch: text, and its ending if it ends here.

    ``before`` is the text that is stored already, where whoever makes the entry knows.
    """

    generation_id: uuid.UUID
    pieces: list[Piece]
    ending: Ending | None = None
    first_token_at: datetime | None = None
    before: list[Piece] | None = None


@dataclass(slots=True)
class Progress:
    """What the database says of an answer: text beyond a position, and the ending if there is one."""

    ids: AnswerIds
    pieces: list[Piece] = field(default_factory=list)
    ending: Ending | None = None
    worker_id: uuid.UUID | None = None


def store(entries: Sequence[Entry], *, again: bool = False) -> set[uuid.UUID]:
    """Commit the entries of answers that still run, and return which those were.

    The rows are locked first, so an answer that another process ended gets nothing more; an end locks its own by
    its conditional UPDATE. ``again``: the same entries were tried before and the connection failed, perhaps after
    the commit: rows that are there count as written.
    """
    with transaction.atomic():
        growing = _alive([entry for entry in entries if entry.ending is None])
        _insert(growing, written=_written(growing) if again else frozenset())
        ended = _end(entry for entry in entries if entry.ending)
    return {entry.generation_id for entry in growing} | ended


def _alive(entries: Sequence[Entry]) -> list[Entry]:
    """Lock the answers that still run, and return the entries of those."""
    if not entries:
        return []
    # As many places as the next power of two: few statements do for batches of any size.
    places = 1 << (len(entries) - 1).bit_length()
    ids = {f"id_{index}": entries[min(index, len(entries) - 1)].generation_id for index in range(places)}
    # SQLite has no rows to lock, and nobody else writes now. It gives up Python's lock for each row that it finds.
    if not connection.features.has_select_for_update and _count_running(places).number(**ids) == len(entries):
        return list(entries)
    running = set(_running(places).all(**ids))
    return [entry for entry in entries if entry.generation_id in running]


def _insert(entries: Iterable[Entry], *, written: Collection[tuple[uuid.UUID, Piece]]) -> None:
    """Insert what is not ``written``. Another text at a position that is taken is an IntegrityError."""
    _insert_chunks.run(
        {"generation_id": entry.generation_id, "position": piece.position, "kind": piece.kind, "text": piece.text}
        for entry in entries
        for piece in entry.pieces
        if (entry.generation_id, piece) not in written
    )


def _written(entries: Iterable[Entry]) -> set[tuple[uuid.UUID, Piece]]:
    """The rows that stand where those of the entries would."""
    found: set[tuple[uuid.UUID, Piece]] = set()
    for entry in entries:
        if entry.pieces:
            chunks = GenerationChunk.objects.filter(
                generation_id=entry.generation_id, position__gte=entry.pieces[0].position
            )
            rows = chunks.values_list("position", "kind", "text")
            found.update((entry.generation_id, Piece(*row)) for row in rows)
    return found


def finish(
    generation_id: uuid.UUID,
    ending: Ending,
    *,
    tail: Iterable[Piece] = (),
    first_token_at: datetime | None = None,
) -> bool:
    """End a running answer and fold its text into its message; tell whether this call was the one.

    Any process may call it, for any reason: the conditional UPDATE lets one win. ``tail`` is text that was
    not stored as chunks yet. What the answer cost is settled in the same transaction.
    """
    with transaction.atomic():
        return bool(_end([Entry(generation_id, list(tail), ending, first_token_at)]))


def _end(entries: Iterable[Entry]) -> set[uuid.UUID]:
    """End those of the answers that still run, and settle what they cost; return which those were."""
    outcomes = [outcome for entry in entries if (outcome := _end_one(entry))]
    if outcomes:
        budgets.settle(outcomes)
    return {outcome.generation_id for outcome in outcomes}


def _end_one(entry: Entry) -> Outcome | None:
    ending = entry.ending
    assert ending is not None
    usage = ending.usage or {}
    won = _end_running.run(
        id=entry.generation_id,
        status=ending.status,
        finish_reason=ending.finish_reason[:64],
        error_code=ending.error_code,
        error_message=ending.error_message[:500],
        retry_after=ending.retry_after,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        total_tokens=usage.get("total_tokens"),
        first_token_at=entry.first_token_at,
        ended_at=timezone.now(),
    )
    if not won:
        return None
    text = _fold(entry, ending.model)
    return Outcome(entry.generation_id, ending.status, usage.get("total_tokens"), text)


def finish_elsewhere(generation_id: uuid.UUID, ending: Ending) -> uuid.UUID | None:
    """End an answer that another process makes; return the worker that is to be told, None if it had ended."""
    if not finish(generation_id, ending):
        return None
    return Generation.objects.filter(pk=generation_id).values_list("worker", flat=True).first()


def _fold(entry: Entry, model: str) -> str:
    """Move an answer's text into its message, and return all of it."""
    before = entry.before
    if before is None:
        before = [Piece(*row) for row in _chunks_of.all(generation=entry.generation_id)]
    pieces = [*before, *entry.pieces]
    reasoning = "".join(piece.text for piece in pieces if piece.kind == REASONING)
    content = "".join(piece.text for piece in pieces if piece.kind != REASONING)
    place = _place_of.first(id=entry.generation_id)
    assert place is not None, "the row was just updated"
    message_id, conversation_id, asked_model = place
    _fill.run(id=message_id, reasoning=reasoning, content=content, model=model[:255] or asked_model)
    if before:
        _delete_chunks.run(generation=entry.generation_id)
    _touch_conversation.run(id=conversation_id, updated_at=timezone.now())
    return reasoning + content


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
    return AnswerIds(generation.pk, generation.message.conversation.session_id, generation.message_id)


def load(positions: dict[uuid.UUID, int]) -> dict[uuid.UUID, Progress]:
    """Return what each answer has beyond the position given for it; a deleted one is missing.

    The status is read before the chunks: an answer that ends in between shows no chunks any more, and the
    next call finds its ending.
    """
    generations = list(Generation.objects.with_ids().filter(pk__in=positions))
    found = {row.pk: Progress(ids_of(row), ending=ending_of(row), worker_id=row.worker_id) for row in generations}
    beyond = Q()
    for row in generations:
        if row.is_running:
            beyond |= Q(generation_id=row.pk, position__gt=positions[row.pk])
    if beyond:
        rows = GenerationChunk.objects.filter(beyond).order_by("generation_id", "position")
        for generation_id, position, kind, text in rows.values_list("generation_id", "position", "kind", "text"):
            found[generation_id].pieces.append(Piece(position, kind, text))
    ended = [row.message_id for row in generations if not row.is_running]
    texts = Message.objects.filter(pk__in=ended).values_list("generation", "reasoning", "content")
    for generation_id, reasoning, content in texts:
        found[generation_id].pieces = beyond_position(pieces_of_row(reasoning, content), positions[generation_id])
    return found


def still_running(generation_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    return set(Generation.objects.running().filter(pk__in=list(generation_ids)).values_list("pk", flat=True))

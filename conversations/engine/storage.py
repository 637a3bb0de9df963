"""The engine's database jobs: each is one transaction and runs on a database thread."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from functools import cache

from django.db import connection
from django.db.models import QuerySet

from ..database.compiled import Count, InsertMany, Select, Update, given
from ..database.transactions import replayed
from ..models import Generation, GenerationChunk
from .ends import Entry, end_answers, given_chunks, places_for
from .events import CONTENT, INTERRUPTED, REASONING, STOPPED, Ending, Piece

INTERRUPTED_ENDING = Ending(INTERRUPTED)
STOPPED_ENDING = Ending(STOPPED)
# What readers of an answer see whose conversation was deleted under them.
DELETED_ENDING = STOPPED_ENDING

_log_from = Select(lambda: Generation.objects.filter(pk=given(Generation, "id")).values_list("log_from", flat=True))
_mark_reasoning = Update(
    lambda: given_chunks().filter(kind=CONTENT, position__lte=given(GenerationChunk, "position")).order_by(),
    lambda: {"kind": REASONING},
)
_insert_chunks = InsertMany(GenerationChunk)


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


@replayed
def store(entries: Sequence[Entry], *, again: bool = False) -> set[uuid.UUID]:
    """Commit the entries of answers that still run, and return which those were.

    The rows are locked first, so an answer that another process ended gets nothing more; an end locks its own by
    its conditional UPDATE. ``again``: the same entries were tried before and the connection failed, perhaps after
    the commit: rows that are there count as written.
    """
    growing = _running_entries([entry for entry in entries if entry.ending is None])
    for entry in growing:
        if entry.reasoning_up_to:
            log_from = _log_from.first(id=entry.generation_id)
            _mark_reasoning.run(generation=entry.generation_id, log_from=log_from, position=entry.reasoning_up_to)
    _insert(growing, written=_written(growing) if again else frozenset())
    ended = end_answers(entry for entry in entries if entry.ending)
    return {entry.generation_id for entry in growing} | ended


def _running_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Lock the answers that still run, and return the entries of those."""
    if not entries:
        return []
    places = places_for(len(entries))
    ids = {f"id_{index}": entries[min(index, len(entries) - 1)].generation_id for index in range(places)}
    # SQLite has no rows to lock, and nobody else writes now. It gives up Python's lock for each row that it finds.
    if not connection.features.has_select_for_update and _count_running(places).number(**ids) == len(entries):
        return list(entries)
    running = set(_running(places).all(**ids))
    return [entry for entry in entries if entry.generation_id in running]


def _insert(entries: Iterable[Entry], *, written: Collection[int]) -> None:
    """Insert what is not ``written``, in the order of the keys."""
    _insert_chunks.run(
        {
            "id": key,
            "generation_id": entry.generation_id,
            "position": piece.position,
            "kind": piece.kind,
            "text": piece.text,
            "call": piece.call.stored if piece.call else "",
        }
        for entry in entries
        for key, piece in enumerate(entry.pieces, entry.first_key)
        if key not in written
    )


def _written(entries: Iterable[Entry]) -> set[int]:
    """The keys of rows that a commit of unknown outcome left."""
    found: set[int] = set()
    for entry in entries:
        keys = range(entry.first_key, entry.first_key + len(entry.pieces))
        rows = GenerationChunk.objects.filter(generation=entry.generation_id, pk__in=keys)
        found.update(rows.values_list("pk", flat=True))
    return found


@replayed
def finish(generation_id: uuid.UUID, ending: Ending, *, tail: Iterable[Piece] = ()) -> bool:
    """End a running answer and fold its text into its message; tell whether this call was the one.

    Any process may call it, for any reason: the conditional UPDATE lets one win. ``tail`` is text that was
    not stored as chunks yet. What the answer cost is settled in the same transaction.
    """
    return bool(end_answers([Entry(generation_id, list(tail), ending=ending)]))


def finish_elsewhere(generation_id: uuid.UUID, ending: Ending) -> uuid.UUID | None:
    """End an answer that another process makes; return the worker that is to be told, None if it had ended."""
    if not finish(generation_id, ending):
        return None
    return Generation.objects.filter(pk=generation_id).values_list("worker", flat=True).first()

"""How far answers are, as the database says: what a follower and an owner that was passed over read."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..models import MESSAGE_TEXTS, Generation, GenerationChunk, Message
from ..models.querysets import KEYS_OF_A_WORKER
from .events import (
    AnswerIds,
    Call,
    Ending,
    Piece,
    beyond_position,
    ending_of,
    ids_of,
    pieces_of_row,
    reasoning_first,
)

# No query asks for more answers: SQLite takes expressions of a certain depth, and so many values.
MOST_AT_ONCE = 200


class Seen(NamedTuple):
    """What a reader has of an answer: so many characters, and the rows of the log up to a key."""

    position: int = 0
    key: int = 0


@dataclass(slots=True)
class Progress:
    """What the database says of an answer: text beyond a position, and the ending if there is one.

    ``key`` is up to where its worker's log was read. ``reasoning_chars`` is how much of an ended answer's text, from
    its beginning, is reasoning.
    """

    ids: AnswerIds
    key: int = 0
    pieces: list[Piece] = field(default_factory=list)
    ending: Ending | None = None
    worker_id: uuid.UUID | None = None
    reasoning_chars: int = 0


def load(seen: dict[uuid.UUID, Seen]) -> dict[uuid.UUID, Progress]:
    """Return what each answer has beyond what was seen of it; a deleted one is missing.

    The status is read before the chunks: an answer that ends in between shows no chunks any more, and the
    next call finds its ending.
    """
    found: dict[uuid.UUID, Progress] = {}
    wanted = list(seen.items())
    for begin in range(0, len(wanted), MOST_AT_ONCE):
        found |= _load(dict(wanted[begin : begin + MOST_AT_ONCE]))
    return found


def _load(seen: dict[uuid.UUID, Seen]) -> dict[uuid.UUID, Progress]:
    generations = list(Generation.objects.with_ids().filter(pk__in=seen))
    found = {row.pk: Progress(ids_of(row), ending=ending_of(row), worker_id=row.worker_id) for row in generations}
    _read_log({row.pk: max(row.log_from, seen[row.pk].key + 1) for row in generations if row.is_running}, found)
    ended = [row.message_id for row in generations if not row.is_running]
    of_messages = {row.message_id: row.pk for row in generations}
    for message in Message.objects.filter(pk__in=ended).only(*MESSAGE_TEXTS):
        progress = found[of_messages[message.pk]]
        progress.pieces = pieces_of_row(message)
        progress.reasoning_chars = reasoning_first(progress.pieces)
    for generation_id, progress in found.items():
        progress.pieces = beyond_position(progress.pieces, seen[generation_id].position)
    return found


def _read_log(first_keys: dict[uuid.UUID, int], found: dict[uuid.UUID, Progress]) -> None:
    """Add the text of running answers from those keys on: two queries for each worker, of one range."""
    of_workers: dict[int, list[uuid.UUID]] = {}
    for generation_id, key in first_keys.items():
        of_workers.setdefault(key // KEYS_OF_A_WORKER, []).append(generation_id)
    for number, generation_ids in of_workers.items():
        log = GenerationChunk.objects.filter(
            pk__gte=min(first_keys[each] for each in generation_ids), pk__lt=(number + 1) * KEYS_OF_A_WORKER
        )
        # All before the newest row was committed before it, so all of it is seen, whoever's it is: an answer that is
        # silent for long does not make each look read what others have said since.
        last = log.order_by("-pk").values_list("pk", flat=True).first()
        if last is None:
            continue
        rows = log.filter(generation__in=generation_ids, pk__lte=last)
        for generation_id, key, position, kind, text, call in rows.order_by("pk").values_list(
            "generation_id", "pk", "position", "kind", "text", "call"
        ):
            if key >= first_keys[generation_id]:
                found[generation_id].pieces.append(Piece(position, kind, text, Call.of(call)))
        for generation_id in generation_ids:
            found[generation_id].key = last


def still_running(generation_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of the answers that run."""
    wanted, found = list(generation_ids), set[uuid.UUID]()
    for begin in range(0, len(wanted), MOST_AT_ONCE):
        together = wanted[begin : begin + MOST_AT_ONCE]
        found.update(Generation.objects.running().filter(pk__in=together).values_list("pk", flat=True))
    return found

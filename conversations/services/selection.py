"""What is done to many conversations at a time, by who runs the server: in short transactions, as pruning does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils import timezone

from ..database.transactions import replayed
from ..engine import engines, pruning
from ..engine.hints import Subject
from ..exceptions import NotFound
from ..models import Conversation, Generation, Message
from .deletion import delete_whole

# So many are looked at, or changed, together.
TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in some conversations."""

    conversations: int
    pinned: int
    owners: int
    oldest: datetime | None
    newest: datetime | None
    # The highest id among them.
    last_id: int | None
    messages: int
    running: int


def contents(rows: QuerySet[Conversation]) -> Contents:
    """Count what is in those conversations: three queries."""
    chosen = rows.order_by()
    sums = chosen.aggregate(
        conversations=Count("pk"),
        pinned=Count("pk", filter=Q(is_pinned=True)),
        owners=Count("user_identifier", distinct=True),
        oldest=Min("updated_at"),
        newest=Max("updated_at"),
        last_id=Max("pk"),
    )
    ids = chosen.values("pk")
    return Contents(
        **sums,
        messages=Message.objects.filter(conversation__in=ids).count(),
        running=Generation.objects.running().filter(active_for__in=ids).count(),
    )


@dataclass(frozen=True, slots=True)
class Removed:
    """How many went, how many were passed over, and how many nobody looked at, as there was no more time."""

    gone: int
    spared: int
    left: int


def delete_many(
    ids: Sequence[int],
    *,
    spare: bool,
    seconds: float,
    tell: Callable[[list[Conversation]], Any],
) -> Removed:
    """Delete conversations, for so long; with ``spare`` not the pinned ones, and none that is being answered.

    ``tell`` gets those of each batch, which are gone by then.
    """
    until = time.monotonic() + seconds
    seen = gone = 0
    for begin in range(0, len(ids), pruning.BATCH):
        for batch in pruning.batches(list(ids[begin : begin + pruning.BATCH])):
            if seen and time.monotonic() > until:
                return Removed(gone, seen - gone, len(ids) - seen)
            rows = list(Conversation.objects.filter(pk__in=batch).only("pk", "session_id"))
            deleted = _delete(batch, spare)
            if deleted:
                tell([row for row in rows if row.pk in deleted])
            seen, gone = seen + len(batch), gone + len(deleted)
    return Removed(gone, seen - gone, 0)


def _delete(batch: list[int], spare: bool) -> set[int]:
    deleted = set(pruning.delete_chosen(batch, with_pinned=not spare))
    for pk in () if spare else batch:
        if pk not in deleted:
            with suppress(NotFound):  # another was quicker
                delete_whole(pk)
                deleted.add(pk)
    return deleted


def archive_many(ids: Sequence[int], *, archived: bool, tell: Callable[[list[Conversation]], Any]) -> int:
    """Archive conversations, or take them back; return how many. ``tell`` gets those of each batch. No activity."""
    changed = 0
    for begin in range(0, len(ids), TOGETHER):
        rows = _archive(ids[begin : begin + TOGETHER], archived)
        for row in rows:
            engines.tell_change(Subject(row.user_identifier, row.pk))
        if rows:
            tell(rows)
        changed += len(rows)
    return changed


@replayed
def _archive(ids: Sequence[int], archived: bool) -> list[Conversation]:
    others = Conversation.objects.filter(pk__in=ids, is_archived=not archived).order_by("pk")
    rows = list(others.only("pk", "session_id", "user_identifier"))
    Conversation.objects.filter(pk__in=[row.pk for row in rows]).update(
        is_archived=archived, changed_at=timezone.now()
    )
    return rows

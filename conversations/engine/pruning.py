"""Keeps the newest conversations an owner; pinned ones are kept beside them, running ones always.

Database jobs, each a short transaction. Beside the answers one process prunes at a time: which one stands in the
worker's own row, where one at most can say so. Who is killed meanwhile loses the row as soon as others see that it is
dead.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from functools import cache

from django.db import IntegrityError, connection
from django.db.models import Count, Q
from django.utils import timezone

from .. import conf
from ..database.compiled import Count as CompiledCount
from ..database.compiled import Select, given
from ..database.transactions import replayed
from ..models import Conversation, Message, Worker
from ..models.querysets import ConversationQuerySet

# A batch has at most so many conversations, and unless it is one alone so many rows.
BATCH, ROWS = 100, 200
# Of those whose time is over, so many are looked at in one go.
MOST_EXPIRED = 1_000


_count_of = CompiledCount(
    lambda: Conversation.objects.listed().filter(user_identifier=given(Conversation, "user_identifier"))
)


def prunable(*, user_identifier: str, keep: int, before: datetime | None = None) -> list[int]:
    """Return the ids of an owner's conversations to delete.

    Those beyond the newest ``keep``, and those that were last active before ``before``.
    """
    # Mostly nobody is to go: counting looks at an index alone, the rest at every conversation.
    if before is None and _count_of.number(user_identifier=user_identifier) <= keep:
        return []
    doomed = dict.fromkeys(_beyond(keep).all(user_identifier=user_identifier))
    mine = Conversation.objects.listed().filter(user_identifier=user_identifier, is_pinned=False)
    if before is not None:
        doomed |= dict.fromkeys(_ids(mine.filter(updated_at__lt=before)))
    running = set(mine.filter(active_generation__isnull=False).values_list("pk", flat=True))
    return [pk for pk in doomed if pk not in running]


@cache
def _beyond(keep: int) -> Select[int]:
    """Find the ids of an owner's conversations after the newest ``keep``."""
    return Select(
        lambda: (
            Conversation.objects.listed()
            .filter(user_identifier=given(Conversation, "user_identifier"), is_pinned=False)
            .newest_activity_first()
            .values_list("pk", flat=True)[keep:]
        )
    )


def _ids(rows: ConversationQuerySet) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def prune_owner(*, user_identifier: str, keep: int, before: datetime | None = None) -> int:
    """Delete an owner's superfluous conversations; return how many. One that is being answered is never taken."""
    doomed = prunable(user_identifier=user_identifier, keep=keep, before=before)
    return sum(delete_batch(batch) for batch in batches(doomed))


def batches(doomed: list[int]) -> list[list[int]]:
    """Cut conversations into batches that are deleted in a moment: on SQLite nobody else writes meanwhile."""
    found: list[list[int]] = []
    for begin in range(0, len(doomed), BATCH):
        together, rows = doomed[begin : begin + BATCH], ROWS
        sizes = _messages_of(together)
        for pk in together:
            rows += 1 + sizes.get(pk, 0)
            if rows > ROWS:
                found.append([])
                rows = 1 + sizes.get(pk, 0)
            found[-1].append(pk)
    return found


def _messages_of(conversations: list[int]) -> dict[int, int]:
    counts = Message.objects.filter(conversation__in=conversations).values_list("conversation").annotate(Count("pk"))
    return dict(counts.order_by())


@replayed
def delete_batch(doomed: list[int]) -> int:
    """Delete those that nobody began to answer, or pinned, meanwhile; return how many. Who is locked stays."""
    # Who begins an answer locks the conversation first: so none begins between this look and the deletion.
    return len(_delete_idle(Conversation.objects.filter(pk__in=doomed, is_pinned=False).order_by("pk")))


@replayed
def delete_chosen(chosen: list[int], *, with_pinned: bool) -> list[int]:
    """Delete those that nobody answers in; return their ids. Who is locked stays."""
    rows = Conversation.objects.filter(pk__in=chosen)
    return _delete_idle((rows if with_pinned else rows.filter(is_pinned=False)).order_by("pk"))


def _delete_idle(rows: ConversationQuerySet) -> list[int]:
    locked = _ids(rows.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked))
    idle = _ids(Conversation.objects.filter(pk__in=locked).without_running_answer())
    Conversation.objects.filter(pk__in=idle).delete()
    return idle


def owners() -> list[str]:
    """Return every user identifier that has conversations."""
    return list(Conversation.objects.order_by().values_list("user_identifier", flat=True).distinct())


def expired() -> list[list[int]]:
    """Return what is to be deleted as its time is over, in small batches; a temporary one in use gets more time."""
    now = timezone.now()
    due = Conversation.objects.filter(expires_at__lt=now).order_by("expires_at")
    kept = timedelta(seconds=conf.get().KEEP_TEMPORARY_SECONDS)
    doomed: list[int] = []
    for pk, is_hidden, updated_at in due.values_list("pk", "is_hidden", "updated_at")[:MOST_EXPIRED]:
        if is_hidden or updated_at + kept < now:
            doomed.append(pk)
        else:
            Conversation.objects.filter(pk=pk, is_hidden=False).update(expires_at=updated_at + kept)
    return batches(doomed)


@replayed
def delete_expired(doomed: list[int]) -> int:
    """Delete those whose time is still over, unless they are being answered; return how many. Who is locked stays."""
    now = timezone.now()
    unused = Q(is_hidden=True) | Q(updated_at__lt=now - timedelta(seconds=conf.get().KEEP_TEMPORARY_SECONDS))
    return len(_delete_idle(Conversation.objects.filter(unused, pk__in=doomed, expires_at__lt=now).order_by("pk")))


# Beside the answers ------------------------------------------------------------------------------------------


def with_too_many(user_identifiers: list[str]) -> list[str]:
    """Return those who have more conversations than the setting leaves room for."""
    keep = conf.get().KEEP_LATEST
    return [owner for owner in user_identifiers if prunable(user_identifier=owner, keep=keep)]


def superfluous_batches(user_identifier: str) -> list[list[int]]:
    """Return what the setting leaves an owner no room for, in small batches."""
    return batches(prunable(user_identifier=user_identifier, keep=conf.get().KEEP_LATEST))


def begin_pruning(worker_id: uuid.UUID) -> bool:
    """Try to be the one process that prunes; tell whether we are."""
    holder = Worker.objects.filter(prunes=True).values_list("pk", flat=True).first()
    if holder is not None:
        return holder == worker_id
    try:
        return bool(Worker.objects.filter(pk=worker_id).update(prunes=True))
    except IntegrityError:  # another was quicker
        return False


def end_pruning(worker_id: uuid.UUID) -> None:
    """Let another process prune."""
    Worker.objects.filter(pk=worker_id).update(prunes=None)

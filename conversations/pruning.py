"""Keeps the newest conversations an owner; pinned ones are kept beside them, running ones always."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from django.db import transaction

from .compiled import Count, Select, given
from .models import Conversation
from .querysets import ConversationQuerySet

BATCH = 200


_count_of = Count(lambda: Conversation.objects.filter(user_identifier=given(Conversation, "user_identifier")))


def prunable(*, user_identifier: str, keep: int, before: datetime | None = None) -> list[int]:
    """Return the ids of an owner's conversations to delete.

    Those beyond the newest ``keep``, and those that were last active before ``before``.
    """
    # Mostly nobody is to go: counting looks at an index alone, the rest at every conversation.
    if before is None and _count_of.number(user_identifier=user_identifier) <= keep:
        return []
    doomed = dict.fromkeys(_beyond(keep).all(user_identifier=user_identifier))
    mine = Conversation.objects.filter(user_identifier=user_identifier, is_pinned=False)
    if before is not None:
        doomed |= dict.fromkeys(_ids(mine.filter(updated_at__lt=before)))
    running = set(mine.filter(active_generation__isnull=False).values_list("pk", flat=True))
    return [pk for pk in doomed if pk not in running]


@cache
def _beyond(keep: int) -> Select[int]:
    """Find the ids of an owner's conversations after the newest ``keep``."""
    return Select(
        lambda: (
            Conversation.objects.filter(user_identifier=given(Conversation, "user_identifier"), is_pinned=False)
            .newest_activity_first()
            .values_list("pk", flat=True)[keep:]
        )
    )


def _ids(rows: ConversationQuerySet) -> list[int]:
    return list(rows.values_list("pk", flat=True))


def prune_owner(*, user_identifier: str, keep: int, before: datetime | None = None) -> int:
    """Delete an owner's superfluous conversations; return how many. One that is being answered is never taken."""
    doomed = prunable(user_identifier=user_identifier, keep=keep, before=before)
    return sum(_delete(doomed[start : start + BATCH]) for start in range(0, len(doomed), BATCH))


def _delete(doomed: list[int]) -> int:
    """Delete those that nobody began to answer, or pinned, meanwhile; return how many."""
    with transaction.atomic():
        # Who begins an answer locks the conversation first: so none begins between this look and the deletion.
        rows = Conversation.objects.filter(pk__in=doomed, is_pinned=False).order_by("pk").select_for_update()
        locked = _ids(rows)
        idle = _ids(Conversation.objects.filter(pk__in=locked).without_running_answer())
        Conversation.objects.filter(pk__in=idle).delete()
    return len(idle)


def owners() -> list[str]:
    """Return every user identifier that has conversations."""
    return list(Conversation.objects.order_by().values_list("user_identifier", flat=True).distinct())

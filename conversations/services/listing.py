"""The list of conversations, by keyset cursors: a page costs the same wherever it is, and none is shown twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q

from ..access.rules import Action, Caller, authorize
from ..exceptions import InvalidCursor
from ..models import Conversation
from ..models.querysets import ConversationQuerySet
from . import cursors

LIST_FIELDS = ("session_id", "title", "created_at", "updated_at", "message_count", "is_pinned")
CURSORS = "conversations"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Page:
    conversations: list[Conversation]
    next_cursor: str | None


def list_conversations(
    *,
    caller: Caller,
    search: str = "",
    archived: bool = False,
    pinned: bool | None = None,
    limit: int = 500,
    cursor: str | None = None,
) -> Page:
    """Return conversations, newest activity first; raises ``InvalidCursor``. One query, no message is loaded."""
    authorize(caller, Action.LIST)
    # Not `is_archived=`: that becomes NOT is_archived, for which SQLite and MySQL use no index.
    rows = Conversation.objects.for_owner(caller).listed().filter(is_archived__in=[archived])
    if pinned is not None:
        rows = rows.filter(is_pinned__in=[pinned])
    if search:
        rows = rows.filter(title__icontains=search)
    if cursor:
        rows = beyond(rows, CURSORS, cursor)
    found = list(rows.newest_activity_first().only(*LIST_FIELDS)[: limit + 1])
    more = len(found) > limit
    return Page(found[:limit], cursor_of(CURSORS, found[limit - 1]) if more else None)


def beyond(rows: ConversationQuerySet, which: str, cursor: str) -> ConversationQuerySet:
    """Keep the conversations after a cursor of that list; raises ``InvalidCursor``."""
    return _after(rows, *_decoded(which, cursor))


def after(rows: ConversationQuerySet, last: Conversation) -> ConversationQuerySet:
    """Keep the conversations after one of them."""
    return _after(rows, last.updated_at, last.pk)


def _after(rows: ConversationQuerySet, updated_at: datetime, pk: int) -> ConversationQuerySet:
    return rows.filter(Q(updated_at__lt=updated_at) | Q(pk__lt=pk), updated_at__lte=updated_at)


def cursor_of(which: str, last: Conversation) -> str:
    """Return the cursor of a list that goes on after a conversation."""
    since_epoch = last.updated_at - EPOCH
    microseconds = (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds
    return cursors.encode(which, microseconds, last.pk)


def _decoded(which: str, cursor: str) -> tuple[datetime, int]:
    microseconds, pk = cursors.decode(which, cursor, 2)
    seconds, rest = divmod(microseconds, 1_000_000)
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest), pk
    except (ValueError, OverflowError, OSError):
        raise InvalidCursor() from None

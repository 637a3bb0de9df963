"""The list of conversations, by keyset cursors: a page costs the same wherever it is, and none is shown twice."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Q

from .access import Action, Caller, authorize
from .exceptions import InvalidCursor
from .models import Conversation

LIST_FIELDS = ("session_id", "title", "created_at", "updated_at", "message_count")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Page:
    conversations: list[Conversation]
    next_cursor: str | None


def list_conversations(
    *, caller: Caller, search: str = "", archived: bool = False, limit: int = 500, cursor: str | None = None
) -> Page:
    """Return conversations, newest activity first; raises ``InvalidCursor``. One query, no message is loaded."""
    authorize(caller, Action.LIST)
    # Not `is_archived=`: that becomes NOT is_archived, for which SQLite and MySQL use no index.
    rows = Conversation.objects.for_owner(caller).filter(is_archived__in=[archived])
    if search:
        rows = rows.filter(title__icontains=search)
    if cursor:
        updated_at, pk = _decoded(cursor)
        rows = rows.filter(Q(updated_at__lt=updated_at) | Q(pk__lt=pk), updated_at__lte=updated_at)
    found = list(rows.newest_activity_first().only(*LIST_FIELDS)[: limit + 1])
    more = len(found) > limit
    return Page(found[:limit], _encoded(found[limit - 1]) if more else None)


def _encoded(last: Conversation) -> str:
    since_epoch = last.updated_at - EPOCH
    microseconds = (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds
    return base64.urlsafe_b64encode(f"{microseconds}:{last.pk}".encode()).decode().rstrip("=")


def _decoded(cursor: str) -> tuple[datetime, int]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        microseconds, pk = (int(part) for part in text.split(":"))
        seconds, rest = divmod(microseconds, 1_000_000)
        if pk < 0 or pk >= 2**63:
            raise InvalidCursor()
        return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest), pk
    except (ValueError, OverflowError, OSError, binascii.Error):
        raise InvalidCursor() from None

"""Found conversations: by their titles, and by what was said in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef

from ..access.rules import Action, Caller, authorize
from ..models import Conversation, Message
from ..models.querysets import ConversationQuerySet
from ..search import index
from ..search.folding import Folded, fold
from ..search.index import Wanted
from ..search.query import Query
from ..search.snippets import Snippet, marks, snippet
from . import listing

CURSORS = "search"
# So many conversations are looked through at a time: few at first, as most searches find something soon.
FIRST_PAGE, MOST_AT_ONCE = 32, 512
# And so many for one call, which then ends with a cursor.
MOST_LOOKED_AT = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for, where, and of which time: from ``since`` to before ``until``. None and ``""`` are any."""

    query: Query
    in_titles: bool = True
    in_messages: bool = True
    model_type: str = ""
    since: datetime | None = None
    until: datetime | None = None
    archived: bool | None = None

    @staticmethod
    def words(text: str) -> Query:
        """Return what ``text`` asks for; raises ``InvalidRequest``."""
        return Query.parsed(text)


class Said(NamedTuple):
    """A message in which something was found."""

    message: Message
    snippet: Snippet


@dataclass(slots=True)
class Found:
    """A conversation with what was found in it; highlights are as in ``Snippet``."""

    conversation: Conversation
    title_highlights: list[tuple[int, int]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """``next_cursor`` leads on; it may, where much was looked through, also if nothing is here."""

    found: list[Found]
    next_cursor: str | None


def search(*, caller: Caller, search: Search, limit: int = 20, cursor: str | None = None) -> FoundPage:
    """Return conversations in which something is found, newest activity first; raises ``InvalidCursor``."""
    authorize(caller, Action.LIST)
    rows = _rows(caller, search)
    if cursor:
        rows = listing.beyond(rows, CURSORS, cursor)
    found: list[Found] = []
    looked_at = 0
    last: Conversation | None = None
    for page in _pages(rows):
        hits = _hits(search, page)
        for conversation in page:
            if len(found) == limit:
                return FoundPage(_shown(search, found, hits), listing.cursor_of(CURSORS, last or conversation))
            last = conversation
            title = _title_highlights(search, conversation)
            if title or conversation.pk in hits:
                found.append(Found(conversation, title))
        found = _shown(search, found, hits)
        looked_at += len(page)
        if looked_at >= MOST_LOOKED_AT and last is not None:
            return FoundPage(found, listing.cursor_of(CURSORS, last))
    return FoundPage(found, None)


def _rows(caller: Caller, search: Search) -> ConversationQuerySet:
    rows = Conversation.objects.for_owner(caller).listed()
    if search.archived is not None:
        rows = rows.filter(is_archived__in=[search.archived])
    if search.model_type:
        answers = Message.objects.filter(conversation=OuterRef("pk"), model_type=search.model_type)
        rows = rows.filter(Exists(answers))
    return rows


def _pages(rows: ConversationQuerySet) -> Iterator[list[Conversation]]:
    size = FIRST_PAGE
    fields = (*listing.LIST_FIELDS, "is_archived")
    while page := list(rows.newest_activity_first().only(*fields)[:size]):
        yield page
        if len(page) < size:
            return
        rows = listing.after(rows, page[-1])
        size = min(MOST_AT_ONCE, size * 4)


def _hits(search: Search, page: Sequence[Conversation]) -> Mapping[int, list[int]]:
    """Return by conversation the messages that were found."""
    if not search.in_messages:
        return {}
    wanted = Wanted(search.query, search.since, search.until)
    return index.current().find(wanted, [conversation.pk for conversation in page])


def _title_highlights(search: Search, conversation: Conversation) -> list[tuple[int, int]]:
    if not (search.in_titles and conversation.title and search.query.matches(fold(conversation.title))):
        return []
    if search.until and conversation.created_at >= search.until:
        return []
    if search.since and conversation.updated_at < search.since:
        return []
    return marks(Folded(conversation.title), search.query)


def _shown(search: Search, found: Sequence[Found], hits: Mapping[int, list[int]]) -> list[Found]:
    """Return what was found with its snippets; what is gone, or changed meanwhile, is left out."""
    wanted = [pk for each in found for pk in hits.get(each.conversation.pk, ())]
    messages = _messages(wanted)
    for each in found:
        for pk in hits.get(each.conversation.pk, ()):
            if (message := messages.get(pk)) and (part := snippet(message.content, search.query)):
                each.said.append(Said(message, part))
    return [each for each in found if each.title_highlights or each.said]


def _messages(ids: Collection[int]) -> dict[int, Message]:
    rows: Iterable[Message] = Message.objects.filter(pk__in=ids).only("role", "content", "created_at")
    return {message.pk: message for message in rows}

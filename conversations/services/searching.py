"""The search index made anew, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import QuerySet

from ..database.transactions import replayed
from ..models import Conversation, Generation, Message
from ..search import index
from ..search.index import Document

# On SQLite nobody else writes while a page is written.
PAGE, MOST_CHARS = 200, 500_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A page: up to which message, and how many texts were added."""

    last_id: int
    added: int


def add(messages: Iterable[Message]) -> None:
    """Take in the texts of messages that were just stored, in the same transaction."""
    index.current().add(Document(message.pk, message.conversation_id, message.content) for message in messages)


def to_index() -> QuerySet[Message]:
    """Return the messages whose text is to be found, not what tools said: answers that run get theirs as they end."""
    rows = Message.objects.filter(conversation__is_temporary=False).exclude(content="").exclude(role=Message.Role.TOOL)
    return rows.exclude(generation__status=Generation.Status.RUNNING)


@replayed
def rebuild_page(*, after: int, anew: bool = False) -> Rebuilt | None:
    """Add the texts of the next messages, those that are missing or ``anew`` all; None where there are none."""
    texts = index.current()
    ids = list(to_index().filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:PAGE])
    if not ids:
        return None
    # Locked as by those who delete, so that no message goes before its text is there; and another that rebuilds waits.
    conversations = set(Message.objects.filter(pk__in=ids).values_list("conversation_id", flat=True))
    list(Conversation.objects.filter(pk__in=conversations).order_by("pk").select_for_update().values_list("pk"))
    if anew:
        texts.forget(ids)
    documents: list[Document] = []
    chars, last = 0, ids[-1]
    rows = Message.objects.filter(pk__in=ids if anew else list(texts.missing(ids))).order_by("pk")
    for message in rows.only("conversation_id", "content"):
        documents.append(Document(message.pk, message.conversation_id, message.content))
        chars += len(message.content)
        if chars > MOST_CHARS:
            last = message.pk
            break
    texts.add(documents)
    return Rebuilt(last, len(documents))

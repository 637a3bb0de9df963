"""Where folded texts are kept and looked through. The setting ``SEARCH`` names the class: a project may have its own.

Ours is a scan: of the rows of some conversations, by one index. Indexes of words were tried and lost, on each of the
three databases: phrases and parts of words took seconds, or what an answer's end writes tens of milliseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from django.db.models import Q, Value
from django.db.models.functions import StrIndex
from django.db.models.lookups import Exact, GreaterThan
from django.utils.module_loading import import_string

from .. import conf
from ..database.compiled import InsertMany
from ..models import SearchText
from .folding import fold
from .query import Query

# Of one conversation's messages so many are told, the newest ones.
MOST_HITS = 3


class Document(NamedTuple):
    """A message's text as it is to be found."""

    message_id: int
    conversation_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for in messages: of a time, where one is given, from its beginning to before its end."""

    query: Query
    since: datetime | None = None
    until: datetime | None = None


class Index(ABC):
    """What finds messages by their text. Each method runs on a database thread."""

    @abstractmethod
    def add(self, documents: Iterable[Document]) -> None:
        """Take texts in, within the transaction that stores their messages. It may be asked again for the same ones
        only after that transaction was undone, or by ``rebuild_search``."""

    @abstractmethod
    def find(self, wanted: Wanted, conversation_ids: Collection[int]) -> dict[int, list[int]]:
        """Return by conversation the messages that match, newest first, ``MOST_HITS`` at most.

        Whose conversations these are was seen to before. A message that is gone may still be named.
        """

    @abstractmethod
    def missing(self, message_ids: Sequence[int]) -> Iterable[int]:
        """Return those of the messages whose text is not here, for ``rebuild_search``."""

    @abstractmethod
    def forget(self, message_ids: Sequence[int]) -> None:
        """Drop texts, for ``rebuild_search``; those of messages that are deleted may be dropped at any time."""


_insert = InsertMany(SearchText)


class DatabaseIndex(Index):
    """A row beside each message, which goes with it."""

    def add(self, documents: Iterable[Document]) -> None:
        _insert.run({"message_id": message_id, "text": fold(text)} for message_id, _conversation_id, text in documents)

    def find(self, wanted: Wanted, conversation_ids: Collection[int]) -> dict[int, list[int]]:
        condition = Q()
        for word in wanted.query.words:
            condition &= Q(GreaterThan(StrIndex("text", Value(word)), 0))
        for word in wanted.query.excluded:
            condition &= Q(Exact(StrIndex("text", Value(word)), 0))
        rows = SearchText.objects.filter(condition, message__conversation__in=conversation_ids)
        if wanted.since:
            rows = rows.filter(message__created_at__gte=wanted.since)
        if wanted.until:
            rows = rows.filter(message__created_at__lt=wanted.until)
        found: dict[int, list[int]] = {}
        for conversation_id, message_id in sorted(
            rows.values_list("message__conversation_id", "message_id"), reverse=True
        ):
            hits = found.setdefault(conversation_id, [])
            if len(hits) < MOST_HITS:
                hits.append(message_id)
        return found

    def missing(self, message_ids: Sequence[int]) -> Iterable[int]:
        here = set(SearchText.objects.filter(pk__in=message_ids).values_list("pk", flat=True))
        return [message_id for message_id in message_ids if message_id not in here]

    def forget(self, message_ids: Sequence[int]) -> None:
        SearchText.objects.filter(pk__in=message_ids).delete()


def current() -> Index:
    """Return the index of the settings."""
    return _made(conf.get().SEARCH)


@cache
def _made(path: str) -> Index:
    index = import_string(path)()
    assert isinstance(index, Index), "the system checks say so"
    return index

"""Querysets: every path that serves a caller starts from ``for_owner``."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from django.db import connections, models
from django.db.models import Case, OuterRef, Q, Subquery, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Length

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from . import (  # noqa: F401  (named in strings below)
        ApiKey,
        Attachment,
        Conversation,
        DailyUsage,
        Feedback,
        Generation,
        GenerationChunk,
        Message,
        Relay,
        UserConfig,
    )


# A worker numbers its rows of the chunk log from its own number times this.
KEYS_OF_A_WORKER = 1 << 40


class Asker(Protocol):
    """Whose rows are wanted: what a query has to know of a caller."""

    @property
    def user_identifier(self) -> str:
        """What stands on the rows of theirs."""

    @property
    def user(self) -> AbstractBaseUser | None:
        """Their account, if they have one."""

    @property
    def sees_all(self) -> bool:
        """Whether all rows are theirs to see: of the one person of an open server."""


M = TypeVar("M", bound=models.Model)


class OwnedQuerySet(models.QuerySet[M]):
    """Rows that belong to somebody. ``owner_path`` leads from the row to the one with ``user_identifier``.

    ``conversation_path`` leads to the conversation that the row is in, if it is in one, and else is None.
    """

    owner_path = ""
    conversation_path: str | None = None

    def for_owner(self, caller: Asker) -> Self:
        """Keep the rows that ``caller`` may see: their own, or all for the one person of an open server.

        What was deleted and may be brought back is nobody's meanwhile.
        """
        rows = self if self.conversation_path is None else self.filter(**{f"{self.conversation_path}is_hidden": False})
        return rows.belonging_to(caller)

    def belonging_to(self, caller: Asker) -> Self:
        """The same with what was deleted and may be brought back."""
        if caller.sees_all:
            return self
        return self.filter(**{f"{self.owner_path}user_identifier": caller.user_identifier})


class ConversationQuerySet(OwnedQuerySet["Conversation"]):
    conversation_path = ""

    def listed(self) -> Self:
        """Keep those that people find again: neither temporary nor hidden."""
        return self.filter(expires_at=None)

    def newest_activity_first(self) -> Self:
        return self.order_by("-updated_at", "-id")

    def without_running_answer(self) -> Self:
        return self.filter(active_generation__isnull=True)


# Of the messages beside one so many on each side are told: whoever regenerates without end makes no page slow.
MOST_SIBLINGS = 50
# MariaDB ends a recursion that goes deeper without a word, MySQL with an error.
MOST_LEVELS = 1_000
_UPWARDS = """
    WITH RECURSIVE branch (id, parent_id, level) AS (
        SELECT id, parent_id, 1 FROM {table} WHERE id = %s
        UNION ALL
        SELECT above.id, above.parent_id, branch.level + 1
        FROM {table} above JOIN branch ON above.id = branch.parent_id
        WHERE branch.level < %s
    ) SELECT {column} FROM branch
"""


class MessageQuerySet(OwnedQuerySet["Message"]):
    owner_path = conversation_path = "conversation__"

    def upwards(self, leaf_id: int, levels: int) -> Self:
        """Keep a message and those above it, newest first: so many at most, and never more than ``MOST_LEVELS``."""
        return self.filter(pk__in=self._upwards("id", leaf_id, levels)).order_by("-pk")

    def beside(self, leaf_id: int, levels: int) -> Self:
        """Keep what has the parent of one of those: they and what is beside them, but for those without a parent.

        Not by way of `upwards`: of a query in a query in a query PostgreSQL may make loops in loops in loops.
        """
        return self.filter(parent__in=self._upwards("parent_id", leaf_id, levels))

    def _upwards(self, column: str, leaf_id: int, levels: int) -> RawSQL:
        table = connections[self.db].ops.quote_name(self.model._meta.db_table)
        sql = _UPWARDS.format(table=table, column=column)
        return RawSQL(sql, (leaf_id, min(levels, MOST_LEVELS)))  # noqa: S611  # nosec B611 (our own table)


class GenerationQuerySet(OwnedQuerySet["Generation"]):
    conversation_path = "message__conversation__"

    def running(self) -> Self:
        return self.filter(status=self.model.Status.RUNNING)

    def with_ids(self) -> Self:
        """Add what identifies an answer to its clients, in the same query."""
        return self.select_related("message__conversation").only(
            *map(attrgetter("name"), self.model._meta.concrete_fields),
            "message__id",
            "message__conversation__session_id",
        )

    def with_position(self) -> Self:
        """Add ``position``: how many characters there are. One query: an answer may end between two."""
        chunks: Any = self.model._meta.get_field("chunks").related_model
        rows = chunks.objects.of(OuterRef("pk"), OuterRef("log_from"))
        last = rows.order_by("-pk").values("position")[:1]
        streamed = Coalesce(Subquery(last), 0)
        arguments = Coalesce(Length("message__arguments"), 0)
        stored = Length("message__reasoning") + Length("message__content") + arguments
        return self.annotate(position=Case(When(status=self.model.Status.RUNNING, then=streamed), default=stored))


class GenerationChunkQuerySet(models.QuerySet["GenerationChunk"]):
    def of(self, generation: Any, log_from: Any) -> Self:
        """Keep the rows of an answer, in their order: all have keys of its worker, from ``log_from`` on."""
        return self.filter(generation=generation, pk__gte=log_from, pk__lt=log_from + KEYS_OF_A_WORKER).order_by("pk")


class RelayQuerySet(OwnedQuerySet["Relay"]):
    pass


class DailyUsageQuerySet(OwnedQuerySet["DailyUsage"]):
    pass


class FeedbackQuerySet(OwnedQuerySet["Feedback"]):
    owner_path = conversation_path = "message__conversation__"


class AttachmentQuerySet(OwnedQuerySet["Attachment"]):
    def for_owner(self, caller: Asker) -> Self:
        """As of all rows; one that no message has is in no conversation that might be hidden."""
        shown = Q(conversation=None) | Q(conversation__is_hidden=False)
        return self.filter(shown).belonging_to(caller)


class UserConfigQuerySet(OwnedQuerySet["UserConfig"]):
    def owned_by(self, user_identifier: str) -> Self:
        """Keep the one row of ``user_identifier``; its key is read, and decrypted, only where it is needed."""
        return self.filter(user_identifier=user_identifier).defer("custom_api_key")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def for_owner(self, caller: Asker) -> Self:
        """Keep the keys of ``caller``'s account; the one person of an open server has none."""
        return self.none() if caller.user is None else self.filter(user=caller.user)

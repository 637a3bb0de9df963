"""Querysets: every path that serves a caller starts from ``for_owner``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models
from django.db.models import Case, OuterRef, Subquery, When
from django.db.models.functions import Coalesce, Length

if TYPE_CHECKING:
    from .access import Caller
    from .models import ApiKey, Conversation, Generation, Message, UserConfig  # noqa: F401  (named in strings below)

M = TypeVar("M", bound=models.Model)


class OwnedQuerySet(models.QuerySet[M]):
    """Rows that belong to somebody. ``owner_path`` leads from the row to the one with ``user_identifier``."""

    owner_path = ""

    def for_owner(self, caller: Caller) -> Self:
        """Keep the rows that ``caller`` may see: their own, or all for the one person of an open server."""
        if caller.sees_all:
            return self
        return self.filter(**{f"{self.owner_path}user_identifier": caller.user_identifier})


class ConversationQuerySet(OwnedQuerySet["Conversation"]):
    def newest_activity_first(self) -> Self:
        return self.order_by("-updated_at", "-id")

    def without_running_answer(self) -> Self:
        return self.filter(active_generation__isnull=True)


class MessageQuerySet(OwnedQuerySet["Message"]):
    owner_path = "conversation__"


class GenerationQuerySet(OwnedQuerySet["Generation"]):
    def running(self) -> Self:
        return self.filter(status=self.model.Status.RUNNING)

    def with_ids(self) -> Self:
        """Add what identifies an answer to its clients, in the same query."""
        return self.select_related("message__conversation").only(
            *(field.name for field in self.model._meta.concrete_fields),
            "message__id",
            "message__conversation__session_id",
        )

    def with_position(self) -> Self:
        """Add ``position``: how many characters there are. One query: an answer may end between two."""
        chunks = self.model._meta.get_field("chunks").related_model
        assert isinstance(chunks, type)
        last = chunks._default_manager.filter(generation=OuterRef("pk")).order_by("-position").values("position")[:1]
        streamed = Coalesce(Subquery(last), 0)
        stored = Length("message__reasoning") + Length("message__content")
        return self.annotate(position=Case(When(status=self.model.Status.RUNNING, then=streamed), default=stored))


class UserConfigQuerySet(OwnedQuerySet["UserConfig"]):
    def owned_by(self, user_identifier: str) -> Self:
        """Keep the one row of ``user_identifier``; its key is read, and decrypted, only where it is needed."""
        return self.filter(user_identifier=user_identifier).defer("custom_api_key")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def for_owner(self, caller: Caller) -> Self:
        """Keep the keys of ``caller``'s account; the one person of an open server has none."""
        return self.none() if caller.user is None else self.filter(user=caller.user)

"""Conversations and their messages."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connections, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

from .owned import Owned
from .querysets import ConversationQuerySet, MessageQuerySet

MODEL_TYPE_LENGTH = 64
MODEL_NAME_LENGTH = 255
TITLE_LENGTH = 200
# Of what a client calls a conversation or a message.
CLIENT_ID_LENGTH = 128
# The fields in which stands what a message says: lists do without.
MESSAGE_TEXTS = ("content", "reasoning", "arguments", "parts")


class Conversation(Owned):
    """A chat: a tree of messages of which one branch, ending in ``active_leaf``, is shown."""

    class TitleSource(models.TextChoices):
        NONE = "", _("not named yet")
        FIRST_WORDS = "first_words", _("first words of the first message")
        MODEL = "model", _("the model")
        PERSON = "person", _("a person")

    session_id = models.UUIDField(_("session id"), unique=True, default=uuid.uuid4, editable=False)
    client_id = ExactCharField(
        _("client's id"),
        max_length=CLIENT_ID_LENGTH,
        null=True,
        editable=False,
        help_text=_("What the client that began it calls it; one of its owner's has it."),
    )
    title = models.CharField(_("title"), max_length=TITLE_LENGTH, blank=True, default="")
    title_source = models.CharField(
        _("named by"), max_length=16, choices=TitleSource, blank=True, default=TitleSource.NONE
    )
    system_prompt = models.TextField(_("system prompt"), blank=True, default="")
    model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    is_pinned = models.BooleanField(_("pinned"), default=False)
    is_archived = models.BooleanField(_("archived"), default=False)
    message_count = models.PositiveIntegerField(_("messages"), default=0, editable=False)
    active_leaf = models.ForeignKey(
        "Message",
        verbose_name=_("last message shown"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    is_temporary = models.BooleanField(
        _("temporary"), default=False, db_default=False, editable=False, help_text=_("Never listed, found or named.")
    )
    is_hidden = models.BooleanField(
        _("hidden"), default=False, db_default=False, editable=False, help_text=_("Deleted, and may be brought back.")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("last activity"), default=timezone.now, editable=False)
    # Whatever is changed, an activity or not: by this other processes see what is new. Without an index, as it changes
    # twice an answer, and an owner's conversations have one.
    changed_at = models.DateTimeField(_("changed"), default=timezone.now, null=True, editable=False)
    expires_at = models.DateTimeField(
        _("deleted from"),
        null=True,
        blank=True,
        editable=False,
        db_index=True,
        help_text=_("Only of temporary and of hidden ones."),
    )

    objects = ConversationQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        constraints = [
            models.UniqueConstraint(fields=["user_identifier", "client_id"], name="conversation_client_id"),
        ]
        indexes = [
            models.Index(fields=["user_identifier", "is_archived", "-updated_at", "-id"], name="conv_owner_activity"),
            models.Index(fields=["is_archived", "-updated_at", "-id"], name="conv_activity"),
        ]

    def __str__(self) -> str:
        # Not the title: it is made of what was said, and this goes into admin's history.
        return str(self.session_id)


def cascade_flat(collector: Any, field: Any, rows: Any, using: str) -> None:
    """Do as ``CASCADE`` does, for rows below others of their own table.

    Before an account is deleted, admin shows as a tree what goes with it: there they stand in their conversation, side
    by side. Below each other they would be as deep as a conversation is long, which is deeper than Python goes.
    """
    collector.collect(rows, source=field.remote_field.model, nullable=field.null, fail_on_restricted=False)
    if field.null and not connections[using].features.can_defer_constraint_checks:
        collector.add_field_update(field, None, rows)


class Message(models.Model):
    """What one side said. Its status is that of its generation; without one it is completed."""

    class Role(models.TextChoices):
        USER = "user", _("user")
        ASSISTANT = "assistant", _("assistant")
        TOOL = "tool", _("tool")

    conversation = models.ForeignKey(
        Conversation, verbose_name=_("conversation"), on_delete=models.CASCADE, related_name="messages"
    )
    # Children have higher ids than their parents.
    parent = models.ForeignKey(
        "self",
        verbose_name=_("answers"),
        on_delete=cascade_flat,
        null=True,
        blank=True,
        db_index=False,  # `message_children` begins with it
        related_name="children",
    )
    client_id = ExactCharField(
        _("client's id"),
        max_length=CLIENT_ID_LENGTH,
        null=True,
        editable=False,
        help_text=_("What the client that sent it calls it; one of its conversation has it."),
    )
    role = models.CharField(_("role"), max_length=16, choices=Role)
    content = models.TextField(_("content"), blank=True, default="")
    reasoning = models.TextField(_("reasoning"), blank=True, default="")
    # Both NULL where the reasoning and then the content are all there is; what they say is told in `parts`.
    arguments = models.TextField(  # noqa: DJ001  (NULL: processes of the version before go on adding rows)
        _("arguments"),
        null=True,
        blank=True,
        help_text=_("Those of all tools that it calls, one after the other."),
    )
    parts = models.JSONField(_("parts"), null=True, blank=True)
    model = models.CharField(_("model"), max_length=MODEL_NAME_LENGTH, blank=True, default="")
    model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    # The messages beside it and itself, oldest first; only on rows that `services.branches` gives.
    sibling_ids: list[int]
    # What is known of the images that it shows, by their ids: their type and size. On those rows alone, too.
    images: dict[str, dict[str, Any]]

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["conversation", "client_id"], name="message_client_id"),
        ]
        # The conversation is for those without a parent.
        indexes = [models.Index(fields=["parent", "conversation"], name="message_children")]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.pk}"

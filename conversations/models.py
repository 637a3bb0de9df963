"""Conversations, their messages, and the bookkeeping that makes an answer durable."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import EncryptedTextField

from .querysets import ConversationQuerySet, GenerationQuerySet, MessageQuerySet, UserConfigQuerySet

IDENTIFIER_LENGTH = 255
MODEL_TYPE_LENGTH = 64
MODEL_NAME_LENGTH = 255
MAX_TOKENS_LIMIT = 131_072


class Owned(models.Model):
    """Whose a row is: ``user_identifier`` decides, ``owner`` stands beside it for cascades and admin."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
    )
    user_identifier = models.CharField(
        _("user identifier"),
        max_length=IDENTIFIER_LENGTH,
        blank=True,
        default="",
        help_text=_("Empty for nobody, the given user_id on an open server, user:<pk> for an account."),
    )

    class Meta:
        abstract = True


class Conversation(Owned):
    """A chat: a tree of messages of which one branch, ending in ``active_leaf``, is shown."""

    class TitleSource(models.TextChoices):
        NONE = "", _("not named yet")
        FIRST_WORDS = "first_words", _("first words of the first message")
        MODEL = "model", _("the model")
        PERSON = "person", _("a person")

    session_id = models.UUIDField(_("session id"), unique=True, default=uuid.uuid4, editable=False)
    title = models.CharField(_("title"), max_length=200, blank=True, default="")
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
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("last activity"), default=timezone.now, editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        indexes = [
            models.Index(fields=["user_identifier", "is_archived", "-updated_at", "-id"], name="conv_owner_activity"),
            models.Index(fields=["is_archived", "-updated_at", "-id"], name="conv_activity"),
        ]

    def __str__(self) -> str:
        return self.title or str(self.session_id)


class Message(models.Model):
    """One turn of one side. Its status is that of its generation; without one it is completed."""

    class Role(models.TextChoices):
        USER = "user", _("user")
        ASSISTANT = "assistant", _("assistant")

    conversation = models.ForeignKey(
        Conversation, verbose_name=_("conversation"), on_delete=models.CASCADE, related_name="messages"
    )
    parent = models.ForeignKey(
        "self", verbose_name=_("answers"), on_delete=models.CASCADE, null=True, blank=True, related_name="children"
    )
    role = models.CharField(_("role"), max_length=16, choices=Role)
    content = models.TextField(_("content"), blank=True, default="")
    reasoning = models.TextField(_("reasoning"), blank=True, default="")
    model = models.CharField(_("model"), max_length=MODEL_NAME_LENGTH, blank=True, default="")
    model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.pk}"


class Worker(models.Model):
    """A process that produces answers, and the counter by which others see that it lives."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(_("host"), max_length=255, help_text=_("Host name and process-id namespace."))
    pid = models.PositiveIntegerField(_("process id"))
    counter = models.PositiveBigIntegerField(_("counter"), default=0)
    started_at = models.DateTimeField(_("started"), default=timezone.now)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


class Generation(Owned):
    """The making of one answer: who makes it, how far it is, how it ended."""

    class Status(models.TextChoices):
        RUNNING = "running", _("running")
        COMPLETED = "completed", _("completed")
        STOPPED = "stopped", _("stopped")
        FAILED = "failed", _("failed")
        INTERRUPTED = "interrupted", _("interrupted")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    message = models.OneToOneField(
        Message, verbose_name=_("message"), on_delete=models.CASCADE, related_name="generation"
    )
    # One running answer a conversation, on every database: unique while it runs, NULL once it ended.
    active_for = models.OneToOneField(
        Conversation,
        verbose_name=_("running in"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="active_generation",
    )
    # No database constraint: a worker's row is gone once it was given up, its generations stay.
    worker = models.ForeignKey(
        Worker,
        verbose_name=_("worker"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
        related_name="generations",
    )
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.RUNNING)
    finish_reason = models.CharField(_("finish reason"), max_length=64, blank=True, default="")
    error_code = models.CharField(_("error code"), max_length=64, blank=True, default="")
    error_message = models.CharField(_("error"), max_length=500, blank=True, default="")
    retry_after = models.PositiveIntegerField(_("retry after (seconds)"), null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True, blank=True)
    total_tokens = models.PositiveIntegerField(_("total tokens"), null=True, blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, null=True, blank=True)  # noqa: DJ001
    idempotency_hash = models.CharField(_("idempotency hash"), max_length=64, blank=True, default="")
    created_at = models.DateTimeField(_("started"), default=timezone.now, editable=False)
    first_token_at = models.DateTimeField(_("first token"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    # How many characters there are; only on rows that were asked for `with_position`.
    position: int

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        constraints = [
            models.UniqueConstraint(fields=["user_identifier", "idempotency_key"], name="generation_idempotency"),
        ]
        indexes = [
            models.Index(fields=["worker", "status"], name="generation_worker_status"),
            models.Index(fields=["status"], name="generation_status"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def is_running(self) -> bool:
        return self.status == self.Status.RUNNING

    @property
    def usage(self) -> dict[str, int] | None:
        """Token counts as the API shows them, or None where the upstream reported none."""
        if self.prompt_tokens is None or self.completion_tokens is None or self.total_tokens is None:
            return None
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


class GenerationChunk(models.Model):
    """Text of a running answer, in the order of ``position``; folded into the message when it ends."""

    class Kind(models.TextChoices):
        REASONING = "reasoning", _("reasoning")
        CONTENT = "content", _("content")

    generation = models.ForeignKey(
        Generation, verbose_name=_("generation"), on_delete=models.CASCADE, related_name="chunks"
    )
    position = models.PositiveIntegerField(
        _("position"), help_text=_("Characters streamed up to and with this chunk, reasoning first.")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind)
    text = models.TextField(_("text"))

    class Meta:
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")
        constraints = [models.UniqueConstraint(fields=["generation", "position"], name="chunk_position")]

    def __str__(self) -> str:
        return f"{self.generation_id}:{self.position}"


class UserConfig(models.Model):
    """Which model answers one person, and their own endpoint if they have one."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
    )
    user_identifier = models.CharField(
        _("user identifier"), max_length=IDENTIFIER_LENGTH, unique=True, blank=True, default=""
    )
    current_model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    max_tokens = models.PositiveIntegerField(
        _("max tokens"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_TOKENS_LIMIT)]
    )
    custom_api_url = models.CharField(_("own API URL"), max_length=2000, blank=True, default="")
    custom_model = models.CharField(_("own model"), max_length=MODEL_NAME_LENGTH, blank=True, default="")
    custom_api_key = EncryptedTextField(_("own API key"), blank=True, default="")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = UserConfigQuerySet.as_manager()

    class Meta:
        verbose_name = _("user's model settings")
        verbose_name_plural = _("users' model settings")

    def __str__(self) -> str:
        return self.user_identifier or "-"

"""The bookkeeping that makes an answer durable."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

from ..querysets import GenerationQuerySet
from .conversations import Conversation, Message
from .owned import Owned


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
        db_index=False,  # `generation_worker_status` begins with it
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
    idempotency_key = ExactCharField(_("idempotency key"), max_length=255, null=True, blank=True)
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
            models.Index(fields=["user_identifier", "status"], name="generation_owner_status"),
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
        Generation,
        verbose_name=_("generation"),
        on_delete=models.CASCADE,
        db_index=False,  # `chunk_position` begins with it
        related_name="chunks",
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

"""The bookkeeping that makes an answer durable."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField, RowNumberField

from .conversations import Conversation, Message
from .owned import Owned
from .querysets import GenerationChunkQuerySet, GenerationQuerySet

# Of what an upstream says about the end of an answer.
FINISH_REASON_LENGTH = 64
ERROR_MESSAGE_LENGTH = 500
HOST_LENGTH = 255
# Of what names a call of a tool: an id and a name, which are bounded where they come in.
CALL_LENGTH = 1_000
# Money is counted in whole billionths: databases add those up exactly.
BILLION = 1_000_000_000


class Worker(models.Model):
    """A process that produces answers, and the counter by which others see that it lives."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    host = models.CharField(
        _("host"), max_length=HOST_LENGTH, help_text=_("Host name, process-id namespace and boot.")
    )
    pid = models.PositiveIntegerField(_("process id"))
    process_start = models.BigIntegerField(
        _("process start"),
        default=0,
        db_default=0,
        help_text=_("In clock ticks since the boot; 0 where that is not known."),
    )
    counter = models.PositiveBigIntegerField(_("counter"), default=0)
    log_number = models.PositiveIntegerField(
        _("number in the log"),
        null=True,
        unique=True,
        default=None,
        help_text=_("Its rows of the chunk log have this in the high bits of their keys."),
    )
    # True for the one that prunes; unique, so NULL for all others.
    prunes = models.BooleanField(_("prunes"), null=True, unique=True, default=None)
    started_at = models.DateTimeField(_("started"), default=timezone.now)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


def shown_usage(
    prompt_tokens: int, completion_tokens: int, total_tokens: int, *, reasoning_tokens: int | None, cost: int | None
) -> dict[str, int | float]:
    """Return what was counted as the API shows it; ``cost`` is in billionths."""
    shown: dict[str, int | float] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total_tokens,
    }
    if reasoning_tokens is not None:
        shown["reasoning_tokens"] = reasoning_tokens
    if cost is not None:
        shown["cost"] = cost / BILLION
    return shown


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
    finish_reason = models.CharField(_("finish reason"), max_length=FINISH_REASON_LENGTH, blank=True, default="")
    error_code = models.CharField(_("error code"), max_length=64, blank=True, default="")
    error_message = models.CharField(_("error"), max_length=ERROR_MESSAGE_LENGTH, blank=True, default="")
    retry_after = models.PositiveIntegerField(_("retry after (seconds)"), null=True, blank=True)
    prompt_tokens = models.PositiveIntegerField(_("prompt tokens"), null=True, blank=True)
    completion_tokens = models.PositiveIntegerField(_("completion tokens"), null=True, blank=True)
    total_tokens = models.PositiveIntegerField(_("total tokens"), null=True, blank=True)
    reasoning_tokens = models.PositiveIntegerField(_("reasoning tokens"), null=True, blank=True)
    estimated_prompt_tokens = models.PositiveIntegerField(
        _("prompt tokens, estimated"), default=0, db_default=0, help_text=_("What counts where its server told none.")
    )
    # Per million tokens, as they were when it began.
    input_price = models.DecimalField(_("price in"), max_digits=12, decimal_places=6, null=True, blank=True)
    output_price = models.DecimalField(_("price out"), max_digits=12, decimal_places=6, null=True, blank=True)
    cost = models.BigIntegerField(_("cost (billionths)"), null=True, blank=True)
    idempotency_key = ExactCharField(_("idempotency key"), max_length=255, null=True, blank=True)
    idempotency_hash = models.CharField(_("idempotency hash"), max_length=64, blank=True, default="")
    created_at = models.DateTimeField(_("started"), default=timezone.now, editable=False)
    log_from = models.BigIntegerField(
        _("log from"), default=0, db_default=0, help_text=_("The least key that its rows of the chunk log may have.")
    )
    first_token_at = models.DateTimeField(_("first token"), null=True, blank=True)
    reasoning_ended_at = models.DateTimeField(
        _("reasoning ended"),
        null=True,
        blank=True,
        help_text=_("When what it thought first had ended: as its answer or a call began, or at its end."),
    )
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    # How many characters there are; only on rows that were asked for `with_position`.
    position: int

    objects = GenerationQuerySet.as_manager()

    class Meta:
        verbose_name = _("generation")
        verbose_name_plural = _("generations")
        permissions = [("stop_generation", "Can stop running answers")]
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
    def usage(self) -> dict[str, int | float] | None:
        """Token counts as the API shows them, or None where the upstream reported none.

        Reasoning among them where it was told apart, and the cost where the model has a price.
        """
        if self.prompt_tokens is None or self.completion_tokens is None or self.total_tokens is None:
            return None
        counts = self.prompt_tokens, self.completion_tokens, self.total_tokens
        return shown_usage(*counts, reasoning_tokens=self.reasoning_tokens, cost=self.cost)


class GenerationChunk(models.Model):
    """Text of a running answer, in the order of ``id``; folded into the message when it ends.

    The table is a log, which is only added to at its ends, one a worker: rows are found, and deleted, by ranges of
    their keys. Nothing else is indexed and no constraint is looked up, for a busy server writes thousands a second.
    """

    class Kind(models.TextChoices):
        REASONING = "reasoning", _("reasoning")
        CONTENT = "content", _("content")
        TOOL_CALL = "tool_call", _("call of a tool")

    id = RowNumberField(_("key"), primary_key=True, help_text=_("The worker's number, and its own count."))
    generation = models.ForeignKey(
        Generation,
        verbose_name=_("generation"),
        on_delete=models.DO_NOTHING,  # `limits.budgets` deletes them, before
        db_constraint=False,
        db_index=False,
        related_name="chunks",
    )
    position = models.PositiveIntegerField(
        _("position"), help_text=_("Characters streamed up to and with this chunk, over all parts in their order.")
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind)
    text = models.TextField(_("text"))
    # A JSON list: which call it is, of the first row of each call its id and name, too.
    call = models.CharField(_("call"), max_length=CALL_LENGTH, blank=True, default="", db_default="")

    objects = GenerationChunkQuerySet.as_manager()

    class Meta:
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")

    def __str__(self) -> str:
        return f"{self.generation_id}:{self.position}"

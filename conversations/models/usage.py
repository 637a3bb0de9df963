"""What was used, and what people think of it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

from .conversations import MODEL_TYPE_LENGTH, Message
from .generations import BILLION
from .owned import IDENTIFIER_LENGTH
from .querysets import DailyUsageQuerySet, FeedbackQuerySet

FEEDBACK_LENGTH = 2_000
# The counts that are added up; what is estimated has columns of its own, with that before the name.
COUNTED = ("requests", "prompt_tokens", "completion_tokens", "cost")
# What sums may be told apart by: the name in a query, and the column.
USAGE_GROUPS = {"day": "day", "model": "model_type"}
ESTIMATED = tuple(f"estimated_{name}" for name in COUNTED)
ALL_COUNTS = (*COUNTED, "reasoning_tokens", *ESTIMATED)
# With those that are for whoever runs the server.
KEPT_COUNTS = (*ALL_COUNTS, "failed_requests")


class DailyUsage(models.Model):
    """What one model type answered somebody on one day (UTC). It outlives the conversations, and the account.

    Answers that are whole and whose server counted are told exactly; all others are estimated, and counted apart.
    """

    user_identifier = ExactCharField(
        _("user identifier"), max_length=IDENTIFIER_LENGTH, blank=True, default="", help_text=_("As on conversations.")
    )
    day = models.DateField(_("day"), db_index=True)
    model_type = ExactCharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    requests = models.BigIntegerField(_("answers"), default=0)
    prompt_tokens = models.BigIntegerField(_("prompt tokens"), default=0)
    completion_tokens = models.BigIntegerField(_("completion tokens"), default=0)
    reasoning_tokens = models.BigIntegerField(_("reasoning tokens"), default=0)
    cost = models.BigIntegerField(_("cost (billionths)"), default=0)
    estimated_requests = models.BigIntegerField(_("estimated answers"), default=0)
    estimated_prompt_tokens = models.BigIntegerField(_("estimated prompt tokens"), default=0)
    estimated_completion_tokens = models.BigIntegerField(_("estimated completion tokens"), default=0)
    estimated_cost = models.BigIntegerField(_("estimated cost (billionths)"), default=0)
    failed_requests = models.BigIntegerField(
        _("failed answers"), default=0, db_default=0, help_text=_("They are among the estimated ones, too.")
    )

    objects = DailyUsageQuerySet.as_manager()

    class Meta:
        verbose_name = _("usage of a day")
        verbose_name_plural = _("usage")
        constraints = [
            models.UniqueConstraint(fields=["user_identifier", "day", "model_type"], name="usage_of_a_day"),
        ]

    def __str__(self) -> str:
        return f"{self.user_identifier} {self.day} {self.model_type}"

    @property
    def total_cost(self) -> float:
        """What all of it cost."""
        return (self.cost + self.estimated_cost) / BILLION


class Overview(DailyUsage):
    """What is going on, for the staff: no rows of its own, but a place in admin and a permission."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


class Feedback(models.Model):
    """What somebody thinks of an answer."""

    class Rating(models.IntegerChoices):
        GOOD = 1, _("good")
        BAD = -1, _("bad")

    message = models.OneToOneField(
        Message, verbose_name=_("message"), on_delete=models.CASCADE, primary_key=True, related_name="feedback"
    )
    rating = models.SmallIntegerField(_("rating"), choices=Rating)
    text = models.CharField(_("text"), max_length=FEEDBACK_LENGTH, blank=True, default="")
    tags = models.JSONField(_("tags"), default=list, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False, db_index=True)

    objects = FeedbackQuerySet.as_manager()

    class Meta:
        verbose_name = _("feedback")
        verbose_name_plural = _("feedback")

    def __str__(self) -> str:
        return f"{self.message_id}: {self.get_rating_display()}"

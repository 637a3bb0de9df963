"""What accounts may use: allowances that an admin gives, and the tokens that were spent."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

from .generations import Generation
from .owned import IDENTIFIER_LENGTH

HIGHEST_NUMBER = 1_000_000
HIGHEST_TOKENS = 1_000_000_000_000
EMPTY_INHERITS = _("Empty: as in the groups or the settings. 0: no limit.")


class Allowance(models.Model):
    """Limits of an account, or of each member of a group. What is empty comes from the groups or the settings."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
    )
    group = models.OneToOneField(
        "auth.Group", verbose_name=_("group"), on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    requests_per_minute = models.PositiveIntegerField(
        _("requests per minute"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(HIGHEST_NUMBER)],
        help_text=EMPTY_INHERITS,
    )
    max_answers = models.PositiveIntegerField(
        _("answers at a time"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(HIGHEST_NUMBER)],
        help_text=EMPTY_INHERITS,
    )
    tokens_per_day = models.PositiveBigIntegerField(
        _("tokens per day"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(HIGHEST_TOKENS)],
        help_text=EMPTY_INHERITS,
    )
    group_tokens_per_day = models.PositiveBigIntegerField(
        _("tokens per day of the whole group"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(HIGHEST_TOKENS)],
        help_text=_("What the group's members may spend together. Empty or 0: no limit."),
    )

    class Meta:
        verbose_name = _("allowance")
        verbose_name_plural = _("allowances")
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True, group__isnull=False) | Q(user__isnull=False, group__isnull=True),
                name="allowance_of_one",
                violation_error_message=_("Choose a user or a group: one of the two."),
            ),
            models.CheckConstraint(
                condition=Q(group__isnull=False) | Q(group_tokens_per_day__isnull=True),
                name="allowance_group_tokens",
                violation_error_message=_("Only a group can have tokens of the whole group."),
            ),
        ]

    def __str__(self) -> str:
        return str(self.user or self.group)


class TokenBudget(models.Model):
    """What an account, or a group's members together, spent on one day (UTC). Changed by ``budgets`` only."""

    subject = ExactCharField(_("subject"), max_length=IDENTIFIER_LENGTH, help_text=_("user:<id> or group:<id>."))
    day = models.DateField(_("day"), db_index=True)
    spent = models.BigIntegerField(
        _("tokens spent"), default=0, help_text=_("Answers that run count with the most that they may cost.")
    )

    class Meta:
        verbose_name = _("token budget")
        verbose_name_plural = _("token budgets")
        constraints = [models.UniqueConstraint(fields=["subject", "day"], name="budget_of_a_day")]

    def __str__(self) -> str:
        return f"{self.subject} {self.day}"


class TokenCharge(models.Model):
    """Tokens that a running answer reserved in a budget. Gone once the answer's real cost is in there."""

    generation = models.ForeignKey(
        Generation, verbose_name=_("generation"), on_delete=models.CASCADE, related_name="charges"
    )
    budget = models.ForeignKey(
        TokenBudget, verbose_name=_("token budget"), on_delete=models.CASCADE, related_name="charges"
    )
    tokens = models.BigIntegerField(_("tokens"), help_text=_("Prompt and the longest answer."))
    prompt_tokens = models.BigIntegerField(_("prompt tokens"), help_text=_("An estimate."))

    class Meta:
        verbose_name = _("token charge")
        verbose_name_plural = _("token charges")

    def __str__(self) -> str:
        return f"{self.generation_id}: {self.tokens}"

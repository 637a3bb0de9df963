"""Answers that are passed on and not stored."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .conversations import MODEL_TYPE_LENGTH
from .generations import Worker
from .owned import Owned
from .querysets import RelayQuerySet


class Relay(Owned):
    """An answer that is passed on while it is made: there as long as it runs, so that limits and budgets see it.

    Its deletion is its settlement. Of what was said nothing is kept.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    worker = models.ForeignKey(
        Worker,
        verbose_name=_("worker"),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="relays",
    )
    model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH)
    estimated_prompt_tokens = models.PositiveIntegerField(_("prompt tokens, estimated"), default=0)
    max_tokens = models.PositiveIntegerField(_("tokens at most"), default=0)
    input_price = models.DecimalField(_("price in"), max_digits=12, decimal_places=6, null=True)
    output_price = models.DecimalField(_("price out"), max_digits=12, decimal_places=6, null=True)
    # Pairs of a budget's id and the tokens that it reserved there.
    charges = models.JSONField(_("charges"), default=list)
    is_stopped = models.BooleanField(
        _("stopped"), default=False, db_default=False, help_text=_("Its process is to end it, and looks every second.")
    )
    created_at = models.DateTimeField(_("started"), default=timezone.now, editable=False)

    objects = RelayQuerySet.as_manager()

    class Meta:
        verbose_name = _("relay")
        verbose_name_plural = _("relays")
        indexes = [models.Index(fields=["user_identifier"], name="relay_owner")]

    def __str__(self) -> str:
        return str(self.pk)

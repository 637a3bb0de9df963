"""Whose a row is."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

IDENTIFIER_LENGTH = 255


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
    user_identifier = ExactCharField(
        _("user identifier"),
        max_length=IDENTIFIER_LENGTH,
        blank=True,
        default="",
        help_text=_("Empty for nobody, the given user_id on an open server, user:<pk> for an account."),
    )

    class Meta:
        abstract = True

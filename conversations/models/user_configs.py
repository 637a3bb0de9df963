"""Which model answers a person."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import EncryptedTextField, ExactCharField

from .conversations import MODEL_NAME_LENGTH, MODEL_TYPE_LENGTH
from .owned import IDENTIFIER_LENGTH
from .querysets import UserConfigQuerySet

MAX_TOKENS_LIMIT = 131_072
API_URL_LENGTH = 2000


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
    user_identifier = ExactCharField(
        _("user identifier"), max_length=IDENTIFIER_LENGTH, unique=True, blank=True, default=""
    )
    current_model_type = models.CharField(_("model type"), max_length=MODEL_TYPE_LENGTH, blank=True, default="")
    max_tokens = models.PositiveIntegerField(
        _("max tokens"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_TOKENS_LIMIT)]
    )
    custom_api_url = models.CharField(_("own API URL"), max_length=API_URL_LENGTH, blank=True, default="")
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

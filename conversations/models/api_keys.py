"""Keys by which programs call the API."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactCharField

from .querysets import ApiKeyQuerySet

NAME_LENGTH = 100


class Scope(models.TextChoices):
    """What an API key may be for. A session may do everything that its account may."""

    READ = "read", _("read conversations and answers")
    CHAT = "chat", _("chat, and change or delete conversations")
    CONFIG = "config", _("see and change model settings")
    KEYS = "keys", _("make and revoke API keys")


class ApiKey(models.Model):
    """A program's way in, as the account ``user``. The key itself is shown once and never stored."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="+"
    )
    name = models.CharField(_("name"), max_length=NAME_LENGTH, help_text=_("What the key is for."))
    hint = models.CharField(_("begins with"), max_length=32, editable=False)
    hash = ExactCharField(_("SHA-256 hash"), max_length=64, unique=True, editable=False)
    scopes = models.CharField(_("scopes"), max_length=100, help_text=_("Words, separated by spaces."))
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True, help_text=_("Empty for never."))
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        indexes = [models.Index(fields=["user", "-id"], name="api_key_user")]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def scope_set(self) -> frozenset[Scope]:
        """The scopes; words that are none (any more) do not count."""
        return frozenset(Scope(word) for word in self.scopes.split() if word in Scope.values)

    @property
    def is_usable(self) -> bool:
        """Whether it still lets anybody in."""
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not expired and self.user.is_active

"""Presets: the models that the operator offers."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from . import conf
from .base import Provider
from .exceptions import InvalidEndpoint
from .fields import EncryptedTextField, ExactCharField, mask
from .guard import validate_key, validate_model_name, validate_url
from .types import Endpoint

CUSTOM = "custom"
DEFAULT = "default"
RESERVED_TYPES = (CUSTOM, DEFAULT)
MIN_CONTEXT_WINDOW = 256
MAX_TOKENS = 131_072
MAX_TEMPERATURE = 2.0


def backend_choices() -> list[tuple[str, str]]:
    """Return the backends of the settings, as choices."""
    return [(name, name) for name in conf.get().BACKENDS]


def backend_class(name: str) -> type[Provider] | None:
    """Return the class of a backend, None when there is none of that name or it cannot be imported."""
    try:
        found: type[Provider] = import_string(conf.get().BACKENDS[name])
    except (KeyError, ImportError):
        return None
    return found


def url_is_valid(value: str) -> None:
    """A field's validator: ``guard.validate_url``."""
    _judge(validate_url, value)


def key_is_valid(value: str) -> None:
    """A field's validator: ``guard.validate_key``."""
    _judge(validate_key, value)


def model_name_is_valid(value: str) -> None:
    """A field's validator: ``guard.validate_model_name``."""
    _judge(validate_model_name, value)


def _judge(validate: Callable[[str], str], value: str) -> None:
    try:
        validate(value)
    except InvalidEndpoint as error:
        raise ValidationError(error.message) from error


class PresetQuerySet(models.QuerySet["Preset"]):
    def enabled(self) -> PresetQuerySet:
        return self.filter(is_enabled=True)


class Preset(models.Model):
    """A model that everybody may choose, and where it is reached."""

    type = ExactCharField(
        _("type"),
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(r"\A[a-z0-9][a-z0-9._-]*\Z", _("Use small letters, digits, dots, hyphens and underscores."))
        ],
        help_text=_("What requests name in model_type. Conversations refer to it, so do not change it lightly."),
    )
    name = models.CharField(_("name"), max_length=200)
    api_url = models.CharField(
        _("API URL"),
        max_length=2000,
        blank=True,
        validators=[url_is_valid],
        help_text=_(
            "The full URL of the chat completions call, such as https://example.com/v1/chat/completions. "
            "A new URL clears the API key, unless you enter the key as well."
        ),
    )
    model = models.CharField(
        _("model"),
        max_length=200,
        validators=[model_name_is_valid],
        help_text=_("What the server calls the model."),
    )
    api_key = EncryptedTextField(
        _("API key"),
        blank=True,
        default="",
        validators=[key_is_valid],
        help_text=_("Stored encrypted and never shown. Leave it empty to keep it. env:NAME takes a variable's value."),
    )
    backend = models.CharField(_("backend"), max_length=64, choices=backend_choices, default="openai_compatible")
    context_window = models.PositiveIntegerField(
        _("context window"),
        default=8192,
        validators=[MinValueValidator(MIN_CONTEXT_WINDOW)],
        help_text=_("In tokens, prompt and answer together."),
    )
    max_tokens = models.PositiveIntegerField(
        _("default max tokens"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_TOKENS)],
        help_text=_("The longest answer, where neither the request nor the user's settings say."),
    )
    temperature = models.FloatField(
        _("default temperature"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.0), MaxValueValidator(MAX_TEMPERATURE)],
    )
    order = models.PositiveIntegerField(_("order"), default=100, help_text=_("Small numbers come first."))
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = PresetQuerySet.as_manager()

    class Meta:
        verbose_name = _("preset")
        verbose_name_plural = _("presets")
        ordering = ["order", "type"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(type__in=RESERVED_TYPES),
                name="llmproviders_preset_type_not_reserved",
                violation_error_message=_("This type is taken by the system."),
            ),
            models.CheckConstraint(
                condition=models.Q(context_window__gte=MIN_CONTEXT_WINDOW),
                name="llmproviders_preset_context_window_range",
            ),
            models.CheckConstraint(
                condition=models.Q(max_tokens__isnull=True) | models.Q(max_tokens__range=(1, MAX_TOKENS)),
                name="llmproviders_preset_max_tokens_range",
            ),
            models.CheckConstraint(
                condition=models.Q(temperature__isnull=True) | models.Q(temperature__range=(0.0, MAX_TEMPERATURE)),
                name="llmproviders_preset_temperature_range",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.type

    def clean(self) -> None:
        """Judge what concerns several fields; each field judges itself."""
        if not self.api_url and getattr(backend_class(self.backend), "needs_url", True):
            # Not for a field: a form without that field, as the list in admin is, could not show it.
            raise ValidationError(_("This backend needs an API URL."))

    def endpoint(self) -> Endpoint:
        """Return where this preset's model is reached. The key may still be ``env:NAME``; see ``guard.read_key``."""
        backend = backend_class(self.backend)
        limit = backend.context_limit() if backend is not None and hasattr(backend, "context_limit") else None
        return Endpoint(
            model_type=self.type,
            name=self.name,
            api_url=self.api_url,
            model=self.model,
            api_key=self.api_key,
            backend=self.backend,
            context_window=min(self.context_window, limit or self.context_window),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            is_demo=getattr(backend, "is_demo", False),
        )

    def masked_key(self) -> str:
        """Return what may be shown of the key."""
        return mask(self.api_key)

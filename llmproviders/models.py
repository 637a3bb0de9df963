"""Presets: the models that the operator offers."""

from __future__ import annotations

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from . import conf
from .fields import EncryptedTextField, ExactCharField, mask
from .registry import backend_class
from .types import Endpoint
from .validators import (
    extra_fields_are_valid,
    key_is_valid,
    model_name_is_valid,
    parameters_are_valid,
    url_is_valid,
)

CUSTOM = "custom"
DEFAULT = "default"
RESERVED_TYPES = (CUSTOM, DEFAULT)
MIN_CONTEXT_WINDOW = 256
MAX_TOKENS = 131_072
MAX_TEMPERATURE = 2.0
# Per million tokens, in whatever currency: up to 999,999.999999.
PRICE_DIGITS, PRICE_DECIMALS = 12, 6


def backend_choices() -> list[tuple[str, str]]:
    """Return the backends of the settings, as choices."""
    return [(name, name) for name in conf.get().BACKENDS]


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
            "The base URL, such as https://example.com/v1, or that of the chat completions call itself. "
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
    parameters = models.JSONField(
        _("parameters"),
        default=dict,
        blank=True,
        validators=[parameters_are_valid],
        help_text=_(
            'What else every call sends, as JSON: {"top_p": 0.9}. null leaves one out ({"temperature": null}), '
            'and {"max_tokens": "max_completion_tokens"} sends the bound of the answer under that name.'
        ),
    )
    thinks_first = models.BooleanField(
        _("thinks first"),
        default=False,
        db_default=False,
        help_text=_("Every answer begins within a thought: the opening <think> is in the prompt, not in the answer."),
    )
    takes_images = models.BooleanField(
        _("takes images"),
        null=True,
        blank=True,
        help_text=_("“No” refuses messages with images before the model is asked; “unknown” leaves it to its server."),
    )
    takes_tools = models.BooleanField(
        _("takes tools"),
        null=True,
        blank=True,
        help_text=_("“No” refuses requests with tools before the model is asked; “unknown” leaves it to its server."),
    )
    reasons = models.BooleanField(
        _("reasons"),
        null=True,
        blank=True,
        help_text=_("Whether it thinks before it answers. Only shown to whoever chooses a model."),
    )
    takes_system = models.BooleanField(
        _("takes a system prompt"),
        default=True,
        db_default=True,
        help_text=_("If not, what the model is told stands before the first message instead."),
    )
    alternates = models.BooleanField(
        _("roles take turns"),
        default=False,
        db_default=False,
        help_text=_(
            "User and assistant have to take turns, the user first: "
            "neighbours of one role are joined into one message."
        ),
    )
    extra_fields = models.CharField(
        _("extra fields"),
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        validators=[extra_fields_are_valid],
        help_text=_(
            "Fields of the server's own that callers of /v1 may send through, with blanks between them: "
            "top_k min_p chat_template_kwargs. All others are passed over."
        ),
    )
    fallbacks = models.CharField(
        _("fallbacks"),
        max_length=300,
        blank=True,
        default="",
        db_default="",
        validators=[
            RegexValidator(r"\A[a-z0-9._-]+( [a-z0-9._-]+)*\Z", _("Write types of presets, with blanks between them."))
        ],
        help_text=_("Types of presets that answer instead where this model does not begin to answer, in their order."),
    )
    input_price = models.DecimalField(
        _("price in"),
        max_digits=PRICE_DIGITS,
        decimal_places=PRICE_DECIMALS,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text=_("Of a million tokens of prompts. Empty: what answers cost is not told."),
    )
    output_price = models.DecimalField(
        _("price out"),
        max_digits=PRICE_DIGITS,
        decimal_places=PRICE_DECIMALS,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0))],
        help_text=_("Of a million tokens of answers, in the same currency."),
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
            models.CheckConstraint(
                condition=models.Q(input_price__isnull=True) | models.Q(input_price__gte=0),
                name="llmproviders_preset_input_price",
            ),
            models.CheckConstraint(
                condition=models.Q(output_price__isnull=True) | models.Q(output_price__gte=0),
                name="llmproviders_preset_output_price",
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.type

    def clean(self) -> None:
        """Judge what concerns several fields; each field judges itself."""
        if self.type in self.fallbacks.split():
            raise ValidationError({"fallbacks": _("A model is no fallback of its own.")})
        if not self.api_url and backend_class(self.backend).needs_url:
            # Not for a field: a form without that field, as the list in admin is, could not show it.
            raise ValidationError(_("This backend needs an API URL."))

    def endpoint(self) -> Endpoint:
        """Return where this preset's model is reached. The key may be ``env:NAME``: see ``net.guard.read_key``."""
        backend = backend_class(self.backend)
        limit = backend.context_limit()
        endpoint = Endpoint(
            model_type=self.type,
            name=self.name,
            api_url=self.api_url,
            model=self.model,
            api_key=self.api_key,
            backend=self.backend,
            context_window=min(self.context_window, limit or self.context_window),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            is_demo=backend.is_demo,
            parameters=self.parameters or {},
            thinks_first=self.thinks_first,
            takes_images=self.takes_images,
            takes_tools=self.takes_tools,
            reasons=self.thinks_first or self.reasons,
            takes_system=self.takes_system,
            alternates=self.alternates,
            extra_fields=tuple(dict.fromkeys(self.extra_fields.split())),
            fallbacks=tuple(self.fallbacks.split()),
            input_price=self.input_price,
            output_price=self.output_price,
        )
        return backend.adapted(endpoint)

    def masked_key(self) -> str:
        """Return what may be shown of the key."""
        return mask(self.api_key)

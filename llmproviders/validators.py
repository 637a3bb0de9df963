"""What may stand in the fields of a preset."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from .exceptions import InvalidEndpoint
from .net.guard import validate_key, validate_model_name, validate_url

MAX_PARAMETERS = 4000
MAX_EXTRA_FIELDS = 32
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
# What is said otherwise, or is not for those who ask: no extra fields.
OUR_FIELDS = frozenset({
    "model", "messages", "system", "stream", "stream_options", "tools", "functions", "n", "best_of", "temperature",
    "max_tokens", "max_completion_tokens", "stop", "tool_choice", "parallel_tool_calls",
})  # fmt: skip


def url_is_valid(value: str) -> None:
    """A field's validator: ``net.guard.validate_url``."""
    _judge(validate_url, value)


def key_is_valid(value: str) -> None:
    """A field's validator: ``net.guard.validate_key``."""
    _judge(validate_key, value)


def model_name_is_valid(value: str) -> None:
    """A field's validator: ``net.guard.validate_model_name``."""
    _judge(validate_model_name, value)


def parameters_are_valid(value: object) -> None:
    """A field's validator: an object of parameters that are ours neither to change nor to lose."""
    names = {str(name) for name in value} if isinstance(value, dict) else set()
    if not isinstance(value, dict) or names & {"model", "messages"} or len(str(value)) > MAX_PARAMETERS:
        raise ValidationError(_("Write a JSON object of parameters, without model and messages."))
    if not isinstance(value.get("max_tokens", ""), str):
        raise ValidationError(_("For max_tokens, only another name may stand here."))


def extra_fields_are_valid(value: str) -> None:
    """A field's validator: names of fields, with blanks between them, that are the upstream's own."""
    names = value.split(" ")
    if not all(FIELD_NAME.fullmatch(name) for name in names) or len(set(names)) > MAX_EXTRA_FIELDS:
        raise ValidationError(
            _("Write at most %(limit)d names of fields, with blanks between them.") % {"limit": MAX_EXTRA_FIELDS}
        )
    if ours := sorted(OUR_FIELDS.intersection(names)):
        raise ValidationError(_("These are no extra fields: %(names)s.") % {"names": ", ".join(ours)})


def _judge(validate: Callable[[str], str], value: str) -> None:
    try:
        validate(value)
    except InvalidEndpoint as error:
        raise ValidationError(error.message) from error

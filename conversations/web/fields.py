"""Serializer fields that take JSON types as they are: `"5"` is no number, `1` is no boolean, `5` no text."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import ISO_8601, serializers

from ..access.rules import ACCOUNT_PREFIX
from ..engine import completions
from ..exceptions import NotFound
from ..models import IDENTIFIER_LENGTH, MAX_TOKENS_LIMIT, MODEL_TYPE_LENGTH

# Of a number in a query or a header.
MAX_DIGITS = 12
# No lone surrogates, which no database stores, and no control characters, or only those of white space.
WORD = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*"
LINE = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]*"
# In a schema: the same line, which is not empty; lone surrogates are no text there.
LINE_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+$"
# In a schema: a character that Python does not take for white space.
VISIBLE = r"[^\s\x1c-\x1f\x85]"
# Printable and not only white space. Patterns leave out the empty text: the schema has that by itself.
MODEL_NAME = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class TextField(serializers.CharField):
    """A string, kept exactly as sent. NUL and lone surrogates are refused (no database stores them)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WordField(TextField):
    """A name or an id: a string without control characters."""

    allowed = re.compile(WORD)
    default_error_messages = {"control": _("Control characters are not allowed.")}

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and not self.allowed.fullmatch(data):
            self.fail("control")
        return super().to_internal_value(data)


class LineField(WordField):
    """The same with tabs and line breaks, which a title has that was cut out of a text."""

    allowed = re.compile(LINE)


class IntegerField(serializers.IntegerField):
    """A whole number; `5.0` is one, as JSON has no integers of its own (and OpenAPI 3.1 says so)."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            data = int(data)
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class DigitsField(serializers.IntegerField):
    """A count in a query: plain digits, no sign, blank or point."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"min_value": 0, "max_value": 10**MAX_DIGITS - 1, **kwargs})

    def to_internal_value(self, data: Any) -> int:
        if not (isinstance(data, str) and data.isascii() and data.isdigit() and len(data) <= MAX_DIGITS):
            self.fail("invalid")
        return int(data)


class NumberField(serializers.FloatField):
    """A finite number. JSON has no other, but Python makes one of `1e400`."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            number = float(data)
        except OverflowError:
            self.fail("invalid")
        if not math.isfinite(number):
            self.fail("invalid")
        return number + 0.0  # no negative zero


class BooleanField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class TimeField(serializers.DateTimeField):
    """A time in UTC and ISO 8601, whatever the time zone of pages and the project's ``DATETIME_FORMAT``."""

    timezone = UTC
    format = ISO_8601


class DayField(serializers.DateField):
    """A day in ISO 8601, whatever the project's ``DATE_FORMAT`` and ``DATE_INPUT_FORMATS``."""

    format = ISO_8601
    input_formats = (ISO_8601,)


# For ``serializer_field_mapping`` of model serializers: the times of a model in UTC.
TIMES_IN_UTC = {**serializers.ModelSerializer.serializer_field_mapping, models.DateTimeField: TimeField}


@extend_schema_field(OpenApiTypes.UUID)
class SessionIdField(WordField):
    """The id of a conversation or an answer; a malformed one is as unknown as any other: ``NotFound``."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return uuid.UUID(text)
        except ValueError:
            raise NotFound() from None


@extend_schema_field(
    {
        "type": "string",
        "maxLength": IDENTIFIER_LENGTH,
        "pattern": rf"^(?!{ACCOUNT_PREFIX})[^\x00-\x1f\x7f-\x9f]+$",
    }
)
class UserIdField(WordField):
    """Who is meant: a label, or the caller's own user name."""


@extend_schema_field({"type": "string", "maxLength": completions.MAX_MODEL_CHARS, "pattern": MODEL_NAME})
class ModelNameField(TextField):
    """What an endpoint calls its model."""


@extend_schema_field({"type": "string", "maxLength": 512, "pattern": "^(?!env:)[!-~]+$", "writeOnly": True})
class KeyField(TextField):
    """The key of an endpoint."""


def user_id_field(*, in_query: bool = False) -> UserIdField:
    return UserIdField(
        required=False,
        allow_null=not in_query,
        allow_blank=True,
        max_length=IDENTIFIER_LENGTH,
        validators=[_not_an_account],
        help_text="A label on an open server; with login the caller's own user name.",
    )


def _not_an_account(value: str) -> None:
    if value.startswith(ACCOUNT_PREFIX):
        raise serializers.ValidationError(_("A user_id may not begin with “user:”."))


@extend_schema_field({"type": "string", "maxLength": MODEL_TYPE_LENGTH, "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"})
class ModelTypeField(WordField):
    """Which model is meant."""


def model_type_field(**kwargs: Any) -> ModelTypeField:
    return ModelTypeField(max_length=MODEL_TYPE_LENGTH, help_text="A preset's type, or `custom`.", **kwargs)


def temperature_field() -> NumberField:
    return NumberField(required=False, allow_null=True, min_value=0, max_value=2)


def max_tokens_field() -> IntegerField:
    return IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_TOKENS_LIMIT)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        given = data if isinstance(data, dict) else ()  # what is no object, the framework refuses
        unknown = [name for name in given if name not in self.fields or self.fields[name].read_only]
        if unknown:
            names = [name[:100].encode("ascii", "backslashreplace").decode() for name in unknown[:20]]
            raise serializers.ValidationError({name: [_("There is no such field.")] for name in names})
        return super().to_internal_value(data)

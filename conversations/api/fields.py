"""Serializer fields that take JSON types as they are: `"5"` is no number, `1` is no boolean, `5` no text."""

from __future__ import annotations

import math
import uuid
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .. import completions
from ..access import ACCOUNT_PREFIX
from ..exceptions import NotFound
from ..models import IDENTIFIER_LENGTH, MAX_TOKENS_LIMIT, MODEL_TYPE_LENGTH

# In a schema: a character that Python does not take for white space.
VISIBLE = r"[^\s\x1c-\x1f\x85]"
# Printable and not only white space. Patterns leave out the empty text: the schema has that by itself.
MODEL_NAME = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"


class TextField(serializers.CharField):
    """A string, kept exactly as sent. NUL and lone surrogates are refused (no database stores them)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class IntegerField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class NumberField(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
            self.fail("invalid")
        return super().to_internal_value(data)


class BooleanField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field(OpenApiTypes.UUID)
class SessionIdField(TextField):
    """The id of a conversation; a malformed one is as unknown as any other: ``NotFound``."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return uuid.UUID(text)
        except ValueError:
            raise NotFound() from None


@extend_schema_field({"type": "string", "maxLength": IDENTIFIER_LENGTH, "pattern": f"^(?!{ACCOUNT_PREFIX})[\\s\\S]"})
class UserIdField(TextField):
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


def model_type_field(**kwargs: Any) -> TextField:
    return TextField(max_length=MODEL_TYPE_LENGTH, help_text="A preset's type, or `custom`.", **kwargs)


def temperature_field() -> NumberField:
    return NumberField(required=False, allow_null=True, min_value=0, max_value=2)


def max_tokens_field() -> IntegerField:
    return IntegerField(required=False, allow_null=True, min_value=1, max_value=MAX_TOKENS_LIMIT)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = [name for name in data if name not in self.fields or self.fields[name].read_only]
        if unknown:
            names = [name[:100].encode("ascii", "backslashreplace").decode() for name in unknown[:20]]
            raise serializers.ValidationError({name: [_("There is no such field.")] for name in names})
        return super().to_internal_value(data)

"""What the views of every HTTP door are written with: who calls, what was sent, and how OpenAPI shows it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

from django.utils import translation
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.fields import Field
from rest_framework.request import Request
from rest_framework.serializers import Serializer

from ..access.rules import Caller
from ..exceptions import ChatError, InvalidRequest, NotFound

# What a chat says, in one of these, as the verbs call it.
SAID = frozenset({"message", "attachments", "tool_results"})


def caller_of(request: Request) -> Caller:
    """Return who calls, as ``CallerAuthentication`` found."""
    caller = request.user
    assert isinstance(caller, Caller)
    return caller


def validated(serializer_class: type[Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return ``data`` as the serializer takes it, or raise its errors by field."""
    if type(data) is dict and not data and _is_content_with_nothing(serializer_class):
        return {}
    valid: dict[str, Any] = _validator(serializer_class, translation.get_language()).run_validation(data)
    return valid


def body_of(request: Request) -> dict[str, Any]:
    """Return the object that was sent, where the parser takes nothing else."""
    data = request.data
    assert isinstance(data, dict), "the parser says so"
    return data


def refused(where: str, reason: Any, *, code: str | None = None) -> InvalidRequest:
    """Return the refusal of a field, or of what stands in it."""
    return InvalidRequest(errors={where: [reason]}, code=code)


def checked(field: Field[Any, Any, Any, Any], value: Any, where: str) -> Any:
    """Return ``value`` as the field takes it; raises ``InvalidRequest`` that names ``where`` it stands.

    The field is a constant: a copy of it is kept for each language.
    """
    try:
        return _field(field, translation.get_language()).run_validation(value)
    except ValidationError as error:
        reasons: Any = error.detail
        raise refused(where, reasons[0]) from None


@contextmanager
def told_as(where: str) -> Iterator[None]:
    """Let the refusal of what is said name the field in which callers of another format said it."""
    try:
        yield
    except ChatError as error:
        error.errors = error.errors and {
            where if name in SAID else name: reasons for name, reasons in error.errors.items()
        }
        raise


@cache
def _is_content_with_nothing(serializer_class: type[Serializer[Any]]) -> bool:
    """Whether nothing is valid, and stays nothing: so most queries are, and each field would be asked."""
    try:
        return not serializer_class().run_validation({})
    except ValidationError:
        return False


@cache
def _validator(serializer_class: type[Serializer[Any]], _language: str | None) -> Serializer[Any]:
    """Return the one serializer that validates: a new one each time would copy all its fields (0.3 ms).

    One for each language: the framework keeps a message in the language in which it was first asked for.
    """
    return serializer_class()


@cache
def _field(field: Field[Any, Any, Any, Any], _language: str | None) -> Field[Any, Any, Any, Any]:
    """Return the copy of a field that validates, for the same reason one for each language."""
    return deepcopy(field)


def uuid_of(text: str) -> uuid.UUID:
    """Parse an id of a path; a malformed one is ``NotFound`` like any unknown one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound() from None


def request_example(body: dict[str, Any]) -> OpenApiExample:
    """Return a body that the documentation shows."""
    return OpenApiExample("A request", body, request_only=True)


def one(serializer_class: type[Serializer[Any]]) -> Any:
    """Return the answer of a call named `list` that is one object, which holds the list."""
    return forced_singular_serializer(serializer_class)  # type: ignore[no-untyped-call]


SESSION_ID = OpenApiParameter("session_id", uuid.UUID, OpenApiParameter.PATH)
GENERATION_ID = OpenApiParameter("generation_id", uuid.UUID, OpenApiParameter.PATH)

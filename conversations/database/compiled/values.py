"""What the database gets of a value: most are given as they are, and Django would ask some four functions for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from types import NoneType
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_TEXT = frozenset({models.CharField, models.TextField})
_WHOLE = frozenset(
    {
        models.AutoField,
        models.BigAutoField,
        models.BigIntegerField,
        models.IntegerField,
        models.PositiveBigIntegerField,
        models.PositiveIntegerField,
        models.PositiveSmallIntegerField,
        models.SmallIntegerField,
    }
)
_INTEGERS = _WHOLE - {models.AutoField, models.BigAutoField}
# Of these None alone is sure to stay as it is.
_OTHERS = frozenset({models.DateField, models.DateTimeField, models.DecimalField, models.FloatField})
_RELATIONS = frozenset({models.ForeignKey, models.OneToOneField})


def as_they_are(field: models.Field[Any, Any], connection: BaseDatabaseWrapper) -> frozenset[type]:
    """Return the types of whose values a column's field changes nothing, on this kind of database.

    Exact classes on both sides: what inherits may do otherwise, and is asked each time.
    """
    if isinstance(field, models.ForeignKey) and type(field) in _RELATIONS:
        # Text is another matter: Django stores none where an empty one refers to nothing.
        return as_they_are(field.target_field, connection) - {str}
    if type(field) in _TEXT:
        return frozenset({NoneType, str})
    if type(field) is models.BooleanField:
        return frozenset({NoneType, bool})
    if type(field) is models.UUIDField:
        return frozenset({NoneType, uuid.UUID} if connection.vendor == "postgresql" else {NoneType})
    if type(field) in _WHOLE:
        # PostgreSQL is told how large a number may be, and MySQL takes no key of 0.
        return frozenset({NoneType, int} if connection.vendor == "sqlite" else {NoneType})
    return frozenset({NoneType} if type(field) in _OTHERS else ())


def preparing(field: models.Field[Any, Any], prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does what ``prepare`` of this field does, and goes straight to the end of it for ordinary values."""
    if isinstance(field, models.ForeignKey) and type(field) in _RELATIONS:
        return preparing(field.target_field, prepare)
    if type(field) is models.UUIDField:
        return _preparing_ids(prepare)
    if type(field) is models.DateTimeField:
        return _preparing_moments(prepare)
    if type(field) in _INTEGERS:
        return _preparing_integers(prepare, field.get_internal_type())
    return prepare


def _preparing_ids(prepare: Callable[..., Any]) -> Callable[..., Any]:
    def run(value: Any, connection: BaseDatabaseWrapper) -> Any:
        if type(value) is uuid.UUID and not connection.features.has_native_uuid_field:
            return value.hex
        return prepare(value, connection=connection)

    return run


def _preparing_moments(prepare: Callable[..., Any]) -> Callable[..., Any]:
    def run(value: Any, connection: BaseDatabaseWrapper) -> Any:
        if type(value) is datetime and value.tzinfo is not None:
            return connection.ops.adapt_datetimefield_value(value)
        return prepare(value, connection=connection)

    return run


def _preparing_integers(prepare: Callable[..., Any], internal_type: str) -> Callable[..., Any]:
    def run(value: Any, connection: BaseDatabaseWrapper) -> Any:
        if type(value) is int:
            return connection.ops.adapt_integerfield_value(value, internal_type)
        return prepare(value, connection=connection)

    return run

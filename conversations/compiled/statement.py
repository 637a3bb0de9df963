"""What all kinds of statements share: places of values, and texts by kind of database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Value
from django.db.models.sql.compiler import SQLCompiler


class Given(Value):
    """Stands in a queryset for a value that each run brings."""

    def __init__(self, name: str, field: models.Field[Any, Any]) -> None:
        super().__init__(name, output_field=field)
        self.name = name

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        # Not its value: the place of one among the parameters.
        return "%s", [self]


def given(model: type[models.Model], field: str, name: str = "") -> Any:
    """Return the place of a value of ``model.field``, which runs give as ``name`` (left out: the field's name)."""
    found = model._meta.get_field(field)
    assert isinstance(found, models.Field), "a column of the model's own"
    return Given(name or field, found)


class Text:
    """A statement's SQL, and its parameters: constants, and places of values."""

    def __init__(self, sql: str, parameters: Iterable[Any]) -> None:
        self.sql = sql
        self._parameters: list[tuple[str, Any, Any]] = [
            ("", None, parameter)
            if not isinstance(parameter, Given)
            else (parameter.name, parameter.output_field.get_db_prep_value, None)
            for parameter in parameters
        ]

    def parameters(self, values: dict[str, Any], connection: BaseDatabaseWrapper) -> list[Any]:
        return [
            constant if prepare is None else prepare(values[name], connection=connection)
            for name, prepare, constant in self._parameters
        ]


class Statement:
    """What all kinds share: the texts, by kind of database."""

    def __init__(self) -> None:
        self._texts: dict[str, Text] = {}

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        raise NotImplementedError

    def _text(self, connection: BaseDatabaseWrapper) -> Text:
        text = self._texts.get(connection.vendor)
        if text is None:
            # Two threads may do it at once, and come to the same.
            text = self._texts[connection.vendor] = Text(*self._compile(connection))
        return text

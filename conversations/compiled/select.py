"""Statements that find rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Value
from django.db.models.query import FlatValuesListIterable, ModelIterable, QuerySet, get_related_populators
from django.db.models.sql.compiler import SQLCompiler

from .statement import Statement

Row = TypeVar("Row")


class Select(Statement, Generic[Row]):
    """Finds rows: what the queryset would give, model instances (without annotations) or values."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Row]]) -> None:
        super().__init__()
        self._queryset = queryset
        self._makers: dict[str, Callable[[Sequence[Any]], Row]] = {}

    def all(self, **values: Any) -> list[Row]:
        """Return the rows."""
        connection = connections[DEFAULT_DB_ALIAS]
        text = self._text(connection)
        with connection.cursor() as cursor:
            cursor.execute(text.sql, text.parameters(values, connection))
            found = cursor.fetchall()
        if not found:
            return []
        make = self._makers[connection.vendor]
        return [make(row) for row in found]

    def first(self, **values: Any) -> Row | None:
        """Return the first row, None if there is none; the queryset should say that there is one at most."""
        found = self.all(**values)
        return found[0] if found else None

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        queryset = self._queryset()
        compiler = queryset.query.get_compiler(connection=connection)
        sql, parameters = compiler.as_sql()
        self._makers[connection.vendor] = _converting(compiler, _maker(queryset, compiler))
        return sql, parameters


class Count(Select[int]):
    """Counts the rows of a queryset."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Any]]) -> None:
        # Over a constant, nothing is grouped: there is one row, also where the queryset has none.
        super().__init__(
            lambda: (
                queryset()
                .order_by()
                .values(one=Value(1))
                .annotate(rows=models.Count("*"))
                .values_list("rows", flat=True)
            )
        )

    def number(self, **values: Any) -> int:
        """Return how many there are."""
        return self.all(**values)[0]


def _maker(queryset: QuerySet[Any, Any], compiler: SQLCompiler) -> Callable[[Sequence[Any]], Any]:
    """Return what makes of a row what the queryset gives: see ``django.db.models.query``."""
    if issubclass(queryset._iterable_class, FlatValuesListIterable):
        return itemgetter(0)
    if not issubclass(queryset._iterable_class, ModelIterable):
        return tuple
    select, info = compiler.select, compiler.klass_info
    model, places = info["model"], info["select_fields"]
    begin, end = places[0], places[-1] + 1
    names = [column[0].target.attname for column in select[begin:end]]
    populators: Any = get_related_populators(info, select, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]

    def make(row: Sequence[Any]) -> Any:
        instance = model.from_db(DEFAULT_DB_ALIAS, names, row[begin:end])
        for populator in populators:
            populator.populate(row, instance)
        return instance

    return make


def _converting(compiler: SQLCompiler, make: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    """Return ``make`` after the conversions that this kind of database needs."""
    converters = list(compiler.get_converters([column[0] for column in compiler.select]).items())
    if not converters:
        return make

    def converted(row: Sequence[Any]) -> Any:
        values = list(row)
        for place, (functions, expression) in converters:
            for convert in functions:
                values[place] = convert(values[place], expression, compiler.connection)
        return make(values)

    return converted

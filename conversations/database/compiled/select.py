"""Places of values and texts by kind of database, which all statements have; and statements that find rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Value
from django.db.models.query import FlatValuesListIterable, ModelIterable, QuerySet, get_related_populators
from django.db.models.sql.compiler import SQLCompiler

from . import execution
from .values import as_they_are, preparing

Row = TypeVar("Row")

# Django 6.1 has to be told how fields that were left out are fetched: as ever, one by one, when somebody asks.
FETCH_MODE: tuple[Any, ...] = (models.FETCH_ONE,) if hasattr(models, "FETCH_ONE") else ()


class Given(Value):
    """Stands in a queryset for a value that each run brings."""

    def __init__(self, name: str, field: models.Field[Any, Any]) -> None:
        super().__init__(name, output_field=field)
        self.name = name

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        # Not its value: the place of one among the parameters.
        return "%s", [self]

    @property
    def prepare(self) -> Callable[..., Any]:
        """What makes of a value what the database gets; fields may store another form than they look for."""
        field = self.output_field
        return preparing(field, field.get_db_prep_save if self.for_save else field.get_db_prep_value)


def given(model: type[models.Model], field: str, name: str = "") -> Any:
    """Return the place of a value of ``model.field``, which runs give as ``name`` (left out: the field's name)."""
    found = model._meta.get_field(field)
    assert isinstance(found, models.Field), "a column of the model's own"
    return Given(name or field, found)


class Statement:
    """What all kinds share: by kind of database its SQL, and the parameters, which are constants and places."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, list[_Part]]] = {}

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        raise NotImplementedError

    def _bound(self, connection: BaseDatabaseWrapper, values: dict[str, Any]) -> tuple[str, list[Any]]:
        """Return the SQL, and its parameters with the values in their places."""
        text = self._texts.get(connection.vendor)
        if text is None:
            sql, parameters = self._compile(connection)
            # Two threads may do it at once, and come to the same.
            text = self._texts[connection.vendor] = sql, [_part(parameter, connection) for parameter in parameters]
        sql, parts = text
        return sql, [
            constant
            if prepare is None
            else value
            if type(value := values[name]) in simple
            else prepare(value, connection=connection)
            for name, prepare, simple, constant in parts
        ]


# The name and the preparation of a place, and the types of values that need none; or a constant.
_Part = tuple[str, Callable[..., Any] | None, frozenset[type], Any]


def _part(parameter: Any, connection: BaseDatabaseWrapper) -> _Part:
    if isinstance(parameter, Given):
        return parameter.name, parameter.prepare, as_they_are(parameter.output_field, connection), None
    return "", None, frozenset(), parameter


class Select(Statement, Generic[Row]):
    """Finds rows: what the queryset would give, model instances (without annotations) or values."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Row]]) -> None:
        super().__init__()
        self._queryset = queryset
        self._makers: dict[str, Callable[[Sequence[Any]], Row]] = {}

    def all(self, **values: Any) -> list[Row]:
        """Return the rows."""
        connection = connections[DEFAULT_DB_ALIAS]
        found = execution.run(connection, *self._bound(connection, values), execution.all_rows)
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
    populators: Any = get_related_populators(info, select, DEFAULT_DB_ALIAS, *FETCH_MODE)

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

"""Statements that change rows, delete and make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import chain
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query import QuerySet
from django.db.models.signals import post_save, pre_save
from django.db.models.sql import DeleteQuery, InsertQuery, UpdateQuery

from . import execution
from .select import Given, Statement

M = TypeVar("M", bound=models.Model)

# No statement inserts more: SQLite takes 999 values where it was built long ago.
MOST_ROWS = 128


class _Write(Statement):
    def run(self, **values: Any) -> int:
        """Do it; return how many rows it met."""
        connection = connections[DEFAULT_DB_ALIAS]
        return execution.run(connection, *self._bound(connection, values), execution.row_count)


class Update(_Write):
    """Changes the rows of a queryset that joins nothing. ``changes`` may be constants, places and expressions."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Any]], changes: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._queryset = queryset
        self._changes = changes

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        query: Any = self._queryset().query.chain(UpdateQuery)
        query.add_update_values(self._changes())
        sql, parameters = query.get_compiler(connection=connection).as_sql()
        return sql, parameters


class Delete(_Write):
    """Deletes the rows of a queryset, and nothing that hangs on them: they must have no children."""

    def __init__(self, queryset: Callable[[], QuerySet[Any, Any]]) -> None:
        super().__init__()
        self._queryset = queryset

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        query = self._queryset().query.chain(DeleteQuery)
        sql, parameters = query.get_compiler(connection=connection).as_sql()
        return sql, parameters


class _Insertion(Statement, Generic[M]):
    """An INSERT of one row, with a place for each column but a key that the database gives."""

    returns_key = False

    def __init__(self, model: type[M]) -> None:
        super().__init__()
        self._model = model

    @cached_property
    def _automatic(self) -> models.Field[Any, Any] | None:
        """The key, where the database gives it."""
        key = self._model._meta.pk
        return key if isinstance(key, models.AutoField) else None

    @cached_property
    def _fields(self) -> list[models.Field[Any, Any]]:
        return [field for field in self._model._meta.concrete_fields if field is not self._automatic]

    def _compile(self, connection: BaseDatabaseWrapper) -> tuple[str, Iterable[Any]]:
        query: Any = InsertQuery(self._model)
        query.insert_values(self._fields, [_Places(self._fields)])
        compiler = query.get_compiler(connection=connection)
        if self._returns_key(connection):
            compiler.returning_fields = [self._automatic]
        ((sql, parameters),) = compiler.as_sql()
        return sql, parameters

    def _returns_key(self, connection: BaseDatabaseWrapper) -> bool:
        return self.returns_key and self._automatic is not None and connection.features.can_return_columns_from_insert


class Insert(_Insertion[M]):
    """Makes rows of a model, as ``objects.create`` does."""

    returns_key = True

    def create(self, **values: Any) -> M:
        """Make a row and return it; signals are sent as ever. Values are given by the names of their fields."""
        if not self._has_listeners:
            columns = self._columns({self._attnames[name]: _key_of(value) for name, value in values.items()})
            columns[self._key_name] = self._added(columns)
            names = self._attnames.values()
            made = self._model.from_db(DEFAULT_DB_ALIAS, names, [columns[name] for name in names])
            for name in values.keys() - columns.keys():  # what it refers to, that need not be looked up again
                setattr(made, name, values[name])
            return made
        connection = connections[DEFAULT_DB_ALIAS]
        instance = self._model(**values)
        signal: dict[str, Any] = {"instance": instance, "raw": False, "using": DEFAULT_DB_ALIAS, "update_fields": None}
        pre_save.send(self._model, **signal)
        key = self._insert(connection, {field.attname: field.pre_save(instance, True) for field in self._fields})
        if self._automatic is not None:
            setattr(instance, self._automatic.attname, key)
        instance._state.adding = False
        instance._state.db = DEFAULT_DB_ALIAS
        post_save.send(self._model, created=True, **signal)
        return instance

    def add(self, **values: Any) -> Any:
        """Make a row and return its key alone: an instance is made only where a signal has to bring it.

        Foreign keys are given by their columns' names.
        """
        if self._has_listeners:
            return self.create(**values).pk
        return self._added(self._columns(values))

    @property
    def _has_listeners(self) -> bool:
        return pre_save.has_listeners(self._model) or post_save.has_listeners(self._model)

    def _columns(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return all columns but a key that the database gives."""
        columns = {**self._constants, **values}
        for name, default in self._made:
            if name not in columns:
                columns[name] = default()
        if len(columns) > len(self._fields):
            raise TypeError(f"{self._model.__name__} has no such columns among {sorted(values)}")
        return columns

    def _added(self, columns: dict[str, Any]) -> Any:
        """Make a row and return its key."""
        key = self._insert(connections[DEFAULT_DB_ALIAS], columns)
        return columns[self._key_name] if self._automatic is None else key

    @cached_property
    def _attnames(self) -> dict[str, str]:
        """The columns' names by those of their fields, in the model's order."""
        return {field.name: field.attname for field in self._model._meta.concrete_fields}

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """The defaults that are the same for each row, by column."""
        return {field.attname: field.get_default() for field in self._fields if not _makes(field)}

    @cached_property
    def _made(self) -> list[tuple[str, Callable[[], Any]]]:
        """What makes the other defaults."""
        return [(field.attname, field.get_default) for field in self._fields if _makes(field)]

    @cached_property
    def _key_name(self) -> str:
        key = self._model._meta.pk
        assert key is not None
        return key.attname

    def _insert(self, connection: BaseDatabaseWrapper, values: dict[str, Any]) -> Any:
        """Make a row; return the key that the database gave, if it did."""
        return execution.run(connection, *self._bound(connection, values), partial(self._new_key, connection))

    def _new_key(self, connection: BaseDatabaseWrapper, cursor: Any) -> Any:
        if self._automatic is None:
            return None
        if self._returns_key(connection):
            return cursor.fetchone()[0]
        return connection.ops.last_insert_id(cursor, self._model._meta.db_table, str(self._automatic.column))


def _key_of(value: Any) -> Any:
    return value.pk if isinstance(value, models.Model) else value


def _makes(field: models.Field[Any, Any]) -> bool:
    """Whether the field's default is made anew for each row."""
    return field.has_default() and callable(field.default)


class InsertMany(_Insertion[M]):
    """Makes rows of a model, as ``objects.bulk_create`` does: without signals, and without telling keys."""

    def run(self, rows: Iterable[dict[str, Any]]) -> None:
        """Make rows, of which each gives all fields but a key that the database gives."""
        connection = connections[DEFAULT_DB_ALIAS]
        bound = [self._bound(connection, row) for row in rows]
        if not bound:
            return
        sql, first = bound[0]
        row_of_places = f", ({', '.join(['%s'] * len(first))})"
        # Not `executemany`: SQLite's gives up Python's lock for each row, and a thread that competes with a busy
        # event loop gets it back up to 5 ms later (measured with 200 streams); psycopg's asks for each row.
        for begin, size in _powers_of_two(len(bound)):
            values = list(chain.from_iterable(row for _sql, row in bound[begin : begin + size]))
            execution.run(connection, sql + row_of_places * (size - 1), values, execution.row_count)


def _powers_of_two(number: int) -> Iterator[tuple[int, int]]:
    """Cut ``number`` rows into runs, as (begin, size), of few different sizes: drivers keep prepared statements."""
    begin = 0
    while begin < number:
        size = min(MOST_ROWS, 1 << ((number - begin).bit_length() - 1))
        yield begin, size
        begin += size


class _Places:
    """Looks to the compiler like an instance with places for values; a model's own descriptors would convert them."""

    def __init__(self, fields: Iterable[models.Field[Any, Any]]) -> None:
        self.__dict__.update({field.attname: Given(field.attname, field) for field in fields})

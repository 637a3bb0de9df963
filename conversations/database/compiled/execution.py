"""Compiled statements on the driver's own cursor.

Django's stands between two, and translates the places of values anew each time: as much work again as a look-up by key
on SQLite, a fifth on PostgreSQL. On MariaDB it is little, and Django's there knows which errors are the data's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from . import prepared

R = TypeVar("R")

# What a statement is run for: taken from its cursor before that is closed.
all_rows: Callable[[Any], Sequence[Sequence[Any]]] = methodcaller("fetchall")
row_count: Callable[[Any], int] = attrgetter("rowcount")

_PLACE = re.compile(r"%(s|%)")


def run(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], result: Callable[[Any], R]) -> R:
    """Run a statement, in Django's form, and return its ``result``; errors are Django's.

    It goes the ordinary way where somebody looks on: with DEBUG, a log of queries or an ``execute_wrapper``. What
    replaces Django's cursors themselves does not see it.
    """
    if not connection.queries_logged and not connection.execute_wrappers:
        connection.validate_no_broken_transaction()
        connection.close_if_health_check_failed()
        if connection.connection is None:
            connection.ensure_connection()
        if connection.vendor == "sqlite":
            with connection.wrap_database_errors:
                return result(connection.connection.execute(_question_marks(sql), parameters))
        if prepared.can_run(connection):
            return prepared.run(connection, sql, parameters, result)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return result(cursor)


@lru_cache(1024)
def _question_marks(sql: str) -> str:
    """Return the statement as SQLite's driver takes it."""
    return _PLACE.sub(lambda place: "?" if place[1] == "s" else "%", sql)

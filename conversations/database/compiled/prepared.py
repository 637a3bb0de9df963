"""Statements that PostgreSQL keeps: parsed and planned once for each connection.

Without that it plans each of an answer's two dozen statements anew, which takes it longer than to run them. psycopg
keeps count of what a connection has prepared. What stands between may not: a pooler in transaction mode gives each
transaction another session, in which our statements are unknown, or are others'. The first that is not where it
should be ends the preparing, for as long as the process lives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import outages

try:
    import psycopg
except ImportError:  # another database's project, or one with psycopg2
    psycopg = None  # type: ignore[assignment]

R = TypeVar("R")

logger = logging.getLogger("conversations.database")

# How many a connection keeps: those there are, some of them for several numbers of values.
MOST_KEPT = 400


class _Kept:
    """What this process knows of its connections."""

    def __init__(self) -> None:
        self.prepares = True
        # A connection's cursor, and whether what it has prepared can be relied on.
        self.cursors: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.outdated: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


_kept = _Kept()


def can_run(connection: BaseDatabaseWrapper) -> bool:
    """Whether it is a connection of psycopg 3."""
    return psycopg is not None and isinstance(connection.connection, psycopg.Connection)


def run(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], result: Callable[[Any], R]) -> R:
    """Run a statement and return its ``result``. Errors are Django's; one that comes of preparing alone asks to repeat
    the transaction, and is not seen outside of one.
    """
    prepares = _kept.prepares and connection.connection not in _kept.outdated
    try:
        return _run(connection, sql, parameters, result, prepares=prepares)
    except Error as error:
        if not prepares or not outages.is_unprepared(error):
            raise
        _stop_preparing(connection, error)
        if connection.in_atomic_block:
            _ask_to_repeat(error)
    return _run(connection, sql, parameters, result, prepares=False)


def _run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], result: Callable[[Any], R], *, prepares: bool
) -> R:
    cursor = _kept.cursors.get(connection.connection) or _new_cursor(connection.connection)
    with connection.wrap_database_errors:
        cursor.execute(sql, parameters, prepare=prepares)
        return result(cursor)


def _new_cursor(driver: Any) -> Any:
    """Return the cursor of a connection: Django's own would write the values into the text."""
    driver.prepare_threshold = 0  # Django switches it off; its cursors prepare nothing whatever it says
    driver.prepared_max = MOST_KEPT
    cursor = psycopg.Cursor(driver)
    _kept.cursors[driver] = cursor
    return cursor


def _stop_preparing(connection: BaseDatabaseWrapper, error: Error) -> None:
    if outages.is_outdated_plan(error):  # a migration changed a table under it
        _kept.outdated[connection.connection] = True
        return
    _kept.prepares = False
    logger.info("statements are not prepared: PostgreSQL, or a pooler before it, does not keep them (%s)", error)


def _ask_to_repeat(error: Error) -> NoReturn:
    raise OperationalError(*error.args) from error.__cause__

"""Statements that PostgreSQL keeps: parsed and planned once for each connection, until it rolls a transaction back.

Without that it plans each of an answer's two dozen statements anew, which takes it longer than to run them. psycopg
keeps count of what a connection has prepared, and calls it `_pg3_0`, `_pg3_1` and so on in each of them: behind a
pooler, which lends the sessions of the server now to one connection and now to another, a name may stand for what
somebody else prepared. So it is done only where nothing stands between: where the server's process is the one that
the connection was told of. A pooler tells of itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import outages

psycopg: Any = None  # of another database's project, or one with psycopg2
numeric: Any = None
with suppress(ImportError):
    psycopg, numeric = import_module("psycopg"), import_module("psycopg.types.numeric")

R = TypeVar("R")

logger = logging.getLogger("conversations.database")

# How many a connection keeps: those there are, some of them for several numbers of values.
MOST_KEPT = 400
# Of eight bytes; what is beyond goes as a number of any size.
LEAST, MOST = -(1 << 63), (1 << 63) - 1

# Whether statements are prepared on a connection of psycopg's.
_prepares: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def can_run(connection: BaseDatabaseWrapper) -> bool:
    """Whether it is a connection of psycopg 3."""
    return psycopg is not None and isinstance(connection.connection, psycopg.Connection)


def run(connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], result: Callable[[Any], R]) -> R:
    """Run a statement and return its ``result``. Errors are Django's; one that comes of preparing alone asks to repeat
    the transaction, and is not seen outside of one.
    """
    driver = connection.connection
    prepares = _prepares.get(driver)
    if prepares is None:
        prepares = _prepares[driver] = _is_direct(connection)
    try:
        return _run(connection, sql, parameters, result, prepares=prepares)
    except Error as error:
        if not prepares or not outages.is_unprepared(error):
            raise
        logger.info("statements are not prepared on this connection any more: %s", error)
        _prepares[driver] = False
        if connection.in_atomic_block:
            raise OperationalError(*error.args) from error.__cause__
    return _run(connection, sql, parameters, result, prepares=False)


def _is_direct(connection: BaseDatabaseWrapper) -> bool:
    """Whether nothing stands between: then what the server says of its process is what the connection was told."""
    (pid,) = _run(connection, "SELECT pg_backend_pid()", (), lambda cursor: cursor.fetchone(), prepares=False)
    return bool(pid == connection.connection.info.backend_pid)


def _run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], result: Callable[[Any], R], *, prepares: bool
) -> R:
    driver = connection.connection
    parameters = [_sized(value) if isinstance(value, int) else value for value in parameters]
    # Not Django's own cursor, which writes the values into the text.
    cursor = psycopg.Cursor(driver)
    # For this statement alone: else psycopg counts all others, which it keeps for that with their values in them.
    before = driver.prepare_threshold
    driver.prepare_threshold, driver.prepared_max = 0 if prepares else None, MOST_KEPT
    try:
        with connection.wrap_database_errors:
            cursor.execute(sql, parameters)
            return result(cursor)
    finally:
        driver.prepare_threshold = before


def _sized(value: int) -> Any:
    """Return a number as one of eight bytes, whatever Django calls it.

    It calls constants numbers of four bytes whatever they are, and psycopg sends no more of them than that.
    """
    if isinstance(value, bool):
        return value
    return numeric.Int8(value) if LEAST <= value <= MOST else int(value)

"""One `migrate` at a time: a second one waits until the first is done, and then finds nothing to do.

The lock is held by a connection of its own, and goes with it: who is killed holds up nobody.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from .sessions import beside_a_pool

# Any number will do that other programs are not likely to take for their own advisory lock.
POSTGRESQL_KEY = 0x63_68_61_74_6D_69_67
# MySQL's locks are of the whole server, and a wait has to end before a read times out (seconds).
MYSQL_WAIT = 5


@contextmanager
def migration_lock(connection: BaseDatabaseWrapper, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of this database; ``waiting`` is called once if another process has it."""
    if connection.vendor == "sqlite":
        with _file_lock(connection, waiting):
            yield
        return
    own = beside_a_pool(connection)
    try:
        LOCKS.get(own.vendor, _no_lock)(own, waiting)
        yield
    finally:
        own.close()


def _lock_postgresql(own: BaseDatabaseWrapper, waiting: Callable[[], None]) -> None:
    """In a transaction that stays open: a pooler may give each its own connection to the server."""
    own.set_autocommit(False)
    with own.cursor() as cursor:
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute(f"SET LOCAL {name} = 0")
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [POSTGRESQL_KEY])
        if not cursor.fetchone()[0]:
            waiting()
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [POSTGRESQL_KEY])


def _lock_mysql(own: BaseDatabaseWrapper, waiting: Callable[[], None]) -> None:
    name = f"migrate {hashlib.sha256(str(own.settings_dict['NAME']).encode()).hexdigest()[:32]}"
    with own.cursor() as cursor:
        # Else the server ends a connection that says nothing for so long.
        cursor.execute("SET SESSION wait_timeout = 604800")
        cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
        if cursor.fetchone()[0] != 1:
            waiting()
            _wait_mysql(cursor, name)


def _wait_mysql(cursor: CursorWrapper, name: str) -> None:
    while True:
        cursor.execute("SELECT GET_LOCK(%s, %s)", [name, MYSQL_WAIT])
        if cursor.fetchone()[0] == 1:
            return


def _no_lock(own: BaseDatabaseWrapper, waiting: Callable[[], None]) -> None:
    """Of a kind of database that this app does not know."""


LOCKS = {"postgresql": _lock_postgresql, "mysql": _lock_mysql}


@contextmanager
def _file_lock(connection: BaseDatabaseWrapper, waiting: Callable[[], None]) -> Iterator[None]:
    """Of the file's folder, so that no file is left; in memory there is nobody else."""
    path = Path(str(connection.settings_dict["NAME"]))
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    if ":memory:" in path.name or "mode=memory" in path.name or not path.parent.is_dir():
        yield
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

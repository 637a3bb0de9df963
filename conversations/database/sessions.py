"""What each new connection to the database is given, whatever its settings and poolers on the way lose.

In our own threads; in all of a process's where ``everywhere`` was called, because the database is ours alone.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from .. import conf

# `lock_timeout` of 0 waits for ever. One that the URL, the account or the database brings stays.
POSTGRESQL = """
    SELECT current_setting('transaction_read_only') = 'on',
    CASE WHEN current_setting('lock_timeout') = '0' THEN set_config('lock_timeout', %s, false) END
"""
# Where the mode is not strict, text that is too long is cut without a word.
MYSQL = """
    SET SESSION innodb_lock_wait_timeout = LEAST(@@innodb_lock_wait_timeout, %s),
    SESSION sql_mode = IF(@@sql_mode LIKE '%%STRICT%%' OR @@sql_mode LIKE '%%TRADITIONAL%%', @@sql_mode,
        CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_TRANS_TABLES'))
"""
MYSQL_READ_ONLY = "SHOW SESSION VARIABLES WHERE variable_name IN ('tx_read_only', 'transaction_read_only')"

_here = threading.local()
_is_everywhere = False
# Connections whose transactions may only read; that stays so after the server is writable again.
read_only: WeakSet[BaseDatabaseWrapper] = WeakSet()
# Descriptor and inode of each connection's socket: while a thread waits on it, MySQL's driver tells neither to others.
_sockets: WeakKeyDictionary[BaseDatabaseWrapper, tuple[int, int]] = WeakKeyDictionary()


def everywhere() -> None:
    """Prepare the connections of all threads of the process."""
    global _is_everywhere
    _is_everywhere = True


def in_this_thread() -> None:
    """Prepare the connections of this thread. It keeps them: a pool of the project's would soon have none to lend."""
    _here.prepares = True
    if connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"].get("pool"):
        connections[DEFAULT_DB_ALIAS] = beside_a_pool(connections[DEFAULT_DB_ALIAS])


def beside_a_pool(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    """Return a new connection to the same database that no pool lends (``OPTIONS["pool"]``)."""
    options = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
    given = {**connection.settings_dict, "OPTIONS": options}
    own: BaseDatabaseWrapper = load_backend(given["ENGINE"]).DatabaseWrapper(given, connection.alias)
    return own


def prepare(connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    """Receive ``connection_created``."""
    if connection.alias != DEFAULT_DB_ALIAS or not (_is_everywhere or getattr(_here, "prepares", False)):
        return
    if hasattr(connection.connection, "fileno"):  # not SQLite's driver, nor PyMySQL in the place of MySQL's
        descriptor = connection.connection.fileno()
        _sockets[connection] = descriptor, os.fstat(descriptor).st_ino
    seconds = conf.get().LOCK_TIMEOUT
    read_only.discard(connection)
    if connection.vendor == "postgresql":
        is_read_only = _prepare_postgresql(connection, seconds)
    elif connection.vendor == "mysql":
        is_read_only = _prepare_mysql(connection, seconds)
    else:
        return
    if is_read_only:
        read_only.add(connection)


def _prepare_postgresql(connection: BaseDatabaseWrapper, seconds: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(POSTGRESQL, [f"{seconds * 1000:.0f}ms"])
        return bool(cursor.fetchone()[0])


def _prepare_mysql(connection: BaseDatabaseWrapper, seconds: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(MYSQL, [max(1, round(seconds))])
        cursor.execute(MYSQL_READ_ONLY)
        return any(value == "ON" for _name, value in cursor.fetchall())


def cut(connection: BaseDatabaseWrapper) -> None:
    """End, from another thread, what waits on this connection for a server that says nothing."""
    descriptor, inode = _sockets.get(connection, (-1, 0))
    # Not connected, no socket (SQLite), or closed meanwhile: then the descriptor may be somebody else's.
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as same:
        if os.fstat(same.fileno()).st_ino == inode:
            same.shutdown(socket.SHUT_RDWR)

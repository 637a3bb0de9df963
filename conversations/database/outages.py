"""What is away for a while, told from what is wrong for good; and how often the log says so.

Drivers raise ``OperationalError`` for both: for a server that restarts, and for text that a column cannot hold. Only
the first is worth another try.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

from django.db import DatabaseError, DataError, InterfaceError, InternalError, OperationalError

# How often the log tells that something is away (seconds).
TELL_EVERY = 60.0

# SQLSTATEs of PostgreSQL and classes of them. 25006: a transaction that may only read, as on a stand-by.
READ_ONLY_TRANSACTION = "25006"
WAITED_TOO_LONG = frozenset({"55P03", "40001", "40P01", "57014"})

# Numbers of MariaDB and MySQL. Whatever is not here, and no error of data, says something about the server.
LOCKED = frozenset({1205, 1213, 3572})
UNFIT_DATA = frozenset(
    {
        1118,  # a row that is too long
        1153,  # larger than `max_allowed_packet`
        1264,  # out of range
        1265,  # truncated
        1267,  # collations that do not go together
        1271,
        1292,  # a wrong value, such as of a date
        1300,  # text that is invalid in its character set
        1364,  # a column without default
        1366,  # text that the column's character set cannot hold
        1406,  # too long
        1977,  # text that cannot be converted to another character set
        3854,
        3988,
    }
)
# Statements that no repetition mends.
UNFIT_STATEMENT = frozenset({1054, 1064, 1142, 1143, 1146, 1305, 1370})

# A prepared statement that the session does not know, or knows as another; and one from before a change of its table.
NOT_PREPARED = frozenset({"26000", "42P05"})
OUTDATED_PLAN = "0A000"

# The database asks for another try: a deadlock, or rows that changed between a look and a lock; or we do.
ASKS_TO_REPEAT = frozenset({"40001", "40P01", 1213, 1020}) | NOT_PREPARED | {OUTDATED_PLAN}

SQLITE_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


def is_outage(error: BaseException) -> bool:
    """Return whether the database as a whole refuses, for now: locked, full, read-only, restarted, out of reach."""
    if isinstance(error, InterfaceError):
        return True
    if not isinstance(error, DatabaseError):
        return False
    sqlite = _sqlite_code(error)
    if sqlite is not None:
        return sqlite in SQLITE_AWAY | SQLITE_LOCKED
    if isinstance(error, InternalError):
        return _sqlstate(error) == READ_ONLY_TRANSACTION
    return isinstance(error, OperationalError) and _number(error) not in UNFIT_DATA | UNFIT_STATEMENT


def is_lock(error: BaseException) -> bool:
    """Return whether this outage is a lock alone: the connection is as good as before."""
    return _sqlite_code(error) in SQLITE_LOCKED or _sqlstate(error) in WAITED_TOO_LONG or _number(error) in LOCKED


def asks_to_repeat(error: BaseException) -> bool:
    """Return whether the transaction was undone because of others', and would work when it is tried again."""
    return isinstance(error, OperationalError) and not ASKS_TO_REPEAT.isdisjoint({_sqlstate(error), _number(error)})


def is_unprepared(error: BaseException) -> bool:
    """Return whether a statement failed because it was prepared, and would not without."""
    return _sqlstate(error) in NOT_PREPARED or is_outdated_plan(error)


def is_outdated_plan(error: BaseException) -> bool:
    """Return whether a statement was prepared before its table was changed."""
    return _sqlstate(error) == OUTDATED_PLAN and "cached plan" in str(error)


def is_unfit_data(error: BaseException) -> bool:
    """Return whether the database cannot hold what it was given, now or ever."""
    if isinstance(error, DataError):
        return True
    return isinstance(error, OperationalError) and _number(error) in UNFIT_DATA


def _sqlite_code(error: BaseException) -> int | None:
    """The primary result code, without what SQLite adds in the higher bits."""
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        # Python's own module raises some without a code: "Cannot operate on a closed database."
        return sqlite3.SQLITE_PROTOCOL if isinstance(cause, sqlite3.ProgrammingError) else None
    return int(code) & 0xFF


def _sqlstate(error: BaseException) -> str:
    cause = error.__cause__
    return str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")  # of psycopg 3, or 2


def _number(error: BaseException) -> int:
    """The number of MariaDB and MySQL; 0 for none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


class Outage:
    """Tells the log that something is away: at once, then once a minute, and when it is back.

    However many ask, and however often; safe among threads.
    """

    def __init__(self, what: str, logger: logging.Logger) -> None:
        self._what = what
        self._logger = logger
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew: for tests."""
        self._told_at = float("-inf")
        self._was_told = False
        self._untold = 0

    def report(self, error: object, *, then: str = "") -> None:
        """Something failed for that reason; ``then`` says what follows from it."""
        with self._lock:
            now = time.monotonic()
            if now - self._told_at < TELL_EVERY:
                self._untold += 1
                return
            self._told_at, self._was_told = now, True
            untold, self._untold = self._untold, 0
        again = f" ({untold} times more since this was said last)" if untold else ""
        reason = f": {then}" if then else ""
        self._logger.warning("%s does not answer%s%s: %s", self._what, reason, again, error)

    def recovered(self) -> None:
        """It answered: said where its outage was."""
        if self._was_told:
            with self._lock:
                was_told, self._was_told = self._was_told, False
            if was_told:
                self._logger.info("%s answers again", self._what)


database = Outage("the database", logging.getLogger("conversations.database"))
channel_layer = Outage("the channel layer", logging.getLogger("conversations.channel_layer"))

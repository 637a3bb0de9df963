"""What is away for a while is told from what is wrong for good; and the log tells of it once a minute."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, InternalError, OperationalError
from django.db import ProgrammingError as BadStatement

from conversations.database import outages
from conversations.web.errors import as_chat_error


class PostgresError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


def of_postgresql(kind: type[DatabaseError], sqlstate: str | None) -> Exception:
    error = kind("whatever language it speaks")
    error.__cause__ = PostgresError(sqlstate)
    return error


class Postgres2Error(Exception):
    """As psycopg 2 has them."""

    def __init__(self, pgcode: str) -> None:
        self.pgcode = pgcode


def of_psycopg2(kind: type[DatabaseError], pgcode: str) -> Exception:
    error = kind("whatever language it speaks")
    error.__cause__ = Postgres2Error(pgcode)
    return error


def of_mysql(number: int, kind: type[Exception] = OperationalError) -> Exception:
    return kind(number, "whatever language it speaks")


def of_sqlite(fail: Callable[[], Any]) -> Exception:
    with pytest.raises(sqlite3.Error) as caught:
        fail()
    kind = {"OperationalError": OperationalError, "DatabaseError": DatabaseError, "ProgrammingError": BadStatement}
    error = kind[type(caught.value).__name__](str(caught.value))
    error.__cause__ = caught.value
    return error


AWAY = {
    "PostgreSQL cannot be reached": of_postgresql(OperationalError, None),
    "PostgreSQL became a stand-by, or is set to read only": of_postgresql(InternalError, "25006"),
    "PostgreSQL has too many connections": of_postgresql(OperationalError, "53300"),
    "PostgreSQL's disk is full": of_postgresql(OperationalError, "53100"),
    "PostgreSQL shuts down": of_postgresql(OperationalError, "57P01"),
    "PostgreSQL starts or recovers": of_postgresql(OperationalError, "57P03"),
    "PostgreSQL waited for a lock": of_postgresql(OperationalError, "55P03"),
    "PostgreSQL is set to read only, by psycopg 2": of_psycopg2(InternalError, "25006"),
    "PostgreSQL waited for a lock, by psycopg 2": of_psycopg2(OperationalError, "55P03"),
    "the driver lost its connection": InterfaceError("connection already closed"),
    "MariaDB cannot be reached": of_mysql(2002),
    "MariaDB has gone away": of_mysql(2006),
    "MariaDB was lost during a query": of_mysql(2013),
    "MariaDB has too many connections": of_mysql(1040),
    "MariaDB shuts down": of_mysql(1053),
    "MariaDB is read-only": of_mysql(1290),
    "MariaDB's transactions only read": of_mysql(1792),
    "MariaDB's table is full": of_mysql(1114),
    "MariaDB waited for a lock": of_mysql(1205),
    "MariaDB killed the connection": of_mysql(1927),
}
UNFIT = {
    "MariaDB's column cannot hold the text": of_mysql(1366),
    "MariaDB's column is too short": of_mysql(1406, DataError),
    "MariaDB takes no packet so large": of_mysql(1153),
    "PostgreSQL's encoding cannot hold the text": of_postgresql(DataError, "22P05"),
    "PostgreSQL takes no NUL": of_postgresql(DataError, "22021"),
}
OURS = {
    "a statement that is wrong": of_postgresql(BadStatement, "42601"),
    "a table that is not there": of_mysql(1146, BadStatement),
    "a column that is not there": of_mysql(1054),
    "a transaction that failed before": of_postgresql(InternalError, "25P02"),
    "rows that do not go together": IntegrityError(1062, "Duplicate entry"),
    "no error of a database": ValueError(1040),
}


@pytest.mark.parametrize("name", AWAY)
def test_an_outage_is_worth_another_try(name: str) -> None:
    assert outages.is_outage(AWAY[name])
    assert not outages.is_unfit_data(AWAY[name])
    refusal = as_chat_error(AWAY[name])
    assert refusal is not None
    assert (refusal.status, refusal.code) == (503, "database_busy")


@pytest.mark.parametrize("name", UNFIT)
def test_data_that_the_database_cannot_hold_is_no_outage(name: str) -> None:
    assert not outages.is_outage(UNFIT[name])
    assert outages.is_unfit_data(UNFIT[name])
    refusal = as_chat_error(UNFIT[name])
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retry_after) == (500, "unfit_for_database", None)


@pytest.mark.parametrize("name", OURS)
def test_a_fault_of_ours_is_neither(name: str) -> None:
    assert not outages.is_outage(OURS[name])
    assert not outages.is_unfit_data(OURS[name])
    assert as_chat_error(OURS[name]) is None


def test_only_a_lock_leaves_the_connection_as_good_as_it_was() -> None:
    locked = {name for name, error in AWAY.items() if outages.is_lock(error)}
    assert locked == {
        "PostgreSQL waited for a lock",
        "PostgreSQL waited for a lock, by psycopg 2",
        "MariaDB waited for a lock",
    }


@pytest.mark.parametrize("told", [of_postgresql, of_psycopg2])
def test_a_deadlock_asks_to_repeat(told: Callable[..., Exception]) -> None:
    assert outages.asks_to_repeat(told(OperationalError, "40P01"))
    assert not outages.asks_to_repeat(told(OperationalError, "53300"))


def test_sqlite_that_is_locked(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as one,
        closing(sqlite3.connect(tmp_path / "db", timeout=0)) as other,
    ):
        one.execute("BEGIN EXCLUSIVE")
        error = of_sqlite(lambda: other.execute("CREATE TABLE t (a)"))
    assert outages.is_outage(error)
    assert outages.is_lock(error)


@pytest.mark.parametrize("what", ["read-only", "a folder", "no database", "full", "closed"])
def test_sqlite_that_is_away(tmp_path: Path, what: str) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as one:
        one.execute("CREATE TABLE t (a)")
        one.execute(f"PRAGMA max_page_count = {one.execute('PRAGMA page_count').fetchone()[0]}")
        (tmp_path / "other").write_bytes(b"no database" * 1000)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            fail: dict[str, Callable[[], Any]] = {
                "read-only": lambda: reader.execute("INSERT INTO t VALUES (1)"),
                "a folder": lambda: sqlite3.connect(tmp_path),
                "no database": lambda: sqlite3.connect(tmp_path / "other").execute("SELECT * FROM t"),
                "full": lambda: one.execute("INSERT INTO t VALUES (randomblob(100000))"),
                "closed": lambda: (one.close(), one.execute("SELECT 1")),
            }
            error = of_sqlite(fail[what])
    assert outages.is_outage(error)
    assert not outages.is_lock(error)


@pytest.mark.parametrize("sql", ["SELECT * FROM nothing", "SELEC"])
def test_a_wrong_statement_is_no_outage_of_sqlite(sql: str) -> None:
    with closing(sqlite3.connect(":memory:")) as one:
        assert not outages.is_outage(of_sqlite(lambda: one.execute(sql)))


# The log --------------------------------------------------------------------------------------------------------
@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("conversations.database.outages.time.monotonic", lambda: now[0])
    return now


def test_an_outage_is_told_once_a_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outage = outages.Outage("the cellar", logging.getLogger("tests.outages"))
    for _second in range(181):
        outage.report("no light")
        clock[0] += 1
    outage.recovered()
    outage.recovered()
    assert [record.getMessage() for record in caplog.records] == [
        "the cellar does not answer: no light",
        *["the cellar does not answer (59 times more since this was said last): no light"] * 3,
        "the cellar answers again",
    ]


def test_what_flickers_is_not_told_more_often(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outage = outages.Outage("the cellar", logging.getLogger("tests.outages"))
    for _second in range(60):
        outage.report("no light")
        outage.recovered()
        clock[0] += 1
    assert len(caplog.records) == 2

"""Databases for server processes that tests start: each of its own, of the kind that ``DATABASE_URL`` names.

A database belongs to a folder. With SQLite it is a file in there; else one on the server of ``DATABASE_URL``, made
when it is first asked for and dropped at the end of the run at the latest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.db import ConnectionHandler
from django.db.backends.base.base import BaseDatabaseWrapper

from chatproject.environment import database as settings_of

ROOT = Path(__file__).resolve().parents[1]
FILE = "db.sqlite3"
# Where one is connected to make and drop others.
ABOVE = {"postgresql": "postgres", "mysql": ""}

_names: dict[Path, str] = {}
_made = iter(range(1_000_000))


@cache
def settings() -> dict[str, Any]:
    """Django's settings of the run's own database."""
    return settings_of("DATABASE_URL", ROOT, f"sqlite:///{ROOT}/{FILE}")


def vendor() -> str:
    """``sqlite``, ``postgresql`` or ``mysql``."""
    return str(settings()["ENGINE"]).rpartition(".")[2].removesuffix("3")


def url_of(folder: Path) -> str:
    """Return the ``DATABASE_URL`` of a folder's database. A new one is empty."""
    if vendor() == "sqlite":
        return f"sqlite:///{folder / FILE}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{_name(folder)}").geturl()


def copy(source: Path, target: Path) -> None:
    """Copy a folder and its database, which nobody may be using, to one that has none yet."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    if vendor() == "postgresql":
        original, _names[target] = _name(source), _new_name()
        _above(f'CREATE DATABASE "{_names[target]}" TEMPLATE "{original}"')
    elif vendor() == "mysql":
        _copy_tables(_name(source), _name(target))


def rows(folder: Path, sql: str) -> list[Any]:
    """Return what a query finds, read past Django: a row of one column as its value alone."""
    with cursor_of(folder) as cursor:
        cursor.execute(sql)
        return [row[0] if len(row) == 1 else row for row in cursor.fetchall()]


def contents(folder: Path) -> bytes:
    """Everything that a database holds; with SQLite the bytes of its files."""
    if vendor() == "sqlite":
        return b"".join(path.read_bytes() for path in folder.glob(f"{FILE}*"))
    schema = "current_schema()" if vendor() == "postgresql" else "database()"
    tables = rows(folder, f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
    return repr({table: rows(folder, f"SELECT * FROM {table}") for table in tables}).encode()


def idle_transactions(folder: Path) -> int:
    """How many transactions are open on a database server whose clients say nothing at the moment."""
    sql = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'idle in transaction'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        " ON p.id = t.trx_mysql_thread_id WHERE p.db = %s AND p.command = 'Sleep'",
    }[vendor()]
    return _count(sql, _name(folder))


def connections_to(folder: Path) -> int:
    """How many connections a database server has to a folder's database."""
    sql = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = %s",
        "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = %s",
    }[vendor()]
    return _count(sql, _name(folder))


def _count(sql: str, name: str) -> int:
    with _wrapped(ABOVE[vendor()]) as wrapper, closing(wrapper.connection.cursor()) as cursor:
        cursor.execute(sql, [name])
        return int(cursor.fetchone()[0])


@contextmanager
def cursor_of(folder: Path) -> Iterator[Any]:
    """A cursor past Django, on a connection of its own that commits each statement."""
    with (
        _wrapped(str(folder / FILE) if vendor() == "sqlite" else _name(folder)) as wrapper,
        closing(wrapper.connection.cursor()) as cursor,
    ):
        yield cursor


def drop(folder: Path) -> None:
    """Drop a folder's database, whoever is connected. A SQLite file goes with its folder."""
    name = _names.pop(folder, None)
    if name:
        force = " WITH (FORCE)" if vendor() == "postgresql" else ""
        _above(f"DROP DATABASE IF EXISTS {_quoted(name)}{force}")


def drop_all() -> None:
    """Drop what is left; at the end of the run."""
    for folder in list(_names):
        drop(folder)


def _name(folder: Path) -> str:
    if folder not in _names:
        _names[folder] = _new_name()
        # As docs/database.md says.
        collation = " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci" if vendor() == "mysql" else ""
        _above(f"CREATE DATABASE {_quoted(_names[folder])}{collation}")
    return _names[folder]


def _new_name() -> str:
    return f"chat_{os.getpid()}_{next(_made)}"


def _quoted(name: str) -> str:
    return f'"{name}"' if vendor() == "postgresql" else f"`{name}`"


def _above(sql: str) -> None:
    with _wrapped(ABOVE[vendor()]) as wrapper, closing(wrapper.connection.cursor()) as cursor:
        cursor.execute(sql)


@contextmanager
def _wrapped(name: str) -> Iterator[BaseDatabaseWrapper]:
    """A connection to the database of this name. Opened by hand: tests without a database may need one as well."""
    wrapper = ConnectionHandler({"default": {**settings(), "NAME": name}})["default"]
    wrapper.connection = wrapper.get_new_connection(wrapper.get_connection_params())
    try:
        wrapper._set_autocommit(True)  # type: ignore[attr-defined]
        yield wrapper
    finally:
        wrapper.connection.close()


def _copy_tables(source: str, target: str) -> None:
    """MySQL has no templates."""
    with _wrapped(target) as wrapper, closing(wrapper.connection.cursor()) as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute(f"SHOW TABLES FROM {_quoted(source)}")
        for (table,) in cursor.fetchall():
            cursor.execute(f"SHOW CREATE TABLE {_quoted(source)}.{_quoted(table)}")
            cursor.execute(cursor.fetchone()[1])
            cursor.execute(f"INSERT INTO {_quoted(table)} SELECT * FROM {_quoted(source)}.{_quoted(table)}")

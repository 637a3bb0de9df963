"""The old service's database, read only: which tables and columns it has, and its rows as plain values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from django.utils.translation import gettext as _

from . import values
from .schema import CONFIGS, CONVERSATIONS, MESSAGES, Names, OldConfig, OldConversation, OldMessage, Table

# So many conversations are read at a time, with all their messages.
BATCH = 100
FAMILIES = {
    "sqlite": "sqlite",
    "mysql": "mysql",
    "mariadb": "mysql",
    "postgres": "postgresql",
    "postgresql": "postgresql",
}
READ_ONLY = {
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}


class SourceError(Exception):
    """The old database cannot be read; the text says why, without its password."""


Row = Mapping[str, Any]


@contextmanager
def open_source(location: str, *, zone: tzinfo = UTC) -> Iterator[Source]:
    """Open the old database: a path to a SQLite file, or a URL (SQLAlchemy's spellings too).

    ``zone`` is what its times without a time zone mean. Raises ``SourceError``.
    """
    try:
        connection = ConnectionHandler({"default": _settings_of(location)})["default"]
    except ImproperlyConfigured as error:  # the driver is not installed
        raise SourceError(" ".join(str(error).split())) from error
    try:
        yield Source(connection, zone)
    finally:
        connection.close()


def _settings_of(location: str) -> dict[str, Any]:
    scheme, separator, rest = location.partition("://")
    if not separator:
        return _sqlite(Path(location))
    family = FAMILIES.get(scheme.partition("+")[0])
    if family is None:
        raise SourceError(_("Give a path to a SQLite file, or a URL: sqlite:///PATH, mysql://… or postgresql://…."))
    try:
        config: dict[str, Any] = dict(environ.Env.db_url_config(f"{family}://{rest}"))
    except (ValueError, KeyError, ImproperlyConfigured):
        # Not chained: a password with a special character would stand in the error's text.
        raise SourceError(
            _("The URL is malformed: write special characters of the password as %40 and the like.")
        ) from None
    return _sqlite(Path(config["NAME"])) if family == "sqlite" else config


def _sqlite(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SourceError(_("%(path)s is not a file.") % {"path": path})
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{path.absolute().as_uri()}?mode=ro"}


def _no_column(table: str, column: str) -> SourceError:
    names = {"table": repr(table), "column": repr(column)}
    return SourceError(_("The table %(table)s of the old database has no column %(column)s.") % names)


class Source:
    """An open old database. Make it with ``open_source``.

    Rows are read in pages, each a query of its own, so that nothing is held open while others are stored:
    the old tables and ours may be in one database.
    """

    def __init__(self, connection: BaseDatabaseWrapper, zone: tzinfo) -> None:
        self._connection = connection
        self._zone = zone
        self._known = self._introspect()
        self._conversations = self._table("conversations", CONVERSATIONS, required=("session",))
        self._messages = self._table("messages", MESSAGES, required=("id", "role", "content"))
        self._link = self._link_columns()
        self._configs = None
        if "user_configs" in self._known:
            self._configs = self._table("user_configs", CONFIGS, required=("user",))
        self.messages_read = 0

    @property
    def has_accounts(self) -> bool:
        """Whether the version of the service that wrote this had logins: those kept local time."""
        return "users" in self._known

    def conversations(self) -> Iterator[OldConversation]:
        """Yield every conversation with its messages."""
        table = self._conversations
        key = "id" if "id" in table.columns else "session"
        last: Any = None
        while rows := self._page(table, key, last):
            yield from self._with_messages(rows)
            last = rows[-1][key]

    def orphans(self) -> int:
        """Return how many messages belong to no conversation, once all conversations were read."""
        # The name comes from the database's own catalogue, and is quoted.
        [(count,)] = self._query(f"SELECT COUNT(*) FROM {self._quote(self._messages.name)}")  # noqa: S608  # nosec B608
        return max(0, int(count) - self.messages_read)

    def configs(self) -> Iterator[OldConfig]:
        """Yield every user's settings."""
        for row in self._select(self._configs) if self._configs else ():
            yield OldConfig(
                user=values.identifier(row.get("user")),
                model_type=values.model_type(row.get("model_type")),
                max_tokens=row.get("max_tokens") if isinstance(row.get("max_tokens"), int) else None,
                api_url=values.clean_text(row.get("api_url")).strip(),
                model=values.clean_text(row.get("model")).strip(),
                api_key=values.clean_text(row.get("api_key")).strip(),
            )

    # Which tables and columns ---------------------------------------------------------------------------------

    def _introspect(self) -> dict[str, dict[str, str]]:
        """Return the columns of the old service's tables: name in lower case -> name."""
        try:
            with self._connection.cursor() as cursor:
                self._prepare(cursor)
                introspection = self._connection.introspection
                wanted = {"conversations", "messages", "user_configs", "users"}
                return {
                    name: {
                        column.name.lower(): column.name
                        for column in introspection.get_table_description(cursor, name)
                    }
                    for name in wanted.intersection(introspection.table_names(cursor))
                }
        except DatabaseError as error:
            raise self._unreadable(error) from None

    def _prepare(self, cursor: Any) -> None:
        if statement := READ_ONLY.get(self._connection.vendor):
            cursor.execute(statement)
        elif self._connection.vendor == "sqlite":
            # One text that is not UTF-8 must not end the import.
            self._connection.connection.text_factory = lambda data: data.decode("utf-8", "replace")

    def _table(self, name: str, names: Names, *, required: tuple[str, ...]) -> Table:
        if name not in self._known:
            raise SourceError(_("The old database has no table %(table)s.") % {"table": repr(name)})
        there = self._known[name]
        columns = {
            ours: there[theirs]
            for ours, spellings in names.items()
            for theirs in reversed(spellings)
            if theirs in there
        }
        for ours in required:
            if ours not in columns:
                raise _no_column(name, names[ours][0])
        return Table(name, columns)

    def _link_columns(self) -> tuple[str, str]:
        """Return which column of messages says their conversation, and which of conversations it means."""
        if "session" in self._messages.columns:
            return "session", "session"
        if "conversation" not in self._messages.columns:
            raise _no_column("messages", "conversation_id")
        return "conversation", "id" if "id" in self._conversations.columns else "session"

    # Rows -----------------------------------------------------------------------------------------------------

    def _with_messages(self, rows: list[Row]) -> Iterator[OldConversation]:
        message_side, conversation_side = self._link
        keys = [row[conversation_side] for row in rows]
        messages = defaultdict(list)
        for row in self._select(self._messages, only=(message_side, keys)):
            messages[row[message_side]].append(row)
            self.messages_read += 1
        for row in rows:
            yield OldConversation(
                session=values.clean_text(row["session"]),
                user=values.identifier(row.get("user")),
                title=" ".join(values.clean_text(row.get("title")).split()),
                created_at=values.moment(row.get("created"), self._zone),
                updated_at=values.moment(row.get("updated"), self._zone),
                messages=self._in_order(messages[row[conversation_side]]),
            )

    def _in_order(self, rows: list[Row]) -> list[OldMessage]:
        """Numbers were given in order; ids of other kinds say nothing, so there the time decides."""
        timed = [(row, values.moment(row.get("created"), self._zone)) for row in rows]
        if all(isinstance(row["id"], int) for row in rows):
            timed.sort(key=lambda item: item[0]["id"])
        else:
            timed.sort(key=lambda item: (item[1] or datetime.min.replace(tzinfo=UTC), str(item[0]["id"])))
        return [OldMessage(values.role(row["role"]), values.clean_text(row["content"]), at) for row, at in timed]

    def _page(self, table: Table, key: str, after: Any) -> list[Row]:
        column = self._quote(table.columns[key])
        where = f"WHERE {column} IS NOT NULL" if after is None else f"WHERE {column} > %s"
        return self._rows(table, f"{where} ORDER BY {column} LIMIT {BATCH}", [] if after is None else [after])

    def _select(self, table: Table, *, only: tuple[str, list[Any]] | None = None) -> list[Row]:
        if only is None:
            return self._rows(table, "", [])
        name, wanted = only
        places = ", ".join(["%s"] * len(wanted))
        return self._rows(table, f"WHERE {self._quote(table.columns[name])} IN ({places})", wanted)

    def _rows(self, table: Table, rest: str, parameters: list[Any]) -> list[Row]:
        columns = ", ".join(self._quote(column) for column in table.columns.values())
        # Names come from the database's own catalogue, and are quoted; values are parameters.
        sql = f"SELECT {columns} FROM {self._quote(table.name)}"  # noqa: S608  # nosec B608
        found = self._query(f"{sql} {rest}", parameters)
        return [dict(zip(table.columns, row, strict=True)) for row in found]

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())
        except DatabaseError as error:
            raise self._unreadable(error) from None

    def _quote(self, name: str) -> str:
        return self._connection.ops.quote_name(name)

    def _unreadable(self, error: DatabaseError) -> SourceError:
        text = " ".join(str(error).split())
        password = str(self._connection.settings_dict.get("PASSWORD") or "")
        reason = text.replace(password, "***") if password else text
        return SourceError(_("The old database cannot be read: %(reason)s") % {"reason": reason})

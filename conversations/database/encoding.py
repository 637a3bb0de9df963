"""Whether a database can hold what people write: every character there is."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

OUR_APPS = ("conversations", "llmproviders")
MYSQL_CHARSETS = "SELECT @@character_set_client, @@character_set_connection, @@character_set_database"
MYSQL_COLUMNS = """
    SELECT table_name, column_name, character_set_name FROM information_schema.columns
    WHERE table_schema = DATABASE() AND character_set_name NOT IN ('utf8mb4', 'binary')
    ORDER BY table_name, column_name
"""


def unfit(connection: BaseDatabaseWrapper) -> str:
    """Return why this database is unfit and what to do, "" for a fit one. Raises what its driver raises."""
    if connection.vendor == "postgresql":
        return _unfit_postgresql(connection)
    if connection.vendor == "mysql":
        return _unfit_mysql(connection)
    return ""


def _unfit_postgresql(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_encoding')")
        (encoding,) = cursor.fetchone()
    if encoding == "UTF8":
        return ""
    return _(
        "the database's encoding is %(found)s, which cannot hold every character: make one with "
        "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0 (docs/database.md)"
    ) % {"found": encoding}


def _unfit_mysql(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute(MYSQL_CHARSETS)
        client, between, database = cursor.fetchone()
        cursor.execute(MYSQL_COLUMNS)
        columns = cursor.fetchall()
    for found in (client, between):
        if found != "utf8mb4":
            return _(
                "the connection's character set is %(found)s, which cannot hold every character: set the option "
                "charset to utf8mb4, or leave it out (docs/database.md)"
            ) % {"found": found}
    if database != "utf8mb4":
        return _(
            "the database's character set is %(found)s, which cannot hold every character: run "
            "ALTER DATABASE … CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci (docs/database.md)"
        ) % {"found": database}
    return _unfit_column(columns)


def _unfit_column(columns: Iterable[tuple[str, str, str]]) -> str:
    ours = {model._meta.db_table for app in OUR_APPS for model in apps.get_app_config(app).get_models(True)}
    for table, column, found in columns:
        if table in ours:
            return _(
                "the column %(column)s has the character set %(found)s, which cannot hold every character: run "
                "ALTER TABLE %(table)s MODIFY … CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci, and the like "
                "for other such columns (docs/database.md)"
            ) % {"column": f"{table}.{column}", "found": found, "table": table}
    return ""

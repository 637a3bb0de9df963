"""How large tables are, told quickly: what databases estimate, or counted up to a bound. One or two statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import connection
from django.db.models import Model

# Rows are counted up to here, where the database estimates none.
MOST_COUNTED = 10_000
FAR = 1 << 39

POSTGRESQL = """
    SELECT c.relname, GREATEST(c.reltuples, s.n_live_tup, 0), pg_total_relation_size(c.oid)
    FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relname IN ({places})
"""
MYSQL = """
    SELECT table_name, table_rows, data_length + index_length
    FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ({places})
"""
# Numbers of rows grow: the last and the first one tell how many there can be.
SQLITE = """
    SELECT '{name}', (SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {most} + 1)),
    (SELECT MAX(rowid) FROM {table}) - (SELECT MIN(rowid) FROM {table}) + 1
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """Of one model's table; ``bytes`` with its indexes, None where the database does not tell."""

    model: type[Model]
    rows: int
    kind: Literal["exact", "estimate", "at most", "at least"]
    bytes: int | None = None


def sizes(models: Sequence[type[Model]]) -> list[TableSize]:
    """Return how large the tables of models are, in that order; a table that is not there is left out."""
    if connection.vendor == "sqlite":
        found = _on_sqlite(models)
    elif connection.vendor in ("postgresql", "mysql"):
        found = _estimated(POSTGRESQL if connection.vendor == "postgresql" else MYSQL, models)
    else:
        found = {model: _counted(model, _bounded(model)) for model in models}
    return [found[model] for model in models if model in found]


def total_bytes() -> int | None:
    """Return how large the file is, where the database is one."""
    if connection.vendor != "sqlite":
        return None
    rows = _rows("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    return int(rows[0][0])


def _estimated(sql: str, models: Sequence[type[Model]]) -> dict[type[Model], TableSize]:
    by_name = {model._meta.db_table: model for model in models}
    rows = _rows(sql.format(places=", ".join(["%s"] * len(by_name))), list(by_name))
    return {by_name[name]: TableSize(by_name[name], int(number or 0), "estimate", size) for name, number, size in rows}


def _on_sqlite(models: Sequence[type[Model]]) -> dict[type[Model], TableSize]:
    quoted = connection.ops.quote_name
    names = {model._meta.label: model for model in models}
    parts = [
        SQLITE.format(name=name, table=quoted(model._meta.db_table), most=MOST_COUNTED)
        for name, model in names.items()
    ]
    found = {}
    for name, counted, span in _rows(" UNION ALL ".join(parts)):
        size = _counted(names[name], counted)
        # Keys of several workers' logs lie far from each other.
        if size.kind == "at least" and span < FAR:
            size = TableSize(names[name], span, "at most")
        found[names[name]] = size
    return found


def _bounded(model: type[Model]) -> int:
    return model._base_manager.values("pk")[: MOST_COUNTED + 1].count()


def _counted(model: type[Model], number: int) -> TableSize:
    if number > MOST_COUNTED:
        return TableSize(model, MOST_COUNTED, "at least")
    return TableSize(model, number, "exact")


def _rows(sql: str, params: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())

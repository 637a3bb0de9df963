"""What the source must not do: hold a transaction over an `await`, or measure time by the wall clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.processes.server import ROOT

APPS = ("conversations", "llmproviders", "chatproject")
# Where time is waited for or measured.
WAITING = (
    "conversations/access/",
    "conversations/database/",
    "conversations/engine/",
    "conversations/files/",
    "conversations/limits/",
    "conversations/rest/",
    "conversations/services/",
    "conversations/socket/",
    "conversations/web/",
    "llmproviders/",
)
WALL_CLOCK = {
    "time.time",
    "time.time_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.datetime.now",
    "datetime.today",
    "timezone.now",
    "timezone.localtime",
}
# A `Retry-After` that is a date can only be compared with the date, several processes count requests by it, the day
# on which a key ends is one, and until when something is kept is stored.
DATES = {
    ("conversations/files/storage.py", "timezone.now"),
    ("conversations/services/attachments.py", "timezone.now"),
    ("conversations/services/conversations.py", "timezone.now"),
    ("conversations/services/expiry.py", "timezone.now"),
    ("llmproviders/failures.py", "datetime.now"),
    ("conversations/limits/rates.py", "time.time"),
    ("conversations/access/api_keys.py", "timezone.now"),
}


def sources(*prefixes: str) -> Iterator[tuple[str, ast.Module]]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "/migrations/" not in name and name.startswith(prefixes or APPS):
                yield name, ast.parse(path.read_text(), name)


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for such an expression or a call of it, else ``""``."""
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def is_atomic(node: ast.AST) -> bool:
    return dotted(node).rpartition(".")[2] == "atomic"


def held_over_await(tree: ast.Module) -> list[int]:
    """Return the lines where a transaction could be held over an await: in async code, or over a generator's yield."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            lines += [item.lineno for item in ast.walk(node) if is_atomic(item) and isinstance(item, ast.Call)]
            lines += [item.lineno for item in node.decorator_list if is_atomic(item)]
            lines += [entry.lineno for entry in ast.walk(node) if isinstance(entry, ast.With) and opens_atomic(entry)]
        elif isinstance(node, ast.With) and opens_atomic(node):
            pauses = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
            lines += [item.lineno for item in ast.walk(node) if isinstance(item, pauses)]
    return sorted(set(lines))


def opens_atomic(node: ast.With) -> bool:
    return any(is_atomic(item.context_expr) for item in node.items)


def measured_by_the_wall(name: str, tree: ast.Module) -> list[tuple[int, str]]:
    """Return the lines that take the wall clock for more than a stored date."""
    found = []
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.Call) or (clock := dotted(node)) not in WALL_CLOCK or (name, clock) in DATES:
                continue
            if clock != "timezone.now" or isinstance(parent, ast.BinOp | ast.Compare | ast.AugAssign | ast.UnaryOp):
                found.append((node.lineno, clock))
    return found


def test_no_transaction_is_held_over_an_await() -> None:
    assert {name: lines for name, tree in sources() if (lines := held_over_await(tree))} == {}


def test_timeouts_use_monotonic_time() -> None:
    found = {name: lines for name, tree in sources(*WAITING) if (lines := measured_by_the_wall(name, tree))}
    assert found == {}


def test_time_is_not_imported_by_its_bare_name() -> None:
    """`from time import time` would escape the rule above."""
    for name, tree in sources(*WAITING):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                assert {alias.name for alias in node.names} <= {"monotonic", "perf_counter", "sleep"}, name


@pytest.mark.parametrize(
    "source",
    [
        "async def f():\n    with transaction.atomic():\n        pass",
        "@transaction.atomic\nasync def f(): pass",
        "async def f():\n    with suppress(E), atomic('other'):\n        await g()",
        "def f():\n    with atomic():\n        yield 1",
    ],
)
def test_the_rule_for_transactions_sees(source: str) -> None:
    assert held_over_await(ast.parse(source))


@pytest.mark.parametrize(
    "source", ["x = time.time()", "d = timezone.now() + s", "while timezone.now() < d: pass", "datetime.now(UTC)"]
)
def test_the_rule_for_time_sees(source: str) -> None:
    assert measured_by_the_wall("x.py", ast.parse(source))


def test_the_rule_for_time_leaves_stored_dates_alone() -> None:
    assert not measured_by_the_wall("x.py", ast.parse("row.ended_at = timezone.now(); update(at=timezone.now())"))


def test_the_rules_look_at_files() -> None:
    names = {name for name, _tree in sources(*WAITING)}
    assert [prefix for prefix in WAITING if not any(name.startswith(prefix) for name in names)] == []

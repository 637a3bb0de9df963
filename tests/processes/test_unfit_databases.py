"""A database that cannot hold every character is refused before anything is stored in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.conversations.helpers import whole_chat
from tests.database_server import DatabaseServer
from tests.ports import free_port
from tests.upstream import run_upstream_in_thread

from .server import ROOT, ServerProcess, environment, manage

VENDOR = databases.vendor()
pytestmark = [pytest.mark.server, pytest.mark.skipif(VENDOR == "sqlite", reason="SQLite holds every character")]
mysql_only = pytest.mark.skipif(VENDOR != "mysql", reason="elsewhere a database has one encoding")

NEW = {
    "postgresql": [f"ENCODING '{name}' LOCALE 'C' TEMPLATE template0" for name in ("LATIN1", "SQL_ASCII")],
    "mysql": ["CHARACTER SET latin1", "CHARACTER SET utf8mb3"],
}
FIT = ["DROP DATABASE chat", "CREATE DATABASE chat CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci"]
SPOILT = {
    "the database": "ALTER DATABASE chat CHARACTER SET latin1",
    "a column": "ALTER TABLE chat.conversations_message MODIFY content longtext CHARACTER SET utf8mb3 NOT NULL",
    "a title": "ALTER TABLE chat.conversations_conversation MODIFY title varchar(255) CHARACTER SET latin1 NOT NULL",
    "chunks": "ALTER TABLE chat.conversations_generationchunk MODIFY text longtext CHARACTER SET latin1 NOT NULL",
}


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with DatabaseServer(VENDOR, quick=True) as running:
        yield running


@pytest.fixture
def migrated(server: DatabaseServer, tmp_path: Path) -> DatabaseServer:
    """The same, with a new database that is fit and has the tables."""
    server.do(*FIT)
    manage(environment(tmp_path, DATABASE_URL=server.url), "migrate", "--verbosity=0")
    return server


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**env, "PORT": str(free_port())}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def assert_refused(env: dict[str, str], *arguments: str) -> None:
    ended = run(env, *arguments)
    assert ended.returncode == 3, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "cannot hold every character" in line
    assert "docs/database.md" in line


@pytest.mark.parametrize("how", NEW.get(VENDOR, []))
def test_a_new_one_is_refused(server: DatabaseServer, tmp_path: Path, how: str) -> None:
    server.do(f"CREATE DATABASE unfit {how}")
    try:
        env = environment(tmp_path, DATABASE_URL=server.url.rpartition("/")[0] + "/unfit")
        assert_refused(env, "manage.py", "migrate")
        assert_refused(env, "-m", "chatproject")
        ended = run(env, "manage.py", "check", "--database", "default")
        assert ended.returncode == 1
        assert "conversations.E013" in ended.stderr
    finally:
        server.do("DROP DATABASE unfit")


@mysql_only
@pytest.mark.parametrize("what", SPOILT)
def test_one_that_became_unfit_is_refused(migrated: DatabaseServer, tmp_path: Path, what: str) -> None:
    migrated.do(SPOILT[what])
    assert_refused(environment(tmp_path, DATABASE_URL=migrated.url), "-m", "chatproject")


@mysql_only
@pytest.mark.parametrize("option", ["charset=latin1", "charset=utf8mb3"])
def test_a_connection_that_is_unfit_is_refused(server: DatabaseServer, tmp_path: Path, option: str) -> None:
    ended = run(environment(tmp_path, DATABASE_URL=f"{server.url}?{option}"), "-m", "chatproject")
    assert ended.returncode in (1, 3)
    assert "utf8mb4" in ended.stderr
    assert "Traceback" not in ended.stderr


@mysql_only
def test_text_that_a_column_cannot_hold_is_refused_at_once_and_is_no_outage(
    migrated: DatabaseServer, tmp_path: Path
) -> None:
    """The column is spoilt while the server runs."""
    with run_upstream_in_thread() as upstream:
        env = environment(tmp_path, DATABASE_URL=migrated.url, LLM_API_URL=upstream.url, LLM_MODEL="scripted")
        with ServerProcess("uvicorn", env, tmp_path / "log") as process, process.client() as client:
            migrated.do(SPOILT["a column"])
            answer = whole_chat(client, "Who can say it? 😀")
            assert (answer.status_code, answer.json()["code"]) == (500, "unfit_for_database")
            assert "retry_after" not in answer.json()
            assert whole_chat(client, "Plain").status_code == 200

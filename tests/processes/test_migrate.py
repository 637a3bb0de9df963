"""`migrate`: one at a time, and one line where the database cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management.base import CommandError
from django.db import ConnectionHandler

from conversations.management.commands import migrate
from tests import databases
from tests.ports import free_port

from .server import ROOT, environment, manage

HOLD = """
from conversations.database.migration_lock import migration_lock
from django.db import connection
with migration_lock(connection, waiting=lambda: print("waits", flush=True)):
    print("holds", flush=True)
    input()
"""


def start(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**env, "PORT": str(free_port())}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_several_at_once_all_succeed(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with ExitStack() as running:
        processes = [running.enter_context(start(env, "migrate", "--no-input")) for _number in range(3)]
        ended = [(process.communicate(timeout=300), process.returncode) for process in processes]
    assert [code for _output, code in ended] == [0, 0, 0], ended
    assert sum("Applying conversations.0001_initial" in output[0] for output, _code in ended) == 1
    assert "[ ]" not in manage(env, "showmigrations")


def test_who_is_killed_holds_up_nobody(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with start(env, "shell", "--verbosity=0", "--command", HOLD) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        with start(env, "migrate", "--verbosity=0") as waiter:
            assert waiter.stderr is not None
            assert "waiting for it" in waiter.stderr.readline()
            assert waiter.poll() is None
            holder.kill()
            assert waiter.wait(120) == 0


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    manage(environment(tmp_path), "migrate", "--verbosity=0")
    if databases.vendor() == "sqlite":
        assert [path.name for path in tmp_path.iterdir()] == [databases.FILE]
    else:
        assert databases.connections_to(tmp_path) == 0


def test_databases_do_not_wait_for_one_another(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with start(environment(folders[0]), "shell", "--verbosity=0", "--command", HOLD) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        manage(environment(folders[1]), "migrate", "--verbosity=0")
        holder.kill()


def a_folder(folder: Path) -> str:
    return f"sqlite:///{folder}"


def no_database(folder: Path) -> str:
    (folder / "db.sqlite3").write_bytes(b"this is no database, but long enough" * 100)
    return f"sqlite:///{folder}/db.sqlite3"


def refused_by_postgresql(folder: Path) -> str:
    pytest.importorskip("psycopg", reason="its driver is installed by `make test-servers`")
    return f"postgres://user:hunter2@127.0.0.1:{free_port()}/chat"


def refused_by_mysql(folder: Path) -> str:
    pytest.importorskip("MySQLdb", reason="its driver is installed by `make test-servers`")
    return f"mysql://user:hunter2@127.0.0.1:{free_port()}/chat"


def unknown_name(folder: Path) -> str:
    if databases.vendor() == "sqlite":
        pytest.skip("SQLite knows no names")
    return databases.url_of(folder).replace("/chat_", "/nobody_made_")


def wrong_password(folder: Path) -> str:
    """On a PostgreSQL that trusts everybody: of an account that is none."""
    if databases.vendor() == "sqlite":
        pytest.skip("SQLite knows no accounts")
    url = urlsplit(databases.url_of(folder))
    return url._replace(netloc=f"nobody:hunter2@{url.hostname}:{url.port}").geturl()


UNUSABLE = [a_folder, no_database, refused_by_postgresql, refused_by_mysql, unknown_name, wrong_password]


@pytest.mark.parametrize("url_of", UNUSABLE)
def test_a_database_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, url_of: Callable[[Path], str]) -> None:
    env = environment(tmp_path, DATABASE_URL=url_of(tmp_path))
    for arguments in (["manage.py", "migrate"], ["-m", "chatproject"]):
        ended = run(env, *arguments)
        assert ended.returncode == 3
        (line,) = ended.stderr.splitlines()
        assert "the database cannot be used (" in line
        assert "DATABASE_URL" in line
        assert "hunter2" not in ended.stderr + ended.stdout


@pytest.mark.django_db
def test_what_a_projects_other_databases_can_hold_is_its_own_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as an old one in latin1, which has none of our tables."""
    monkeypatch.setattr(migrate, "unfit", lambda _connection: "its encoding is LATIN1")
    memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    handler = ConnectionHandler({"default": memory, "legacy": memory})
    try:
        migrate.Command()._look(handler["legacy"])
        with pytest.raises(CommandError, match="LATIN1"):
            migrate.Command()._look(handler["default"])
    finally:
        handler.close_all()


@pytest.mark.parametrize("url", ["nonsense", "oracle://a@b/c", "postgres://", "sqlite://x.db", "sqlite:////no/such/x"])
def test_a_url_that_is_none_is_told_in_one_line(tmp_path: Path, url: str) -> None:
    env = environment(tmp_path, DATABASE_URL=url)
    for arguments in (["manage.py", "migrate"], ["-m", "chatproject"]):
        ended = run(env, *arguments)
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert "DATABASE_URL" in line


@pytest.mark.parametrize(
    ("name", "value_of", "code"),
    [
        ("DATABASE_URL", a_folder, 3),
        ("DATABASE_URL", refused_by_postgresql, 3),
        ("DATABASE_URL", lambda _folder: "nonsense", 1),
        ("DRAIN_SECONDS", lambda _folder: "x", 1),
    ],
)
def test_make_run_tells_it_in_one_line_and_one_of_its_own(
    tmp_path: Path, name: str, value_of: Callable[[Path], str], code: int
) -> None:
    env = environment(tmp_path, **{name: value_of(tmp_path)}, PORT=str(free_port()))
    # What is installed already is not to be installed by a test.
    variables = ["BASE=", "DRIVER_STAMPS=", "LOCAL_MODEL=/dev/null", f"PY={sys.executable}"]
    ended = subprocess.run(
        ["make", "--no-print-directory", "run", *variables],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    ours, of_make = ended.stderr.splitlines()
    assert name in ours
    assert of_make.startswith("make: ***")
    assert of_make.endswith(f"run] Error {code}")

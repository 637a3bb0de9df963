"""A SQLite file is for its owner alone, whichever command makes it and whatever the umask says."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from conversations.database.sqlite import PrivateConnection
from tests.processes.server import ROOT, environment


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("db.sqlite3*")}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_the_file_and_all_beside_it_have_mode_600(tmp_path: Path, mask: int, journal: str) -> None:
    with umask(mask), closing(PrivateConnection(tmp_path / "db.sqlite3", isolation_level=None)) as made:
        made.execute(f"PRAGMA journal_mode={journal}")
        made.execute("CREATE TABLE t (a)")
        made.execute("BEGIN IMMEDIATE")
        made.execute("INSERT INTO t VALUES (1)")
        found = modes(tmp_path)
    assert len(found) > 1
    assert set(found.values()) == {0o600}


def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").touch()
    (tmp_path / "db.sqlite3").chmod(0o660)
    PrivateConnection(tmp_path / "db.sqlite3").close()
    assert modes(tmp_path) == {"db.sqlite3": 0o660}


def test_a_file_of_an_older_version_is_closed_to_others(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db.sqlite3", isolation_level=None)) as older:
        older.execute("PRAGMA journal_mode=WAL")
        older.execute("CREATE TABLE t (a)")
        for path in tmp_path.iterdir():
            path.chmod(0o644)
        PrivateConnection(tmp_path / "db.sqlite3").close()
        found = modes(tmp_path)
    assert len(found) == 3
    assert set(found.values()) == {0o640}


@pytest.mark.parametrize("name", [":memory:", "file:memory_one?mode=memory&cache=shared", ""])
def test_what_is_no_file_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    PrivateConnection(name, uri=True).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["migrate", "--verbosity=0"], ["showmigrations"], ["shell", "-c", "from llmproviders.models import *"]]
)
def test_every_command_makes_the_file_private(tmp_path: Path, command: list[str]) -> None:
    env = environment(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    with umask(0):
        ended = subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=env, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert set(modes(tmp_path).values()) <= {0o600}


def test_a_running_server_s_files_are_private(tmp_path: Path) -> None:
    """Also those that come and go while it writes."""
    env = environment(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    look = (
        "from django.contrib.auth.models import User\nUser.objects.create(username='a')\n"
        f"import pathlib\nprint(sorted(oct(p.stat().st_mode) for p in pathlib.Path('{tmp_path}').glob('db.sqlite3*')))"
    )
    with umask(0):
        for command in (["migrate", "--verbosity=0"], ["shell", "--verbosity=0", "--command", look]):
            ended = subprocess.run(
                [sys.executable, "manage.py", *command], cwd=ROOT, env=env, capture_output=True, text=True
            )
            assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(["0o100600"] * 3)

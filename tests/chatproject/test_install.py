"""An installation of its own: with a `.env`, and in folders that cannot be written to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from .processes import ROOT, environment, variables

SECRETS = {
    "SECRET_KEY": "Nn8Zk1rS9pQvLx3yWb7TdUe5GhJm2CfA0iKoRtYzXcVbMlPq6E",
    "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
}
pytestmark = pytest.mark.server


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """The project's own folder; the apps are imported from where they are."""
    folder = tmp_path / "install"
    folder.mkdir()
    shutil.copytree(ROOT / "chatproject", folder / "chatproject")
    shutil.copy(ROOT / "manage.py", folder)
    (folder / "templates").symlink_to(ROOT / "templates")
    return folder


def run_in(folder: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    unset = {name: value for name, value in environment(PYTHONPATH=str(ROOT)).items() if name not in variables()}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**unset, **given}, capture_output=True, text=True, timeout=60
    )


SHOW = "from django.conf import settings as s; print(s.DATABASES['default']['NAME'], s.REQUIRE_LOGIN)"


@pytest.mark.parametrize(
    "line", ["DATABASE_URL = {}", "  DATABASE_URL={}", "\ufeffDATABASE_URL={}", "export DATABASE_URL='{}' # ours"]
)
def test_the_database_of_dotenv_is_used(install: Path, tmp_path: Path, line: str) -> None:
    (install / ".env").write_text(line.format(f"sqlite:///{tmp_path}/mine.db") + "\nREQUIRE_LOGIN = true\n")
    ended = run_in(install, "manage.py", "shell", "--no-imports", "-c", SHOW)
    assert ended.stdout.split() == [f"{tmp_path}/mine.db", "True"], ended.stderr


@pytest.mark.parametrize("program", [["manage.py", "migrate"], ["-m", "chatproject"]])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("REQUIRE_LOGIN: true", ".env, line 2: this is not NAME=value."),
        ("DATABASE_URL='x", ".env, line 2: DATABASE_URL has a quote that does not end."),
        ("DRAIN_SECONDS=x", "DRAIN_SECONDS='x' is not a number of seconds above 0 (at most 86400)."),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_done(
    install: Path, program: list[str], line: str, problem: str
) -> None:
    (install / ".env").write_text(f"# ours\n{line}\n")
    ended = run_in(install, *program)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (said,) = ended.stderr.splitlines()
    assert said.startswith("chatproject: ")
    assert said.endswith(problem)
    assert not (install / "var" / "db.sqlite3").exists()


def test_a_folder_is_made_only_where_something_goes_into_it(install: Path, tmp_path: Path) -> None:
    """What stands in its place cannot be written to, for whoever runs this."""
    (install / "var").touch()
    given = {**SECRETS, "DATABASE_URL": f"sqlite:///{tmp_path}/mine.db"}
    assert run_in(install, "manage.py", "migrate", **given).returncode == 0
    for missing in given:
        ended = run_in(install, "manage.py", "check", **{**given, missing: ""})
        assert ended.returncode == 1
        (said,) = ended.stderr.splitlines()
        assert said.startswith(f"chatproject: {missing}")
        assert str(install / "var") in said


def test_the_default_database_has_its_folder_made(install: Path) -> None:
    for given in ({}, {"DATABASE_URL": "sqlite:///var/db.sqlite3"}):
        shutil.rmtree(install / "var", ignore_errors=True)
        assert run_in(install, "manage.py", "migrate", **SECRETS, **given).returncode == 0
        assert (install / "var" / "db.sqlite3").exists()


@pytest.mark.parametrize(
    ("name", "url", "modules", "requirements"),
    [
        ("DATABASE_URL", "postgres://u:hunter2@h/n", ("psycopg", "psycopg2"), "requirements/postgres.txt"),
        ("DATABASE_URL", "mysql://u:hunter2@h/n", ("MySQLdb",), "requirements/mysql.txt"),
        ("REDIS_URL", "redis://:hunter2@h", ("channels_redis",), "requirements/redis.txt"),
    ],
)
@pytest.mark.parametrize("command", [("manage.py", "migrate"), ("-m", "chatproject")])
def test_a_driver_that_is_not_installed_is_told_in_one_line(
    install: Path, command: tuple[str, ...], name: str, url: str, modules: tuple[str, ...], requirements: str
) -> None:
    absent = f"import sys; sys.modules.update(dict.fromkeys({modules}))"
    (install / "sitecustomize.py").write_text(absent)
    ended = run_in(install, *command, PYTHONPATH=f"{install}:{ROOT}", **{name: url})
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"chatproject: {name} ")
    assert requirements in line
    assert "hunter2" not in line

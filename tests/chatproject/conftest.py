"""A migrated database and a running project for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import databases

from .processes import run, serving


@pytest.fixture(scope="session")
def database_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a migrated database, for `tests.databases`."""
    folder = tmp_path_factory.mktemp("project")
    url = databases.url_of(folder)
    migrated = run("manage.py", "migrate", "--no-input", "--verbosity", "0", DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr
    return folder


@pytest.fixture(scope="session")
def database_url(database_folder: Path) -> str:
    """A migrated database."""
    return databases.url_of(database_folder)


@pytest.fixture(scope="session")
def project(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `python -m chatproject`, which runs for the session."""
    log: Path = tmp_path_factory.mktemp("project") / "log"
    with serving(log, DATABASE_URL=database_url) as (_process, client):
        yield client

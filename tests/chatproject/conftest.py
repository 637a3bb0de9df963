"""A migrated database and a running project for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import databases

from .processes import run, serving


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database."""
    url = databases.url_of(tmp_path_factory.mktemp("project"))
    migrated = run("manage.py", "migrate", "--no-input", "--verbosity", "0", DATABASE_URL=url)
    assert migrated.returncode == 0, migrated.stderr
    return url


@pytest.fixture(scope="session")
def project(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `python -m chatproject`, which runs for the session."""
    log: Path = tmp_path_factory.mktemp("project") / "log"
    with serving(log, DATABASE_URL=database_url) as (_process, client):
        yield client

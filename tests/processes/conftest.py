"""What tests of server processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .server import environment, manage


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, made once."""
    folder = tmp_path_factory.mktemp("migrated")
    manage(environment(folder), "migrate", "--verbosity=0")
    return folder

"""Programs that some tests need and a fresh machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, *folders: object) -> str:
    """Return the path of a program, also from ``folders``. Where it is missing the test is skipped; in CI it fails."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)]))
    if path:
        return path
    reason = f"{name} is not installed (`make system-packages`)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

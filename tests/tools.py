"""Programs that some tests need and a fresh machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return the path of a program. Where it is missing the test is skipped, but in CI it fails."""
    path = shutil.which(name)
    if path:
        return path
    reason = f"{name} is not installed (`make system-packages`)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

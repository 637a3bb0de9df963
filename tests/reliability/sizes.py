"""How much each test does: a little on every `make test`, all of it on `make test-reliability`."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def is_full() -> bool:
    """Tell whether the environment asks for the full size."""
    return os.environ.get("RELIABILITY", "small") == "full"


def size(small: T, full: T) -> T:
    """Return ``full`` where the environment says RELIABILITY=full, else ``small``."""
    return full if is_full() else small

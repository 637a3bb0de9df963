"""Who may run when, where several workers share the machine: a test that measures time runs alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Files that exist anyway: a lock on one changes nothing in it, and ends with its process.
ROOM = Path(__file__)
DOOR = ROOM.parent


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait until the block may run: beside others that are not alone, or with nothing beside it."""
    with ExitStack() as stay:
        # Who waits to be alone keeps the door shut: those inside leave, and nobody comes in.
        with _locked(DOOR, fcntl.LOCK_EX):
            stay.enter_context(_locked(ROOM, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may hold a copy of the descriptor
        os.close(descriptor)

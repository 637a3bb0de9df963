"""Counts what runs in the project's own files, in all threads and event loops."""

from __future__ import annotations

import dis
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType

from .processes import ROOT

OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("chatproject", "conversations", "llmproviders"))
# After the last event: until the log, counters and titles have done what comes behind.
SETTLE_SECONDS = 0.5


class Tracer:
    """Counts, while it is on, what every thread that began after ``install`` does in our files."""

    def __init__(self) -> None:
        self.is_on = False
        self.calls: Counter[str] = Counter()
        self.changes = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count anew, until the block ends and what it began is done."""
        self.calls.clear()
        self.changes = 0
        self.is_on = True
        yield
        time.sleep(SETTLE_SECONDS)
        self.is_on = False

    def _event(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.is_on or event not in ("call", "return"):
            return
        file = _file_of(frame.f_code)
        if file is None:
            return
        other = _file_before(frame)
        with self._lock:
            if event == "call" and frame.f_lasti <= _begin(frame.f_code):
                self.calls[file] += 1
            self.changes += other is not None and other != file


def _file_before(frame: FrameType) -> str | None:
    """Return the file of ours that this frame was called from, and will return to."""
    before = frame.f_back
    while before is not None:
        if file := _file_of(before.f_code):
            return file
        before = before.f_back
    return None


@cache
def _file_of(code: CodeType) -> str | None:
    name = code.co_filename
    return os.path.relpath(name, ROOT) if name.startswith(OURS) else None


@cache
def _begin(code: CodeType) -> int:
    """Return where a function begins; a coroutine or generator that goes on is further."""
    return next((each.offset for each in dis.get_instructions(code) if each.opname == "RESUME"), 0)

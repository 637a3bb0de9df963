"""Signals that end the process while nothing serves yet.

They raise ``SystemExit`` wherever the process is at that moment. Within a callback of the interpreter's (of a weak
reference, a finalizer) Python drops that and goes on: so it is noted too, and whoever handles signals next looks.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType

_has_come = False


def end_at(numbers: Iterable[int]) -> None:
    """Let these signals end the process from now on, but for those that it was started to ignore."""
    sys.unraisablehook = _drop
    _handle(numbers, _end)


def pass_over(numbers: Iterable[int]) -> None:
    """Let these signals mean nothing from now on."""
    _handle(numbers, lambda *_: None)


def has_come() -> bool:
    """Whether one has come: the process is to end, and has not if this can be asked."""
    return _has_come


def _handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, handler)


def _drop(dropped: sys.UnraisableHookArgs) -> None:
    """Print what Python drops, as ever, but for what is noted."""
    if not (_has_come and isinstance(dropped.exc_value, SystemExit)):
        sys.__unraisablehook__(dropped)


def _end(_number: int, _frame: FrameType | None) -> None:
    global _has_come
    _has_come = True
    sys.exit(0)

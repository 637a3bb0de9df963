"""How long a call to a model may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, TypeVar

from django.utils.translation import gettext_noop

from ..exceptions import UpstreamTimeout

T = TypeVar("T")


class Deadline:
    """Bounds the waits of one call, by the loop's monotonic clock. Use it in a ``with`` block.

    ``set`` says until when the next waits may last; none outlasts ``total`` seconds from the start. Between
    waits nothing is interrupted, so that a slow consumer is not taken for a slow upstream. A wait has no
    timer of its own, as with ``asyncio.timeout``: one is armed, and sees when it fires whether the deadline
    has moved (measured: 0.7 µs a wait against 3.5).
    """

    def __init__(self, total: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._due = self._loop.time() + total
        self._message = ""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._expired = False

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disarm()

    def set(self, seconds: float, message: str) -> None:
        """Let waits last until ``seconds`` from now; ``message`` is what the error says after that."""
        due = self._loop.time() + seconds
        if due > self._ends:
            due, message = self._ends, gettext_noop("The model did not finish its answer in time.")
        self._due, self._message = due, message

    def overdue(self) -> UpstreamTimeout | None:
        """Return the error if the deadline has passed: an upstream that never pauses is never waited for."""
        return UpstreamTimeout(self._message) if self._loop.time() >= self._due else None

    def check(self) -> None:
        """Raise ``UpstreamTimeout`` if the deadline has passed."""
        if error := self.overdue():
            raise error

    def leaves(self, seconds: float) -> bool:
        """Whether the call may go on for more than ``seconds``."""
        return self._loop.time() + seconds < self._ends

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await it; raise ``UpstreamTimeout`` if the deadline passes first. What needs no waiting is not stopped."""
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("A deadline needs a task to interrupt.")
        cancelled_before = task.cancelling()
        self._arm()
        self._waiting = task
        try:
            return await awaitable
        except BaseException:
            if self._expired and task.cancelling() - 1 <= cancelled_before:
                raise UpstreamTimeout(self._message) from None
            raise
        finally:
            self._waiting = None
            if self._expired:
                self._expired = False
                task.uncancel()

    def _arm(self) -> None:
        if self._timer is None or self._timer.when() > self._due:
            self._disarm()
            self._timer = self._loop.call_at(self._due, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._due:
            self._arm()
        else:
            self._expired = True
            self._waiting.cancel()

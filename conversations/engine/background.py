"""The long-lived tasks of an event loop, watched in one place: one that ends is told of, and begins again."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

logger = logging.getLogger("conversations.generation")

# A task that ended begins again after this, and counts as failed until it has run for so long again (seconds).
RESTART_PAUSE = 1.0
TRUSTED_AFTER = 10.0

Work = Callable[[], Coroutine[Any, Any, None]]


def start_task(coroutine: Coroutine[Any, Any, Any], name: str, context: contextvars.Context) -> asyncio.Task[Any]:
    """Start a task in a context that is not its caller's: a request's carries state that ends with that request."""
    return asyncio.get_running_loop().create_task(coroutine, name=name, context=context)


class BackgroundTasks:
    """Named tasks that are to run until ``close``.

    ``on_loop_ended`` is called when they were cancelled by others: with their event loop, which nobody told us of.
    """

    def __init__(self, on_loop_ended: Callable[[], None]) -> None:
        self._on_loop_ended = on_loop_ended
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # name -> when it ended last
        self._ended_at: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    @property
    def failed(self) -> list[str]:
        """Those that do not run, or ended a moment ago."""
        if not self._tasks:
            return []
        trusted = asyncio.get_running_loop().time() - TRUSTED_AFTER
        return [
            name
            for name, task in self._tasks.items()
            if task.done() or self._ended_at.get(name, float("-inf")) > trusted
        ]

    def start(self, name: str, work: Work) -> None:
        """Run ``work``; again, whenever it ends."""
        task = self._tasks[name] = start_task(work(), name, contextvars.Context())
        task.add_done_callback(partial(self._ended, name, work), context=contextvars.Context())

    def _ended(self, name: str, work: Work, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is not task:
            return  # we are closed
        if task.cancelled() and task.cancelling():
            # Not by us: whoever ends an event loop cancels all that is left in it, and nothing may begin there again.
            self._tasks.clear()
            self._on_loop_ended()
            return
        error = None if task.cancelled() else task.exception()
        logger.error("the task %r ended, and begins again: answers may have waited for it", name, exc_info=error)
        loop = task.get_loop()
        self._ended_at[name] = loop.time()
        loop.call_later(RESTART_PAUSE, self._restart, name, work, task, context=contextvars.Context())

    def _restart(self, name: str, work: Work, ended: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is ended:
            self.start(name, work)

    async def close(self) -> None:
        """End all tasks."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

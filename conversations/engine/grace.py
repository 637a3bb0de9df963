"""The time that running answers get when the server ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Protocol

logger = logging.getLogger("conversations.generation")


class Ending(Protocol):
    """An answer that will have ended."""

    @property
    def finished(self) -> asyncio.Event: ...


class Grace:
    """A time that can be cut short, also before it begins."""

    def __init__(self) -> None:
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """Let it be over."""
        self._cut.set()

    async def wait(self, runs: Collection[Ending], seconds: float) -> None:
        """Return once all these answers have ended, or the time is over."""
        if not runs or not seconds or self._cut.is_set():
            return
        logger.info("running answers may go on for %d s; Ctrl-C again ends them now (%d running)", seconds, len(runs))
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(self._cut.wait(), name="grace cut"),
                group.create_task(all_ended(runs), name="answers end"),
            ]
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()


async def all_ended(runs: Collection[Ending]) -> None:
    """Return once all these answers have ended."""
    for run in runs:
        await run.finished.wait()

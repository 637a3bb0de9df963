"""Turns at what few may do at a time, and nobody all the time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from ..exceptions import ServerBusy


class Turns:
    """So many at a time, and so many of each caller; asked each time, as settings may change. Of one event loop."""

    def __init__(self, at_once: Callable[[], int], of_each: Callable[[], int]) -> None:
        self._at_once = at_once
        self._of_each = of_each
        self._taken: Counter[str] = Counter()
        self._freed = asyncio.Event()

    def _has_room(self, who: str) -> bool:
        return self._taken.total() < self._at_once() and self._taken[who] < self._of_each()

    async def take(self, who: str, seconds: float) -> None:
        """Wait for a turn; raises ``ServerBusy`` where none comes in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not self._has_room(who):
                    await self._freed.wait()
        except TimeoutError:
            raise ServerBusy() from None
        self._taken[who] += 1

    def give_back(self, who: str) -> None:
        """Let another one have the turn."""
        self._taken[who] -= 1
        self._taken += Counter()  # forgets those that are at zero
        self._freed.set()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def turn(self, who: str, seconds: float) -> AsyncIterator[None]:
        """Take a turn for as long as this lasts."""
        await self.take(who, seconds)
        try:
            yield
        finally:
            self.give_back(who)


class LoopTurns:
    """Such turns for each event loop: a server has one, its tests have many."""

    def __init__(self, at_once: Callable[[], int], of_each: Callable[[], int]) -> None:
        self._limits = at_once, of_each
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()

    def here(self) -> Turns:
        """Return those of the running event loop."""
        return self._turns.setdefault(asyncio.get_running_loop(), Turns(*self._limits))

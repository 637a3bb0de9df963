"""Answers that are passed on and not stored: those of a process, their ends, and what becomes of them.

A relay lives as long as somebody reads it. Whoever leaves closes the upstream; what was used is settled then.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from ..database import db
from ..exceptions import AnswerStopped, ShuttingDown
from ..limits import relays
from .background import start_task
from .events import FAILED
from .maintenance import guarded
from .relaying import Relaying, RelayPlan

logger = logging.getLogger("conversations.relays")

# How often it is looked for relays of ours that nobody reads or that could not be settled (seconds): one look may come
# in between a commit and what follows it, two do not.
LOOK_EVERY = 10.0
# How often it is looked for relays of ours that somebody stopped (seconds).
LOOK_FOR_STOPPED_EVERY = 1.0


class Relays:
    """The relays of one event loop."""

    def __init__(self, worker_id: Callable[[], uuid.UUID]) -> None:
        self._worker_id = worker_id
        self.running: dict[uuid.UUID, Relaying] = {}
        self._settling: set[asyncio.Task[None]] = set()
        # Those whose end the database did not take.
        self._unsettled: dict[uuid.UUID, Relaying] = {}

    @property
    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """The background tasks, by name."""
        return {"relays": self.look_forever, "stopped relays": self.look_for_stopped_forever}

    def begin(self, plan: RelayPlan) -> Relaying:
        """Return a relay that is to be read."""
        relaying = self.running[plan.relay_id] = Relaying(plan, self._settle)
        return relaying

    def refuse(self, plan: RelayPlan) -> None:
        """Settle a relay that is not to be read at all: it cost nothing."""
        Relaying(plan, self._settle).give_up()

    async def settled(self) -> None:
        """Wait until all that has ended is settled, or could not be."""
        await asyncio.gather(*self._settling, return_exceptions=True)

    def _settle(self, relaying: Relaying) -> None:
        """Settle beside whoever read it: they may be gone."""
        task = start_task(self._settled(relaying), "relay settles", contextvars.Context())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settled(self, relaying: Relaying) -> None:
        relay_id = relaying.plan.relay_id
        try:
            await self._stored(relaying)
            logger.info("relay %s %s, %d characters", relay_id, relaying.status, len(relaying.text))
        finally:
            self.running.pop(relay_id, None)
            relaying.finished.set()

    async def _stored(self, relaying: Relaying) -> None:
        relay_id = relaying.plan.relay_id
        self._unsettled[relay_id] = relaying
        settling = db.write_together(
            relays.settle, relay_id, status=relaying.status, text=relaying.text, counted=relaying.counted
        )
        if await guarded(settling):
            self._unsettled.pop(relay_id, None)

    async def look_forever(self) -> None:
        """Settle what could not be settled, and relays that nobody reads: who asked had left before the first word."""
        suspects: set[uuid.UUID] = set()
        unread: list[Relaying] = []
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for relaying in unread:
                if not relaying.is_read:
                    relaying.give_up()
            unread = [relaying for relaying in self.running.values() if not relaying.is_read]
            for relaying in list(self._unsettled.values()):
                await self._stored(relaying)
            found: set[uuid.UUID] = set()
            await guarded(self._look(found))
            for relay_id in found & suspects:
                await guarded(db.write(relays.settle, relay_id, status=FAILED, text="", counted=None))
            suspects = found

    async def look_for_stopped_forever(self) -> None:
        """End those that somebody stopped, in this process or another."""
        while True:
            await asyncio.sleep(LOOK_FOR_STOPPED_EVERY)
            if self.running:
                await guarded(self._cut_stopped())

    async def _cut_stopped(self) -> None:
        for relay_id in await db.background(relays.stopped_of, self._worker_id()):
            if relaying := self.running.get(relay_id):
                relaying.cut(AnswerStopped())

    async def _look(self, found: set[uuid.UUID]) -> None:
        ours = [*self.running, *self._unsettled]
        found.update(await db.background(relays.of_worker, self._worker_id(), but=ours))

    async def end(self) -> None:
        """Cut what still runs, and settle it."""
        for relaying in list(self.running.values()):
            relaying.cut(ShuttingDown())
        await asyncio.gather(*(relaying.finished.wait() for relaying in list(self.running.values())))
        await self.settled()

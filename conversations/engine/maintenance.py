"""What a process does beside its answers: it shows that it lives, ends what the dead left, and prunes.

Its beat has a thread and a connection to itself; all else here is on another one, which no chat ever waits for.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import Error as DatabaseError

from .. import conf
from ..access import api_keys
from ..database import db, outages
from ..files import storage
from . import completions, pruning, workers
from .background import Work
from .workers import Heartbeat

logger = logging.getLogger("conversations.generation")

# Of so many owners one job asks whether they have too many conversations.
OWNERS_AT_ONCE = 100
# When to look again whether another process has ended its pruning (seconds).
PRUNING_PAUSE = 1.0


async def guarded(job: Awaitable[Any]) -> bool:
    """Await what must not end a background task, such as a database that does not answer; tell if it worked."""
    try:
        await job
    except (DatabaseError, TimeoutError) as error:
        outages.database.report(error)
    except Exception:
        logger.exception("background work failed; going on")
    else:
        return True
    return False


class Maintenance:
    """One event loop's. ``on_new_id`` is called when others had given this process up and it has another id.

    ``makes`` tells whether an answer is in the engine's hands.
    """

    def __init__(
        self, heartbeat: Heartbeat, *, on_new_id: Callable[[], None], makes: Callable[[uuid.UUID], bool]
    ) -> None:
        self._heartbeat = heartbeat
        self._told_id = heartbeat.worker_id
        self._on_new_id = on_new_id
        self._makes = makes
        # Answers that are ours in the database alone, and how many looks in a row found them so.
        self._unmade: dict[uuid.UUID, int] = {}
        self._dead: set[uuid.UUID] = set()
        self._beaten = asyncio.Event()
        self._owners: dict[str, None] = {}
        self._to_prune = asyncio.Event()
        self._prunes = False

    @property
    def tasks(self) -> dict[str, Work]:
        """What is to run until the end of the process, by name."""
        return {
            "beat": self.beat_forever,
            "housekeeping": self.clean_up_forever,
            "pruning": self.prune_forever,
            "expiry": self.expire_forever,
            "connections": self.keep_connections_forever,
        }

    async def keep_connections_forever(self) -> None:
        """Close what is open towards models when the event loop ends, also where nobody told us that it would."""
        try:
            await asyncio.Event().wait()
        finally:
            await completions.close()

    async def beat_forever(self) -> None:
        """Raise the counter: nothing stands between two raises that could wait for somebody's lock."""
        while True:
            await guarded(self._beat())
            await asyncio.sleep(conf.get().BEAT_INTERVAL)

    async def _beat(self) -> None:
        self._dead.update(await db.beat(workers.beat, self._heartbeat))
        self._beaten.set()
        # The beat that took another id may have failed after that.
        if self._heartbeat.worker_id != self._told_id:
            self._told_id = self._heartbeat.worker_id
            self._on_new_id()

    async def clean_up_forever(self) -> None:
        """After each beat, as far as there is time: end what the dead left, note when keys were used."""
        while True:
            await self._beaten.wait()
            self._beaten.clear()
            dead, self._dead = self._dead, set()
            for worker_id in dead:
                await guarded(db.background(workers.give_up, worker_id))
            await guarded(db.background(workers.end_orphans))
            await guarded(self._end_unmade())
            await guarded(db.background(api_keys.write_last_used))

    async def _end_unmade(self) -> None:
        """End the answers of ours that nobody makes: their begin was committed, but the connection failed before it
        said so. One look may come between a commit and what follows it, some in a row do not.
        """
        running = await db.background(workers.running_of, self._heartbeat.worker_id)
        self._unmade = {key: self._unmade.get(key, 0) + 1 for key in running if not self._makes(key)}
        if lost := [key for key, looks in self._unmade.items() if looks > conf.get().BEATS_TO_GIVE_UP]:
            logger.error("%d answers were begun, and nobody makes them", len(lost))
            await db.background(workers.interrupt, lost)

    async def expire_forever(self) -> None:
        """Delete what is there for a time only, once that is over: beside all else, as it may take long."""
        while True:
            await asyncio.sleep(conf.get().BEAT_INTERVAL)
            await guarded(self._delete_expired())
            await guarded(self._delete_files())

    async def _delete_expired(self) -> None:
        for batch in await db.background(pruning.expired):
            await guarded(db.background(pruning.delete_expired, batch))

    async def _delete_files(self) -> None:
        """Delete attachments that no message has, and the files of all that are gone. Several processes may."""
        await db.background(storage.delete_unused)
        for file in await db.background(storage.files_to_delete):
            await db.background(storage.delete_file, *file)

    def prune(self, user_identifier: str) -> None:
        """Somebody has one conversation more: see that they have not too many."""
        self._owners[user_identifier] = None
        self._to_prune.set()

    async def prune_forever(self) -> None:
        """Prune whom we were told of, one process at a time."""
        while True:
            await self._to_prune.wait()
            self._to_prune.clear()
            owners, self._owners = self._owners, {}
            await guarded(self._prune(list(owners)))
            while self._prunes:
                self._prunes = not await guarded(db.background(pruning.end_pruning, self._heartbeat.worker_id))
                if self._prunes:
                    await asyncio.sleep(PRUNING_PAUSE)

    async def _prune(self, owners: list[str]) -> None:
        full = []
        for begin in range(0, len(owners), OWNERS_AT_ONCE):
            full += await db.background(pruning.with_too_many, owners[begin : begin + OWNERS_AT_ONCE])
        while full and not self._prunes:
            self._prunes = await db.background(pruning.begin_pruning, self._heartbeat.worker_id)
            if not self._prunes:
                await asyncio.sleep(PRUNING_PAUSE)
        for owner in full:
            for batch in await db.background(pruning.superfluous_batches, owner):
                await db.background(pruning.delete_batch, batch)

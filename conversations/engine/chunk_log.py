"""The chunk log: text is committed before any reader sees it.

One writer takes what all running answers of the process have pending, commits it in one transaction and
then wakes the readers. While a commit runs, and while the writer then rests for as long, more text gathers: so a
busy log batches by itself and a quiet one is quick. Of an answer at most one append is in flight.

While text flows nobody is woken for it: what models send gathers in their connections, and is taken apart right
before the next batch, of all answers together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from .. import conf
from ..database import db, outages
from .completions import Delta, Flowing
from .ends import Entry
from .events import FAILED, Ending
from .log_keys import LogKeys
from .progress import Seen, load
from .run import Run
from .storage import DELETED_ENDING, store

logger = logging.getLogger("conversations.log")

RETRY_PAUSE = 0.25
# Answers whose text is taken apart without a pause: of each at most 2 kB, so some milliseconds.
TAKEN_AT_ONCE = 50
# After a batch the log rests as long as that took, taking the text apart included, within these bounds (seconds): a
# batch costs much the same whatever is in it, and without a rest a busy process would write one for each few tokens.
LEAST_REST, MOST_REST = 0.003, 0.04


class ChunkLog:
    """The writer of one event loop, whose rows have ``keys``.

    ``on_committed`` is called with each run that a batch brought forward, ``on_lost`` with one that another
    process has ended, ``on_unsettled`` with one whose end the database did not take.
    """

    def __init__(
        self,
        keys: LogKeys,
        *,
        on_lost: Callable[[Run], None],
        on_unsettled: Callable[[Run], None],
        on_committed: Callable[[Run], None],
    ) -> None:
        self._keys = keys
        self._on_lost = on_lost
        self._on_unsettled = on_unsettled
        self._on_committed = on_committed
        self._dirty: dict[Run, None] = {}
        self._work = asyncio.Event()
        self._turns: list[asyncio.Future[None]] = []

    def append(self, run: Run, delta: Delta) -> None:
        """Take text, or a piece of a tool's call, in; it is committed, and then shown, by the next batch."""
        if not run.finished.is_set():
            run.add(delta)
            self._touch(run)

    def flows(self, run: Run, flowing: Flowing) -> None:
        """Take in what comes of this, whenever a batch is due and something has come."""
        run.flowing = flowing
        flowing.on_news = partial(self._touch, run)

    def end(self, run: Run, ending: Ending) -> None:
        """End an answer with what is pending. The first ending stays; it is committed by the next batch."""
        if run.ending is None and not run.finished.is_set():
            run.ending = ending
            self._touch(run)

    def _touch(self, run: Run) -> None:
        self._dirty[run] = None
        self._work.set()

    async def turn(self) -> None:
        """Wait until the log is about to take the next batch, also when nothing is pending.

        A database that refuses text holds producers here.
        """
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self._work.set()
        await turn

    def _give_turns(self) -> None:
        turns, self._turns = self._turns, []
        for turn in turns:
            if not turn.done():  # its producer was cancelled
                turn.set_result(None)

    async def write_forever(self) -> None:
        """The writer's task: runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            self._work.clear()
            began = loop.time()
            self._give_turns()
            await self._take_in()
            # Producers to whom more than text has come run before this goes on: what they say is in the batch.
            await asyncio.sleep(0)
            if await self._write_batch():
                await asyncio.sleep(min(MOST_REST, max(LEAST_REST, loop.time() - began)))

    async def _take_in(self) -> None:
        for number, run in enumerate(list(self._dirty), 1):
            run.take_in()
            if not number % TAKEN_AT_ONCE:
                await asyncio.sleep(0)  # others have their turn

    async def _write_batch(self) -> bool:
        """Write what is pending; tell whether there was anything."""
        for run in self._dirty:
            run.take_in()  # what came since: from here to the next line nothing can
        dirty, self._dirty = self._dirty, {}
        try:
            # What came while the database refused, of an answer that was given up then, would follow a hole.
            if batch := {run: run.take(self._keys) for run in dirty if run.has_news and not run.finished.is_set()}:
                await self._commit(batch)
        except Exception:
            # A fault of ours: text that was taken is in nobody's hands any more, so none of it may be waited for.
            logger.exception("a batch of %d answers' text failed", len(dirty))
            for run in dirty:
                if not run.finished.is_set():
                    self._give_up(run)
            return True
        return bool(batch)

    async def _commit(self, batch: dict[Run, Entry]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + conf.get().STORAGE_TIMEOUT
        again = False
        while True:
            try:
                running = await db.log(store, list(batch.values()), again=again)
                break
            except Exception as error:
                if not outages.is_outage(error):
                    await self._commit_one_by_one(batch, again=again)
                    return
                again = True
                # The database as a whole refuses: nobody's rows are to blame, so all wait together.
                outages.database.report(error, then=f"the text of {len(batch)} answers waits")
                if loop.time() > deadline:
                    for run in batch:
                        self._give_up(run)
                    return
                await asyncio.sleep(RETRY_PAUSE)
        outages.database.recovered()
        for run, entry in batch.items():
            await self._committed(run, entry, alive=entry.generation_id in running)

    async def _commit_one_by_one(self, batch: dict[Run, Entry], *, again: bool) -> None:
        """One answer's rows are refused: find it, and lose no other's."""
        for run, entry in batch.items():
            try:
                running = await db.log(store, [entry], again=again)
            except Exception:
                logger.exception("the text of generation %s cannot be stored", run.ids.generation_id)
                self._give_up(run)
            else:
                await self._committed(run, entry, alive=entry.generation_id in running)

    async def _committed(self, run: Run, entry: Entry, *, alive: bool) -> None:
        if not alive:
            self._on_lost(run)
            await self.adopt(run)
            return
        if entry.reasoning_up_to:
            run.transcript.mark_reasoning(entry.reasoning_up_to)
        run.transcript.extend(entry.pieces)
        if entry.ending:
            run.settle(entry.ending)
        self._on_committed(run)

    async def adopt(self, run: Run) -> None:
        """Give the readers of a run that another process ended what the database has of it."""
        generation_id = run.ids.generation_id
        try:
            seen = Seen(run.transcript.position)
            found = (await db.read(load, {generation_id: seen})).get(generation_id)
        except Exception:
            logger.exception("the end of generation %s cannot be read", generation_id)
            self._give_up(run)
            return
        if found is None:  # deleted together with its conversation
            run.settle(DELETED_ENDING)
            return
        run.transcript.extend(found.pieces)
        run.transcript.mark_reasoning(found.reasoning_chars)
        run.settle(found.ending or Ending(FAILED, error_code="internal_error"))

    def _give_up(self, run: Run) -> None:
        """Readers get a typed end; the supervisor goes on trying to write it down."""
        run.ending = Ending(FAILED, error_code="storage_failed")
        self._on_unsettled(run)
        run.settle(run.ending)

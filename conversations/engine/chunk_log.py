"""The chunk log: text is committed before any reader sees it.

One writer takes what all running answers of the process have pending, commits it in one transaction and
then wakes the readers. While a commit runs, and while the writer then rests for as long, more text gathers: so a
busy log batches by itself and a quiet one is quick. Of an answer at most one append is in flight.

A producer that gave text reads on when it has its ``turn``, which is right before the next batch: what its model
sent meanwhile gathers in the socket, and is read, taken apart and appended at once rather than token by token.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from django.utils import timezone

from .. import conf
from ..database import db, outages
from .completions import ToolCallDelta
from .ends import Entry
from .events import CONTENT, FAILED, REASONING, TOOL_CALL, AnswerIds, Call, Ending, Piece, cut
from .log_keys import LogKeys
from .progress import Seen, load
from .storage import DELETED_ENDING, store
from .transcript import Transcript

logger = logging.getLogger("conversations.log")

# A producer that is so many characters ahead of the database waits, however its provider reads.
MAX_PENDING = 262_144
RETRY_PAUSE = 0.25
# After a batch the log rests as long as that took, within these bounds (seconds): a batch costs much the same whatever
# is in it, and without a rest a busy process would write one for each few tokens.
LEAST_REST, MOST_REST = 0.003, 0.04


class _Said(NamedTuple):
    kind: str
    text: str
    call: Call | None = None


class Run:
    """A running answer of this process: the text that is not committed yet, and where the rest goes."""

    def __init__(self, ids: AnswerIds, *, on_abandoned: Callable[[], None] | None = None) -> None:
        self.ids = ids
        self.transcript = Transcript(ids, on_abandoned=on_abandoned)
        # The task that makes it, while it can be cancelled.
        self.producer: asyncio.Task[None] | None = None
        self.requested_ending: Ending | None = None
        self.first_token_at: datetime | None = None
        self.finished = asyncio.Event()
        self.ending: Ending | None = None
        # How much of what was taken, and perhaps stored, is yet to be known as reasoning.
        self._reasoning_up_to = 0
        self._pending: list[_Said] = []
        self._pending_size = 0
        self._streamed = 0
        # A call of which nothing but its names came: they are told with the first of its arguments.
        self._opening: Call | None = None
        # The keys of its rows in the log.
        self._keys: list[int] = []

    def add(self, kind: str, text: str) -> None:
        """Take text in."""
        if self._opening:
            self.close_call()
        self._add(_Said(kind, text))

    def add_call(self, delta: ToolCallDelta) -> None:
        """Take a piece of a tool's call in."""
        self.first_token_at = self.first_token_at or timezone.now()
        if delta.id:
            self.close_call()
            self._opening = Call(delta.index, delta.id, delta.name)
        if delta.arguments:
            call, self._opening = self._opening or Call(delta.index), None
            self._add(_Said(TOOL_CALL, delta.arguments, call))

    def close_call(self) -> None:
        """No more comes of a call: one without arguments has none in JSON, so that it has a place in the text."""
        if self._opening:
            call, self._opening = self._opening, None
            self._add(_Said(TOOL_CALL, "{}", call))

    def _add(self, said: _Said) -> None:
        self.first_token_at = self.first_token_at or timezone.now()
        self._pending.append(said)
        self._pending_size += len(said.text)

    def mark_reasoning(self) -> None:
        """All text so far was reasoning: what is pending, and by the next entry what was taken."""
        self._pending = [said._replace(kind=REASONING) if said.kind == CONTENT else said for said in self._pending]
        self._reasoning_up_to = self._streamed

    @property
    def is_ahead(self) -> bool:
        """Whether more is pending than should be."""
        return self._pending_size > MAX_PENDING

    def take(self, keys: LogKeys) -> Entry:
        """Move what is pending into an entry for the database, neighbours of one kind joined."""
        pieces: list[Piece] = []
        for (kind, call), group in groupby(self._pending, itemgetter(0, 2)):
            whole = "".join([said.text for said in group])
            pieces += cut(self._streamed, kind, whole, call)
            self._streamed += len(whole)
        self._pending.clear()
        self._pending_size = 0
        up_to, self._reasoning_up_to = self._reasoning_up_to, 0
        if self.ending:
            # Every append of ours that is not in this entry is committed, and nobody else adds any.
            return Entry(
                self.ids.generation_id,
                pieces,
                ending=self.ending,
                first_token_at=self.first_token_at,
                before=list(self.transcript.pieces) if self._keys else [],
                keys_before=self._keys,
                reasoning_up_to=up_to,
            )
        first_key = keys.take(len(pieces))
        self._keys += range(first_key, first_key + len(pieces))
        return Entry(self.ids.generation_id, pieces, first_key, reasoning_up_to=up_to)

    def settle(self, ending: Ending) -> None:
        """Nothing more will come: tell readers and whoever waits for the end."""
        self.transcript.finish(ending)
        self.finished.set()


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

    def append(self, run: Run, kind: str, text: str) -> None:
        """Take text in; it is committed, and then shown, by the next batch."""
        if not run.finished.is_set():
            run.add(kind, text)
            self._touch(run)

    def append_call(self, run: Run, delta: ToolCallDelta) -> None:
        """Take a piece of a tool's call in, in the same way."""
        if not run.finished.is_set():
            run.add_call(delta)
            self._touch(run)

    def mark_reasoning(self, run: Run) -> None:
        """All text of the run so far was reasoning; so the next batch stores it."""
        run.mark_reasoning()
        self._touch(run)

    def end(self, run: Run, ending: Ending) -> None:
        """End an answer with what is pending. The first ending stays; it is committed by the next batch."""
        if run.ending is None and not run.finished.is_set():
            run.ending = ending
            self._touch(run)

    def _touch(self, run: Run) -> None:
        self._dirty[run] = None
        self._work.set()

    async def turn(self) -> None:
        """Wait until the log has rested and is about to take the next batch, also when nothing is pending.

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
            self._give_turns()
            # Those who have it run before this goes on: what they read without waiting is in the batch.
            await asyncio.sleep(0)
            await self._work.wait()
            self._work.clear()
            began = loop.time()
            await self._write_batch()
            await asyncio.sleep(min(MOST_REST, max(LEAST_REST, loop.time() - began)))

    async def _write_batch(self) -> None:
        dirty, self._dirty = self._dirty, {}
        try:
            # What came while the database refused, of an answer that was given up then, would follow a hole.
            if batch := {run: run.take(self._keys) for run in dirty if not run.finished.is_set()}:
                await self._commit(batch)
        except Exception:
            # A fault of ours: text that was taken is in nobody's hands any more, so none of it may be waited for.
            logger.exception("a batch of %d answers' text failed", len(dirty))
            for run in dirty:
                if not run.finished.is_set():
                    self._give_up(run)

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

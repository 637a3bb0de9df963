"""Starts and stops producers, and sees that no answer says "running" for ever: one a event loop.

Producers belong to the supervisor, not to the request that asked for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from .. import conf
from ..access import api_keys
from ..database import db
from ..exceptions import ShuttingDown, request_id
from . import workers
from .background import BackgroundTasks, start_task
from .chunk_log import ChunkLog
from .ends import Entry
from .events import COMPLETED, FAILED, Ending
from .feed import Feed
from .follower import Follower
from .grace import Grace
from .hints import Hints, Subject, address_of
from .maintenance import Maintenance, guarded
from .producer import Plan, produce
from .progress import still_running
from .relaying import Relaying, RelayPlan
from .relays import Relays
from .run import Run
from .storage import INTERRUPTED_ENDING, STOPPED_ENDING, finish_elsewhere, store
from .transcript import LAST_EVENTS_SECONDS, Transcript, readers_gone
from .workers import Heartbeat

logger = logging.getLogger("conversations.generation")

CHECK_INTERVAL = 1.0
LAST_WRITES_SECONDS = 5.0  # what the database gets to take the last ends


class Supervisor:
    """The engine of one event loop. Every method is called from that loop, unless it says otherwise."""

    def __init__(self, *, has_ended: bool = False) -> None:
        self.heartbeat = Heartbeat()
        self.runs: dict[uuid.UUID, Run] = {}
        self.leaving = has_ended  # readiness says so, all else goes on
        self.draining = has_ended  # no answer begins any more
        self.grace = Grace()
        self.log = ChunkLog(
            self.heartbeat.log_keys,
            on_lost=self._cancel,
            on_unsettled=self._keep_unsettled,
            on_committed=self._tell_followers,
        )
        self.hints = Hints(
            address=lambda: address_of(self.heartbeat.worker_id),
            on_stop=self._told_to_stop,
            on_news=lambda: self.follower.news(),
            on_change=lambda subject: self.feed.look_at(subject),
            makes=lambda generation_id: generation_id in self.runs,
        )
        self.follower = Follower(self.hints)
        self.feed = Feed(self.hints)
        self.relays = Relays(lambda: self.heartbeat.worker_id)
        self._look_now = asyncio.Event()
        self._unsettled: dict[uuid.UUID, Run] = {}
        self._producers: set[asyncio.Task[None]] = set()
        self._background = BackgroundTasks(self._loop_ended)
        self.maintenance = Maintenance(
            self.heartbeat, on_new_id=self._moved, makes=lambda key: key in self.runs or key in self._unsettled
        )

    # Starting -----------------------------------------------------------------------------------------------

    def ensure_started(self) -> None:
        """Start the background tasks, once. Servers without lifespan events never call ``startup``."""
        if not self._background:
            for name, work in {
                "chunk log": self.log.write_forever,
                "follower": self.follower.follow_forever,
                "feed": self.feed.look_forever,
                **self.relays.tasks,
                "post out": self.hints.send_forever,
                "post in": self.hints.receive_forever,
                **self.maintenance.tasks,
                "check": self._check_forever,
            }.items():
                self._background.start(name, work)

    @property
    def is_idle(self) -> bool:
        """Whether all its answers have ended."""
        return not self.relays.running and all(run.finished.is_set() for run in self.runs.values())

    @property
    def failed_tasks(self) -> list[str]:
        """The background tasks that do not run, or ended a moment ago."""
        return self._background.failed

    def _moved(self) -> None:
        """We have another id, hence another address: others are to send there."""
        self.hints.moved()
        self.follower.ask_again()
        self.feed.ask_again()

    def launch(self, plan: Plan, asker: asyncio.Task[Any] | None) -> None:
        """Begin to make the answer that ``plan`` describes, and whose rows are committed; ``asker`` will read it."""
        self.ensure_started()
        generation_id = plan.ids.generation_id
        abandoned = None if plan.background else partial(self._abandoned, generation_id)
        run = self.runs[generation_id] = Run(plan.ids, on_abandoned=abandoned)
        context = contextvars.Context()
        context.run(request_id.set, plan.request_id)
        task = start_task(self._make(run, plan), f"producer {generation_id}", context)
        self._producers.add(task)
        task.add_done_callback(self._producers.discard)
        run.transcript.expect(asker)

    async def _make(self, run: Run, plan: Plan) -> None:
        """Make an answer, see that its end is written down, and do what was to be done afterwards."""
        # What ended it may have come before the first step of this.
        ending = run.requested_ending or run.transcript.ending or await self._produced(run, plan)
        self.log.end(run, ending)
        await run.finished.wait()
        self.runs.pop(run.ids.generation_id, None)
        self.hints.ended(run.ids.generation_id)
        if plan.subject:
            self.tell_change(plan.subject)
        ended = run.transcript.ending or ending  # another process may have ended it otherwise
        logger.info("generation %s %s, %d characters", run.ids.generation_id, ended.status, run.transcript.position)
        if plan.afterwards and ended.status == COMPLETED and not self.draining:
            await plan.afterwards(run.transcript.content)

    async def _produced(self, run: Run, plan: Plan) -> Ending:
        """Make an answer; return how it ended, whatever ended it."""
        # Only from here to the end of this can the task be cancelled. Before its first step it would never run, and
        # nobody would write down an end; after the making the cancellation would not be meant for what it meets.
        run.producer = asyncio.current_task()
        try:
            return await produce(run, plan, self.log)
        except asyncio.CancelledError:
            return run.requested_ending or INTERRUPTED_ENDING
        except Exception:
            logger.exception("generation %s failed", run.ids.generation_id)
            return Ending(FAILED, error_code="internal_error")
        finally:
            run.producer = None

    def begin_relay(self, plan: RelayPlan) -> Relaying:
        """Return an answer that is to be read and passed on, and whose row is committed; raises ``ShuttingDown``."""
        if self.draining:
            self.relays.refuse(plan)
            raise ShuttingDown()
        self.ensure_started()
        return self.relays.begin(plan)

    # Stopping -----------------------------------------------------------------------------------------------

    async def stop(self, generation_id: uuid.UUID, ending: Ending = STOPPED_ENDING) -> None:
        """End an answer wherever it is made, and return once its text is committed. Idempotent.

        Of another process it ends the row; that process sees so at its next append, or within a second.
        """
        if run := self.runs.get(generation_id):
            self._request(run, ending)
            await run.finished.wait()
        else:
            self.ensure_started()
            self.hints.stop(generation_id, await db.write(finish_elsewhere, generation_id, ending))

    def tell_of_ends(self, ended: Iterable[tuple[uuid.UUID, uuid.UUID | None]]) -> None:
        """Tell those who make answers, by their workers, that others ended them in the database."""
        for generation_id, worker_id in ended:
            self._told_to_stop(generation_id)
            self.hints.stop(generation_id, worker_id)

    @property
    def is_watched(self) -> bool:
        """Whether anybody's conversations are watched, here or in another process; may be asked from any thread."""
        return self.feed.is_watched or self.hints.is_watched

    def tell_change(self, subject: Subject) -> None:
        """Something is new in a conversation: let those know who watch, here and in other processes."""
        self.feed.look_at(subject)
        self.hints.changed(subject)

    def _told_to_stop(self, generation_id: uuid.UUID) -> None:
        """Another process ended an answer of ours; its word is only a reason to look."""
        if generation_id in self.runs:
            self._look_now.set()

    def _tell_followers(self, run: Run) -> None:
        self.hints.committed(run.ids.generation_id, run.transcript.position)

    def _request(self, run: Run, ending: Ending) -> None:
        if run.requested_ending is None:
            run.requested_ending = ending
            self._cancel(run)

    def _cancel(self, run: Run) -> None:
        if run.producer:
            run.producer.cancel()

    def _abandoned(self, generation_id: uuid.UUID) -> None:
        if conf.get().ON_DISCONNECT == "cancel" and (run := self.runs.get(generation_id)):
            self._request(run, STOPPED_ENDING)

    def _keep_unsettled(self, run: Run) -> None:
        self._unsettled[run.ids.generation_id] = run
        self._cancel(run)

    # Background ---------------------------------------------------------------------------------------------

    async def _check_forever(self) -> None:
        """Once a second, or when told: which answers did others end, and which endings are not written down yet."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._look_now.wait()
            self._look_now.clear()
            if self._unsettled:
                await guarded(self._settle())
            if self.runs:
                await guarded(self._notice_lost())

    async def _notice_lost(self) -> None:
        asked = list(self.runs.values())
        running = await db.read(still_running, [run.ids.generation_id for run in asked])
        for run in asked:
            if run.ids.generation_id not in running and not run.finished.is_set() and run.ending is None:
                self._cancel(run)
                await self.log.adopt(run)

    async def _settle(self) -> None:
        for key, run in list(self._unsettled.items()):
            self._unsettled[key] = self._unsettled.pop(key)  # last the next time: it may be refused for its own text
            await db.log(store, [Entry(key, [], ending=run.ending)])
            del self._unsettled[key]

    # Reading ------------------------------------------------------------------------------------------------

    async def transcript(self, generation_id: uuid.UUID, at_least: int = 0) -> Transcript:
        """Return the text of an answer, wherever it is made, ``at_least`` so much if there is; raises ``NotFound``."""
        if run := self.runs.get(generation_id):
            return run.transcript
        self.ensure_started()
        return await self.follower.transcript(generation_id, at_least)

    # Ending -------------------------------------------------------------------------------------------------

    async def shutdown(self, grace: float = 0.0) -> None:
        """End everything, in time: may be called again without harm.

        No answer begins any more; those that run may go on for ``grace`` seconds, what is left then is ended
        as interrupted, with its text. Readers get their end before this returns.
        """
        self.leaving = self.draining = True
        self.feed.close()
        transcripts = [*(run.transcript for run in self.runs.values()), *self.follower.transcripts]
        await self.grace.wait([*self.runs.values(), *self.relays.running.values()], grace)
        await self._interrupt()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.relays.end(), LAST_WRITES_SECONDS)
        await readers_gone(transcripts)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.feed.gone(), LAST_EVENTS_SECONDS)
        for task in self._producers:
            task.cancel()
        await asyncio.gather(*self._producers, return_exceptions=True)
        if self._background:
            await self._background.close()
            await guarded(asyncio.wait_for(self._sign_off(), LAST_WRITES_SECONDS))

    def _loop_ended(self) -> None:
        """The event loop ends under us: nobody waits for what would be written. Others end the rows."""
        self.leaving = self.draining = True
        self.feed.close()
        for run in self.runs.values():
            run.settle(INTERRUPTED_ENDING)

    async def _sign_off(self) -> None:
        await db.background(api_keys.write_last_used)
        # After the last beat, which would make the row anew.
        await db.beat(workers.sign_off, self.heartbeat.worker_id)

    async def _interrupt(self) -> None:
        """End what still runs. A database that says nothing holds that up for a time; then other processes end it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITES_SECONDS):
                await asyncio.gather(*(self.stop(key, INTERRUPTED_ENDING) for key in list(self.runs)))
        for run in list(self.runs.values()):
            if not run.finished.is_set():
                logger.error("the end of generation %s cannot be stored", run.ids.generation_id)
                run.settle(INTERRUPTED_ENDING)

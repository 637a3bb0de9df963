"""Starts and stops producers, and sees that no answer says "running" for ever: one a event loop.

Producers belong to the supervisor, not to the request that asked for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError

from .. import api_keys, completions, conf, db, problems, titles
from . import liveness
from .events import COMPLETED, FAILED, Ending
from .follower import Follower
from .liveness import Pulse
from .log import ChunkLog, Run
from .post import Post, address_of
from .producer import Plan, produce
from .storage import INTERRUPTED_ENDING, STOPPED_ENDING, Entry, finish_elsewhere, still_running, store
from .transcript import Transcript

logger = logging.getLogger("conversations.generation")

CHECK_INTERVAL = 1.0
# What readers get to take their last events at the end of the process.
LAST_EVENTS_SECONDS = 2.0
# By then whoever asked for an answer reads it, or has left before its first byte.
FIRST_READER_SECONDS = 1.0


class Supervisor:
    """The engine of one event loop. Every method is called from that loop, unless it says otherwise."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.runs: dict[uuid.UUID, Run] = {}
        self.draining = False
        self.log = ChunkLog(on_lost=self._cancel, on_unsettled=self._keep_unsettled, on_committed=self._tell_followers)
        self.post = Post(
            address=lambda: address_of(self.pulse.worker_id),
            on_stop=self._told_to_stop,
            on_news=lambda: self.follower.news(),
            makes=lambda generation_id: generation_id in self.runs,
        )
        self.follower = Follower(self.post)
        self._look_now = asyncio.Event()
        self._unsettled: dict[uuid.UUID, Run] = {}
        self._producers: set[asyncio.Task[None]] = set()
        self._services: list[asyncio.Task[None]] = []

    # Starting -----------------------------------------------------------------------------------------------

    def ensure_started(self) -> None:
        """Start the background tasks, once. Servers without lifespan events never call ``startup``."""
        if not self._services:
            self._services = [
                self._task(self.log.write_forever(), "chunk log"),
                self._task(self.follower.follow_forever(), "follower"),
                self._task(self.post.send_forever(), "post out"),
                self._task(self.post.receive_forever(), "post in"),
                self._task(self._beat_forever(), "liveness"),
                self._task(self._check_forever(), "check"),
            ]

    def launch(self, plan: Plan) -> None:
        """Begin to make the answer that ``plan`` describes; its rows are committed already."""
        self.ensure_started()
        generation_id = plan.ids.generation_id
        run = Run(plan.ids, on_abandoned=lambda: self._abandoned(generation_id))
        self.runs[generation_id] = run
        task = self._task(self._make(run, plan), f"producer {generation_id}", plan.request_id)
        self._producers.add(task)
        task.add_done_callback(self._producers.discard)
        loop = asyncio.get_running_loop()
        loop.call_later(FIRST_READER_SECONDS, run.transcript.tell_if_abandoned, context=contextvars.Context())

    @staticmethod
    def _task(coroutine: Coroutine[Any, Any, Any], name: str, request_id: str = "") -> asyncio.Task[Any]:
        # A context of its own: a request's carries thread-sensitive state that ends with that request.
        context = contextvars.Context()
        context.run(problems.request_id.set, request_id)
        return asyncio.get_running_loop().create_task(coroutine, name=name, context=context)

    async def _make(self, run: Run, plan: Plan) -> None:
        """Make an answer, see that its end is written down, and name the conversation."""
        # What ended it may have come before the first step of this.
        ending = run.requested_ending or run.transcript.ending or await self._produced(run, plan)
        self.log.end(run, ending)
        await run.finished.wait()
        self.runs.pop(run.ids.generation_id, None)
        ended = run.transcript.ending or ending  # another process may have ended it otherwise
        logger.info("generation %s %s, %d characters", run.ids.generation_id, ended.status, run.transcript.position)
        if plan.naming and ended.status == COMPLETED and not self.draining:
            await titles.improve(plan.naming, run.transcript.content)

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
            self.post.stop(generation_id, await db.write(finish_elsewhere, generation_id, ending))

    def _told_to_stop(self, generation_id: uuid.UUID) -> None:
        """Another process ended an answer of ours; its word is only a reason to look."""
        if generation_id in self.runs:
            self._look_now.set()

    def _tell_followers(self, run: Run) -> None:
        self.post.committed(run.ids.generation_id, run.transcript.position)
        if run.finished.is_set():
            self.post.ended(run.ids.generation_id)

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

    async def _beat_forever(self) -> None:
        await self._guarded(db.write(liveness.give_up_dead_neighbours, self.pulse.worker_id))
        while True:
            await self._guarded(db.write(self._beat))
            await asyncio.sleep(conf.get().BEAT_INTERVAL)

    def _beat(self) -> None:
        liveness.beat(self.pulse)
        api_keys.write_last_used()

    async def _check_forever(self) -> None:
        """Once a second, or when told: which answers did others end, and which endings are not written down yet."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._look_now.wait()
            self._look_now.clear()
            if self._unsettled:
                await self._guarded(self._settle())
            if self.runs:
                await self._guarded(self._notice_lost())

    async def _notice_lost(self) -> None:
        asked = list(self.runs.values())
        running = await db.read(still_running, [run.ids.generation_id for run in asked])
        for run in asked:
            if run.ids.generation_id not in running and not run.finished.is_set() and run.ending is None:
                self._cancel(run)
                await self.log.adopt(run)

    async def _settle(self) -> None:
        entries = [Entry(key, [], run.ending) for key, run in self._unsettled.items()]
        await db.log(store, entries)
        for entry in entries:
            self._unsettled.pop(entry.generation_id, None)

    @staticmethod
    async def _guarded(job: Coroutine[Any, Any, Any]) -> None:
        """A database that does not answer must not end a background task."""
        try:
            await job
        except DatabaseError as error:
            logger.warning("the database does not answer: %s", error)
        except Exception:
            logger.exception("background work failed; going on")

    def _sign_off(self) -> None:
        api_keys.write_last_used()
        liveness.sign_off(self.pulse.worker_id)

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
        self.draining = True
        transcripts = [*(run.transcript for run in self.runs.values()), *self.follower.transcripts]
        if self.runs and grace:
            logger.info("%d answers may go on for %d s", len(self.runs), grace)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    for run in list(self.runs.values()):
                        await run.finished.wait()
        await asyncio.gather(*(self.stop(key, INTERRUPTED_ENDING) for key in list(self.runs)))
        await _deserted(transcripts)
        for task in [*self._producers, *self._services]:
            task.cancel()
        await asyncio.gather(*self._producers, *self._services, return_exceptions=True)
        if self._services:
            self._services = []
            await self._guarded(db.write(self._sign_off))


async def _deserted(transcripts: list[Transcript]) -> None:
    """Wait until ended answers have no readers, or as long as a reader may take for its last events."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_EVENTS_SECONDS):
            for transcript in transcripts:
                if transcript.ending:
                    await transcript.deserted()


_supervisors: WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = WeakKeyDictionary()


def of(loop: asyncio.AbstractEventLoop) -> Supervisor:
    """Return the supervisor of an event loop."""
    return _supervisors.get(loop) or _supervisors.setdefault(loop, Supervisor())


def current() -> Supervisor:
    """Return the supervisor of the running event loop."""
    return of(asyncio.get_running_loop())


async def startup() -> None:
    """Start the engine of this event loop: for servers with lifespan events."""
    current().ensure_started()


async def shutdown() -> None:
    """End the engine of this event loop, and everything it holds."""
    loop = asyncio.get_running_loop()
    if supervisor := _supervisors.get(loop):
        await supervisor.shutdown(conf.get().DRAIN_SECONDS)
        _supervisors.pop(loop, None)
    await completions.close()

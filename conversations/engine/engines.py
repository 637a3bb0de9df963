"""The engine of each event loop: found, started, ended; and what database jobs ask of it.

A verb that begins an answer is such a job: it runs on a thread of the loop that waits for it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from contextlib import suppress
from weakref import WeakKeyDictionary

from django.db import transaction

from .. import conf
from ..database import db
from ..exceptions import ServerBusy, ShuttingDown
from . import completions, pruning, workers
from .hints import Subject
from .producer import Plan
from .storage import STOPPED_ENDING, finish
from .supervisor import Supervisor
from .workers import Heartbeat

_supervisors: WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = WeakKeyDictionary()


def of(loop: asyncio.AbstractEventLoop) -> Supervisor:
    """Return the supervisor of an event loop."""
    return _supervisors.get(loop) or _supervisors.setdefault(loop, Supervisor())


def current() -> Supervisor:
    """Return the supervisor of the running event loop."""
    return of(asyncio.get_running_loop())


async def startup() -> None:
    """Start the engine of this event loop: for servers with lifespan events."""
    if current().draining:  # of a server that has ended
        _supervisors.pop(asyncio.get_running_loop())
    current().ensure_started()


def announce_shutdown() -> None:
    """Let the readiness of this event loop's engine say that it will end."""
    current().leaving = True


def cut_grace() -> None:
    """Let this event loop's running answers end now, where the shutdown would give them time."""
    current().grace.cut()


async def end_with_call() -> None:
    """End the engine of an event loop that lives for one call, unless somebody else's answer is made in it."""
    supervisor = _supervisors.get(asyncio.get_running_loop())
    if supervisor is None:
        return
    await supervisor.relays.settled()
    if supervisor.is_idle:
        await shutdown()
        _supervisors.pop(asyncio.get_running_loop())


async def shutdown() -> None:
    """End the engine of this event loop, and everything it holds: no answer begins here any more."""
    loop = asyncio.get_running_loop()
    if supervisor := _supervisors.get(loop):
        await supervisor.shutdown(conf.get().DRAIN_SECONDS)
        # In its place one that holds nothing, not even the loop.
        _supervisors[loop] = Supervisor(has_ended=True)
    await completions.close()


# For database jobs -------------------------------------------------------------------------------------------


def worker_for_job() -> tuple[uuid.UUID, int]:
    """Return the worker that will make the answer which this database job starts, and the key from which it logs it.

    Raises ``ShuttingDown`` while the process drains, ``ServerBusy`` while it makes as many as it may, and
    ``RuntimeError`` outside of ``db.write``.
    """
    try:
        supervisor = of(db.calling_loop.get())
    except LookupError:
        raise RuntimeError("answers are started through `await db.write(services.start_reply, …)`") from None
    if supervisor.draining:
        raise ShuttingDown()
    # Those that other threads begin at this moment are not among them: a few more may run.
    limit = conf.get().MAX_ANSWERS_PER_PROCESS
    if limit and len(supervisor.runs) + len(supervisor.relays.running) >= limit:
        raise ServerBusy()
    return supervisor.heartbeat.worker_id, supervisor.heartbeat.log_keys.next


def register_worker() -> None:
    """See that the worker which will make answers has its row. To be called before the transaction of the answer."""
    loop = db.calling_loop.get(None)
    if loop and not of(loop).draining:
        workers.ensure_registered(of(loop).heartbeat)


def prune_from_job(user_identifier: str) -> None:
    """See that somebody has not too many conversations: beside the answers, once this job has committed.

    Where there is no engine, or no thread of ours, it is done at once.
    """
    loop = db.calling_loop.get(None)
    if loop is None or not conf.get().DB_THREADS:
        pruning.prune_owner(user_identifier=user_identifier, keep=conf.get().KEEP_LATEST)
    else:
        transaction.on_commit(lambda: loop.call_soon_threadsafe(of(loop).maintenance.prune, user_identifier))


def tell_change(subject: Subject) -> None:
    """Let whoever watches know, once this job has committed, that something is new in a conversation."""
    if loops := _loops():
        transaction.on_commit(lambda: _tell(loops, subject))


def _loops() -> list[asyncio.AbstractEventLoop]:
    loop = db.calling_loop.get(None)
    # Of a thread that is not ours: its process may have engines all the same.
    return [loop] if loop else [found for each in _supervisors.keyrefs() if (found := each()) is not None]


def stop_from_job(generation_id: uuid.UUID, worker_id: uuid.UUID | None) -> bool:
    """End an answer in the database, with the text that is there, and let who makes it know; tell whether it ran."""
    if not finish(generation_id, STOPPED_ENDING):
        return False
    for loop in _loops():
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(of(loop).tell_of_ends, [(generation_id, worker_id)])
    return True


def heartbeats() -> list[Heartbeat]:
    """Return those of this process; may be asked from any thread."""
    return [supervisor.heartbeat for supervisor in list(_supervisors.values())]


def _tell(loops: Iterable[asyncio.AbstractEventLoop], subject: Subject) -> None:
    for loop in loops:
        # Mostly nobody watches, and each call from another thread wakes the loop.
        with suppress(RuntimeError):  # it has ended
            if of(loop).is_watched:
                loop.call_soon_threadsafe(of(loop).tell_change, subject)


def launch_from_job(plan: Plan) -> None:
    """Launch a plan from a database job, on the loop that waits for the job, even if its caller has left."""
    loop = db.calling_loop.get()
    loop.call_soon_threadsafe(of(loop).launch, plan, db.calling_task.get())

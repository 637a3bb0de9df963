"""What database jobs ask of the engine: who will make an answer, and to begin. They run on the loop's threads."""

from __future__ import annotations

import uuid

from .. import conf, db
from ..exceptions import ServerBusy, ShuttingDown
from .producer import Plan
from .supervisor import of

# When to try again with a process that makes as many answers as it may.
BUSY_SECONDS = 5


def worker_id_for_job() -> uuid.UUID:
    """Return the id of the worker that will make the answers which this database job starts.

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
    if limit and len(supervisor.runs) >= limit:
        raise ServerBusy(retry_after=BUSY_SECONDS)
    return supervisor.pulse.worker_id


def launch_from_job(plan: Plan) -> None:
    """Launch a plan from a database job, on the loop that waits for the job, even if its caller has left."""
    loop = db.calling_loop.get()
    loop.call_soon_threadsafe(of(loop).launch, plan)

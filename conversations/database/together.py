"""Jobs that wait for the one writer of SQLite at the same time are done in one transaction, with one commit.

Each runs as it would alone: what is a transaction there is a savepoint here, so that an error of one undoes its own
alone. None gets its result before the commit. Where a job broke the transaction, or the commit fails, nothing of it is
stored and each job is done once more, alone: what is done together must change nothing but the database.

Only on SQLite. Elsewhere rows that one job has locked would stay locked while the others run: two batches would wait
for each other, and there are several writers, which commit beside each other anyway.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction

# So many jobs, and none that begins later (seconds): whoever came first waits for all, and so do other processes.
MOST_JOBS, MOST_SECONDS = 50, 0.02


class Job:
    """A function that waits for its turn, and the future of its caller."""

    def __init__(self, function: Callable[[], Any], context: contextvars.Context) -> None:
        self.function = function
        self.context = context
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.error: BaseException | None = None
        self._result: Any = None
        # What it wants done after the commit, as Django keeps it.
        self._hooks: list[Any] = []

    def run(self, function: Callable[[], Any]) -> None:
        """Call ``function``, which does the job, and keep what comes of it."""
        self.error = None
        try:
            self._result = function()
        except BaseException as error:
            self.error = error

    def run_in_batch(self) -> None:
        """Do it within the transaction of a batch. Its context stays as it is: the job may have to be done again."""
        self.run(lambda: self.context.copy().run(self.function))
        wrapper = connections[DEFAULT_DB_ALIAS]
        self._hooks, wrapper.run_on_commit = wrapper.run_on_commit, []

    def run_hooks(self) -> None:
        """Do what was to be done after the commit; if that fails it is this job that failed."""
        for _savepoints, hook, is_robust in self._hooks:
            try:
                self.context.run(transaction.on_commit, hook, robust=is_robust)
            except BaseException as error:
                self.error = error
                return

    def settle(self) -> None:
        """Tell the caller, in their event loop; they may have left."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self._result)
        else:
            self.future.set_exception(self.error)


class _ApartError(Exception):
    """A job broke the transaction."""


def take(waiting: deque[Job]) -> Job | None:
    """Take the next job whose caller has not left."""
    with suppress(IndexError):
        while True:
            job = waiting.popleft()
            if not job.future.cancelled():
                return job
    return None


def run(batch: list[Job], waiting: deque[Job]) -> bool:
    """Do a job, and those that wait, which join it in ``batch``, in one transaction; tell whether it was committed."""
    (job,) = batch
    has_begun = False
    try:
        with transaction.atomic(durable=True):
            has_begun = True
            deadline = time.monotonic() + MOST_SECONDS
            while True:
                job.run_in_batch()
                if not _is_sound(job):
                    raise _ApartError
                is_full = len(batch) >= MOST_JOBS or time.monotonic() > deadline
                if is_full or (more := take(waiting)) is None:
                    break
                batch.append(job := more)
    except (Error, _ApartError) as error:
        if not has_begun:
            job.error = error  # nor could it for this job alone
        return not has_begun
    for job in batch:
        job.run_hooks()
    return True


def _is_sound(job: Job) -> bool:
    """Whether the transaction is as if the job had not been there, or had done all that it says."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if isinstance(job.error, Error) or transaction.get_rollback() or wrapper.connection is None:
        return False
    # SQLite itself ends a transaction for some errors, as of a full disk, whoever caught them.
    return bool(wrapper.connection.in_transaction)


def tell(jobs: Iterable[Job]) -> None:
    """Tell the callers of jobs that are done: each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, done in by_loop.items():
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(_settle, done)


def _settle(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.settle()

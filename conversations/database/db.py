"""ORM work from async code, on fixed threads.

Few threads that keep their connections, instead of one thread and one connection a request:

- ``read``: ``DB_THREADS`` threads;
- ``write``: one thread on SQLite, which has one writer anyway, else ``DB_THREADS``. Apart from ``read``, so
  that a locked database never takes the threads that read;
- ``log``: one thread for the text of answers (on SQLite the one of ``write``);
- ``probe``: one thread that asks whether the database can be written (on SQLite the one of ``write``);
- ``beat``: one thread that shows that this process lives, whatever all others wait for; nothing else ever runs there;
- ``background``: one thread for what no chat waits for;
- ``files``: two threads that parse what is large, make files of what was sent, and read them. Apart from all else, as
  that may need a processor for seconds, and two, as it may need memory for an image's pixels.

What belongs together is one function and one call. On SQLite, jobs of ``write_together`` and of the log that wait at
the same time are one transaction (``together``). Nothing here sends Django's request signals, so
``CONN_MAX_AGE`` does not end these connections; a connection that an error broke is closed after the job, and
where the server was away, or could only be read, the other threads close theirs before they go on. A job that takes
longer than ``DB_JOB_TIMEOUT`` waits for a server that says nothing: its connection is cut.

Under Django's test runner and pytest-django jobs run in the test's own thread, and so in its transaction.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import get_script_prefix, set_script_prefix
from django.utils import translation

from .. import conf
from . import in_tests, kept, outages, sessions, together
from .threads import Threads

P = ParamSpec("P")
R = TypeVar("R")

# The event loop that waits for the job that runs in this thread right now.
calling_loop: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("calling_loop")
# The task of that loop.
calling_task: contextvars.ContextVar[asyncio.Task[Any] | None] = contextvars.ContextVar("calling_task", default=None)


logger = logging.getLogger("conversations.database")

# How often somebody looks for jobs that take too long (seconds).
LOOK_EVERY = 1.0
# What a thread may need to notice that its connection was cut (seconds).
CUT_SECONDS = 2.0
FILE_THREADS = 2
# How long `close` waits for what runs (seconds).
CLOSE_SECONDS = 10.0


def _context_of_job(loop: asyncio.AbstractEventLoop) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(calling_loop.set, loop)
    context.run(calling_task.set, asyncio.current_task())
    return context


class Pool:
    """Threads that keep their database connections. Where it ``joins``, jobs may share a transaction."""

    def __init__(self, name: str, threads: int, *, joins: bool = False) -> None:
        self._joins = joins
        self._waiting: deque[together.Job] = deque()
        self._threads = Threads(f"db-{name}", threads, begin=sessions.in_this_thread)
        self._connections: set[BaseDatabaseWrapper] = set()
        # What runs, by its connection: when it has to have ended.
        self._running: dict[BaseDatabaseWrapper, float] = {}

    async def run(self, job: Callable[[], R], *, again: bool) -> R:
        """Run ``job`` in a thread; where ``again``, once more if the connection failed under it."""
        loop = asyncio.get_running_loop()
        context = _context_of_job(loop)
        return await loop.run_in_executor(self._threads, context.run, self._perform, job, again)

    async def run_together(self, job: Callable[[], R]) -> R:
        """Run ``job``, with others that wait: see ``together``."""
        if not self._joins:
            return await self.run(job, again=False)
        waiting = together.Job(job, _context_of_job(asyncio.get_running_loop()))
        self._waiting.append(waiting)
        # For each: one that finds nothing to do is cheap, and none is left waiting.
        self._threads.call(self._serve)
        result: R = await waiting.future
        return result

    def _serve(self) -> None:
        """Do the next of the jobs that wait, and those behind it."""
        if (first := together.take(self._waiting)) is None:
            return
        batch = [first]
        try:
            is_done = bool(self._waiting) and self._perform(partial(together.run, batch, self._waiting), False)
            if not is_done:
                for job in batch:
                    job.run(partial(job.context.run, self._perform, job.function, False))
        except BaseException as error:  # a fault of ours: nobody may wait for ever
            for job in batch:
                job.error = error
        together.tell(batch)

    def _perform(self, job: Callable[[], R], again: bool) -> R:
        kept.close_outlived()
        own = connections[DEFAULT_DB_ALIAS]
        was_connected = False
        try:
            was_connected = self._is_connected(own)
            return _tried_again(job, was_connected) if again else job()
        except Exception as error:
            kept.tell_of_failure(error, was_connected)
            raise
        finally:
            self._running.pop(own, None)
            kept.close_broken()
            self._connections.update(connections.all(initialized_only=True))
            if settings.DEBUG:
                reset_queries()

    def _is_connected(self, own: BaseDatabaseWrapper) -> bool:
        """Whether the connection of this thread is there. The time that a job has begins anew after the look."""
        seconds, begun, had_one = conf.get().DB_JOB_TIMEOUT, time.monotonic(), own.connection is not None
        self._running[own] = begun + seconds
        is_connected = kept.is_connected(own)
        now = time.monotonic()
        self._running[own] = now + seconds
        if had_one and not is_connected and now - begun > LOOK_EVERY:
            kept.tell_others()  # it was silent, and they need not wait for theirs
        return is_connected

    def cut_overdue(self) -> None:
        """Cut the connections of jobs that take too long."""
        for wrapper, deadline in list(self._running.items()):
            if deadline < time.monotonic():
                logger.error("a job waits for a database that says nothing: its connection is cut")
                sessions.cut(wrapper)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End the threads and close their connections. What runs may go on for so long, then it is cut off."""
        self._threads.shutdown(wait=False)
        if not self._threads.join(seconds):
            for wrapper in list(self._running):
                sessions.cut(wrapper)
            if not self._threads.join(CUT_SECONDS):
                logger.error("a database thread does not end; going on without it")
        for wrapper in self._connections - self._running.keys():
            wrapper.inc_thread_sharing()
            wrapper.close()


def _tried_again(job: Callable[[], R], was_connected: bool) -> R:
    try:
        return job()
    except Error as error:
        if not outages.is_outage(error):
            raise
        kept.tell_of_failure(error, was_connected)
        kept.close_broken()
        return job()


_pools: dict[str, Pool] = {}
_lock = threading.Lock()
# Set when the pools are closed.
_closed = threading.Event()


def _watch(pools: Collection[Pool], closed: threading.Event) -> None:
    while not closed.wait(LOOK_EVERY):
        for pool in pools:
            pool.cut_overdue()


def _pool(name: str) -> Pool:
    with _lock:
        if name not in _pools:
            single_writer = connection.vendor == "sqlite"
            threads = conf.get().DB_THREADS
            _pools["read"] = Pool("read", threads)
            _pools["write"] = Pool("write", 1 if single_writer else threads, joins=single_writer)
            _pools["log"] = _pools["write"] if single_writer else Pool("log", 1)
            _pools["probe"] = _pools["write"] if single_writer else Pool("probe", 1)
            _pools["beat"] = Pool("beat", 1)
            _pools["background"] = Pool("background", 1)
            _pools["files"] = Pool("files", FILE_THREADS)
            _start_watch()
        return _pools[name]


def _start_watch() -> None:
    global _closed
    _closed = threading.Event()
    arguments = (set(_pools.values()), _closed)
    threading.Thread(target=_watch, args=arguments, name="watch of db", daemon=True).start()


def _in_language(language: str | None, prefix: str, job: Callable[[], R]) -> R:
    # Asgiref ties these to the thread that set them: the copied context does not bring them along.
    set_script_prefix(prefix)
    with translation.override(language):
        return job()


async def _run(name: str, job: Callable[[], R], *, again: bool = False, joins: bool = False) -> R:
    job = partial(_in_language, translation.get_language(), get_script_prefix(), job)
    under_test = conf.is_under_test() and not conf.get().THREADS_IN_TESTS
    if conf.get().DB_THREADS and not under_test:
        if joins:
            return await _pool(name).run_together(job)
        return await _pool(name).run(job, again=again)
    context = _context_of_job(asyncio.get_running_loop())
    if under_test:
        return await in_tests.run(job, context)
    return await sync_to_async(context.run, thread_sensitive=True)(job)


async def read(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that only reads. It runs once more if the connection fails under it."""
    return await _run("read", partial(function, *args, **kwargs), again=True)


async def write(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that writes. Cancelling the call does not undo the job: it may have run."""
    return await _run("write", partial(function, *args, **kwargs))


async def write_together(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that writes, perhaps in one transaction with others that wait, and perhaps a second time.

    It must change nothing but the database. Cancelling the call does not undo the job: it may have run.
    """
    return await _run("write", partial(function, *args, **kwargs), joins=True)


async def log(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function of the chunk log, as ``write_together`` does."""
    return await _run("log", partial(function, *args, **kwargs), joins=True)


async def beat(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that shows that this process lives. It must not wait for anybody's lock."""
    return await _run("beat", partial(function, *args, **kwargs))


async def background(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a short function that no chat waits for."""
    return await _run("background", partial(function, *args, **kwargs))


async def files(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that parses a large body, or makes a file of what was sent, such as of an image, or reads it."""
    return await _run("files", partial(function, *args, **kwargs), again=False)


async def probe(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that asks whether the database can be written."""
    return await _run("probe", partial(function, *args, **kwargs), again=True)


def close(seconds: float = CLOSE_SECONDS) -> None:
    """End all threads and close their connections; the next call starts new ones.

    What runs may go on for so long, then it is cut off.
    """
    with _lock:
        pools = set(_pools.values())
        _pools.clear()
        _closed.set()
    deadline = time.monotonic() + seconds
    for pool in pools:
        pool.close(max(0.0, deadline - time.monotonic()))

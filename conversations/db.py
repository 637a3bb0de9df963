"""ORM work from async code, on fixed threads.

Few threads that keep their connections, instead of one thread and one connection a request:

- ``read``: ``DB_THREADS`` threads;
- ``write``: one thread on SQLite, which has one writer anyway, else ``DB_THREADS``. Apart from ``read``, so
  that a locked database never takes the threads that read;
- ``log``: one thread for the text of answers (on SQLite the one of ``write``).

What belongs together is one function and one call. Nothing here sends Django's request signals, so
``CONN_MAX_AGE`` does not end these connections; a connection that an error broke is closed after the job, and
the other threads then look at theirs before they use them.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import translation

from . import conf

P = ParamSpec("P")
R = TypeVar("R")

# The event loop that waits for the job that runs in this thread right now.
calling_loop: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("calling_loop")


class Pool:
    """Threads that keep their database connections."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"db-{name}")
        self._connections: set[BaseDatabaseWrapper] = set()

    async def run(self, job: Callable[[], R], *, again: bool) -> R:
        """Run ``job`` in a thread; where ``again``, once more if the connection failed under it."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        context.run(calling_loop.set, loop)
        return await loop.run_in_executor(self._executor, context.run, self._perform, job, again)

    def _perform(self, job: Callable[[], R], again: bool) -> R:
        _close_dead_connections()
        try:
            return job()
        except (OperationalError, InterfaceError):
            _tell_of_failure()
            if not again:
                raise
            _close_broken_connections()
            return job()
        finally:
            _close_broken_connections()
            self._connections.update(connections.all(initialized_only=True))
            if settings.DEBUG:
                reset_queries()

    def close(self) -> None:
        """Wait for what runs, end the threads and close their connections."""
        self._executor.shutdown(wait=True)
        for wrapper in self._connections:
            wrapper.inc_thread_sharing()
            wrapper.close()


# The newest failure of any connection here, and the one that a thread last heard of.
_newest_failure: object = None
_heard_of = threading.local()


def _tell_of_failure() -> None:
    global _newest_failure
    _newest_failure = object()


def _close_dead_connections() -> None:
    """Where one connection failed, ours may be gone too: a database that was restarted ends them all."""
    if getattr(_heard_of, "failure", None) is not _newest_failure:
        _heard_of.failure = _newest_failure
        for wrapper in connections.all(initialized_only=True):
            if wrapper.connection is not None and not wrapper.is_usable():
                wrapper.close()


def _close_broken_connections() -> None:
    for wrapper in connections.all(initialized_only=True):
        if wrapper.errors_occurred:
            wrapper.close()


_pools: dict[str, Pool] = {}
_lock = threading.Lock()


def _pool(name: str) -> Pool:
    with _lock:
        if name not in _pools:
            single_writer = connection.vendor == "sqlite"
            threads = conf.get().DB_THREADS
            _pools["read"] = Pool("read", threads)
            _pools["write"] = Pool("write", 1 if single_writer else threads)
            _pools["log"] = _pools["write"] if single_writer else Pool("log", 1)
        return _pools[name]


def _in_language(language: str | None, job: Callable[[], R]) -> R:
    # Asgiref ties the active language to the thread that set it: the copied context does not bring it along.
    with translation.override(language):
        return job()


async def _run(name: str, job: Callable[[], R], *, again: bool) -> R:
    job = partial(_in_language, translation.get_language(), job)
    if conf.get().DB_THREADS:
        return await _pool(name).run(job, again=again)
    context = contextvars.copy_context()
    context.run(calling_loop.set, asyncio.get_running_loop())
    return await sync_to_async(context.run, thread_sensitive=True)(job)


async def read(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that only reads. It runs once more if the connection fails under it."""
    return await _run("read", partial(function, *args, **kwargs), again=True)


async def write(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function that writes. Cancelling the call does not undo the job: it may have run."""
    return await _run("write", partial(function, *args, **kwargs), again=False)


async def log(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function of the chunk log."""
    return await _run("log", partial(function, *args, **kwargs), again=False)


def close() -> None:
    """End all threads and close their connections; the next call starts new ones."""
    with _lock:
        pools = set(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()

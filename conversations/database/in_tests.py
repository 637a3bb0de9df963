"""Database jobs under Django's test runner and pytest-django: in the test's own thread, and so in its transaction.

That thread may wait deep within calls (a sync test client or middleware around an async view), and then does only
what is handed in at the innermost place. So jobs wait in one queue an event loop, and whichever place comes first does
them all.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from .. import conf
from .threads import perform

R = TypeVar("R")


class UnreachableTransaction(RuntimeError):
    """An async test runs in the thread that holds its transaction: no database job can run there, nor in any other."""

    def __init__(self) -> None:
        super().__init__(
            "This async test runs in one transaction, which no database job can reach from its event loop. Use"
            " @pytest.mark.django_db(transaction=True), or a method of django.test.TestCase: see the part on tests in"
            " docs/install-in-your-project.md."
        )


class JobQueue:
    """The jobs of one event loop that wait for the test's thread."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        # The context of who came last from the test's thread: what the engine asks for belongs to no call.
        self._innermost: contextvars.Context | None = None

    async def run(self, job: Callable[[], R]) -> R:
        """Do a job, in its turn, in the test's thread."""
        future: Future[R] = Future()
        self._jobs.append((future, job))
        context = contextvars.copy_context()
        if getattr(AsyncToSync.executors, "current", None):
            self._innermost = context
        call = asyncio.get_running_loop().create_task(
            sync_to_async(self._work_off)(), name="jobs of a test", context=(self._innermost or context).copy()
        )
        self._calls.add(call)
        call.add_done_callback(self._over)
        return await asyncio.wrap_future(future)

    def _work_off(self) -> None:
        while self._jobs:
            perform(*self._jobs.popleft())

    def _over(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        error = None if call.cancelled() else call.exception()
        while error and self._jobs:
            self._jobs.popleft()[0].set_exception(error)


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, JobQueue] = WeakKeyDictionary()


# The default connection of each thread. Under a running event loop Django shows none but the loop's own.
_connected: dict[int, ref[BaseDatabaseWrapper]] = {}


@receiver(connection_created)
def _remember(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    if connection.alias == DEFAULT_DB_ALIAS and conf.is_under_test():
        _connected[threading.get_ident()] = ref(connection)


async def run(job: Callable[[], R], context: contextvars.Context) -> R:
    """Do a job in the test's thread; raise ``UnreachableTransaction`` where that is the event loop's own."""
    here = _connected.get(threading.get_ident())
    if (wrapper := here and here()) and wrapper.in_atomic_block:
        raise UnreachableTransaction()
    return await _queues.setdefault(asyncio.get_running_loop(), JobQueue()).run(
        partial(context.run, _as_committed, job)
    )


def _as_committed(job: Callable[[], R]) -> R:
    """Do a job, and what it wants done once it is committed: the transaction of a test never is."""
    before = len(connection.run_on_commit)
    try:
        result = job()
        if connection.in_atomic_block:
            callbacks = connection.run_on_commit[before:]
            del connection.run_on_commit[before:]
            for registered in callbacks:
                registered[1]()
        return result
    finally:
        _leave_no_connection()


def _leave_no_connection() -> None:
    """What another thread than the test's own is connected to cannot be dropped when the tests end."""
    if threading.current_thread() is not threading.main_thread():
        for wrapper in connections.all(initialized_only=True):
            if not wrapper.in_atomic_block:
                wrapper.close()

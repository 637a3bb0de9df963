"""A fixed number of threads that take jobs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("conversations.database")


class Threads(Executor):
    """Threads that are made as they are needed, up to ``size``; each calls ``begin`` first.

    Unlike those of ``ThreadPoolExecutor`` they hold up neither the end of the interpreter nor, beyond a time, whoever
    closes them: one may wait for an answer that never comes.
    """

    def __init__(self, name: str, size: int, *, begin: Callable[[], object]) -> None:
        self._name = name
        self._size = size
        self._begin = begin
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, job: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run the job in a thread, as soon as one is free."""
        future: Future[R] = Future()
        self.call(partial(perform, future, partial(job, *args, **kwargs)))
        return future

    def call(self, job: Callable[[], object]) -> None:
        """Run what raises nothing in a thread, as soon as one is free; nobody is told what it returns."""
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads were closed")
            self._queue.put(job)
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._size:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; what was given is done, unless its future is cancelled."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _thread in self._threads:
                    self._queue.put(None)
        if wait:
            self.join(threading.TIMEOUT_MAX)

    def join(self, seconds: float) -> bool:
        """Wait so long for the threads to end; return whether all have."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            self._begin()
        except Exception:  # what waits for this thread would wait for ever
            logger.exception("a thread goes on without its preparation")
        while (job := self._queue.get()) is not None:
            job()
            # A reference that stays would keep the job's result until the next one comes.
            del job
            self._idle.release()


def perform(future: Future[Any], job: Callable[[], Any]) -> None:
    """Do a job whose result a future takes, unless that was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)

"""`python -m chatproject --workers N`: N processes that serve on the same sockets, and one that looks after them.

Each worker is a process of its own that loads code and settings anew. Between it and this one is a pair of sockets:
the worker says on it that it serves, and ends in order where it closes, which is when this process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine, Mapping, Sequence

from conversations.web.lifespan import HANG_UP

from . import early_signals

logger = logging.getLogger(__name__)

READY = b"1"
# How long after one that ended its successor is started: it may end at once, again and again.
RESTART_SECONDS = 1.0
CHECK = "from chatproject.__main__ import check; check()"


def work(listeners: Sequence[socket.socket], count: int, environment: Mapping[str, str]) -> int:
    """Keep ``count`` workers until a signal ends them all; return the exit code.

    SIGTERM and Ctrl-C are handed on to each of them, SIGHUP replaces them one after the other. ``environment`` is what
    workers begin with: settings that were read from a file since are read again.
    """
    return asyncio.run(Workers(listeners, count, environment).run())


class Worker:
    """One process that serves."""

    def __init__(self, process: Process, connection: socket.socket) -> None:
        self.process = process
        self._connection = connection
        # Whether another has to be started when it ends, and whether it served at all.
        self.is_wanted = self.was_ready = False
        # Whether it was told to end because its successor serves.
        self.is_retired = False

    async def is_ready(self) -> bool:
        """Wait until it serves; tell whether it does, or has ended before."""
        try:
            return await asyncio.get_running_loop().sock_recv(self._connection, 1) == READY
        except ConnectionError:
            return False

    async def ended(self) -> int:
        """Wait until it has ended; return its exit code, below zero that of a signal."""
        try:
            return await self.process.wait()
        finally:
            self._connection.close()

    def send(self, number: int) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)


class Workers:
    """Starts them, starts another for each that dies, replaces them, and ends them."""

    def __init__(self, listeners: Sequence[socket.socket], count: int, environment: Mapping[str, str]) -> None:
        self._listeners = listeners
        self._count = count
        self._environment = environment
        self._running: list[Worker] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._reloading: asyncio.Task[None] | None = None
        self._wants_reload = self._is_ending = False
        self._none_is_left = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Serve until all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        for number in HANG_UP:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                loop.add_signal_handler(number, self._reload)
        try:
            if early_signals.has_come():
                return 0
            await asyncio.gather(*(self._add() for _worker in range(self._count)))
            await self._none_is_left.wait()
        finally:
            self._end(signal.SIGTERM)
            await asyncio.gather(*(worker.process.wait() for worker in self._running))
        return self._exit_code

    async def _add(self, *, is_wanted: bool = True) -> Worker | None:
        """Start a worker and look after it; return it once it serves, None where it ended before."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        descriptors = [theirs.fileno(), *(listener.fileno() for listener in self._listeners)]
        # In a session of its own: Ctrl-C reaches this process alone, which hands it on.
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chatproject", "--serve-on", ",".join(map(str, descriptors))),
                pass_fds=descriptors,
                env=self._environment,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = Worker(process, ours)
        worker.is_wanted = is_wanted
        self._running.append(worker)
        if self._is_ending:
            worker.send(signal.SIGTERM)
        worker.was_ready = await worker.is_ready()
        if worker.was_ready:
            logger.info("worker %d serves", process.pid)
        self._keep(self._watch(worker))
        return worker if worker.was_ready else None

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, worker: Worker) -> None:
        """See a worker end, and start another where it should not have."""
        code = await worker.ended()
        self._running.remove(worker)
        if not (worker.was_ready or self._is_ending) and not any(other.was_ready for other in self._running):
            self._exit_code = code if code >= 0 else 128 - code  # none could start
            self._end(signal.SIGTERM)
        if worker.is_wanted and not self._is_ending:
            logger.error("worker %d ended with %d; another is started", worker.process.pid, code)
            await self._restart()
        if self._is_ending and not self._running:
            self._none_is_left.set()

    async def _restart(self) -> None:
        """Start another in a while, and again where the system has no room for one."""
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            if self._is_ending:
                return
            try:
                await self._add()
            except OSError:
                logger.exception("no worker can be started; it is tried again")
            else:
                return

    def _end(self, number: int) -> None:
        was_ending, self._is_ending = self._is_ending, True
        for listener in self._listeners:
            listener.close()  # theirs stay open for as long as they listen
        for worker in self._running:
            # One that was interrupted before would take another Ctrl-C for impatience, one that begins for its end.
            first_of_two = worker.is_retired and not was_ending
            worker.send(signal.SIGTERM if first_of_two or not worker.was_ready else number)
        if not self._running:
            self._none_is_left.set()

    def _reload(self) -> None:
        self._wants_reload = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._replace_all(), name="reload")

    async def _replace_all(self) -> None:
        """Replace the workers, once more where that was asked for meanwhile."""
        while self._wants_reload and not self._is_ending:
            self._wants_reload = False
            try:
                await self._replace()
            except OSError:
                logger.exception("the workers that are left stay as they are")

    async def _replace(self) -> None:
        """Replace the workers one after the other: none ends before its successor serves."""
        check = await asyncio.create_subprocess_exec(sys.executable, "-c", CHECK, env=self._environment)
        if await check.wait():
            logger.error("the workers stay as they are: with the settings as they are now none could start")
            return
        for worker in list(self._running):
            if self._is_ending:
                return
            if worker not in self._running:  # it died meanwhile: its successor is a new one already
                continue
            worker.is_wanted = False  # from here on it is this that starts another
            try:
                successor = await self._add(is_wanted=False)
            except OSError:
                successor = None
            if successor is None:
                if worker in self._running:
                    worker.is_wanted = True
                else:
                    self._keep(self._restart())
                logger.error("the workers that are left stay as they are: a new one did not start")
                return
            successor.is_wanted = True
            # As after Ctrl-C it listens no longer at once, since others do; its answers get their time.
            worker.is_retired = True
            worker.send(signal.SIGINT)
            await worker.process.wait()
        logger.info("all workers were replaced")

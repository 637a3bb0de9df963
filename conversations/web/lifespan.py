"""The ASGI lifespan, and what a signal does while streams are open."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from .asgi import Message, Receive, Send

Work = Callable[[], Awaitable[None]]

logger = logging.getLogger("conversations.lifespan")

# Windows has none. No server ends in order by itself then, so theirs is what they do at SIGTERM.
HANG_UP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []


def nothing() -> None:
    """Do nothing."""


async def listening_on() -> None:
    """Leave the listener to the server."""


class Lifespan:
    """Runs ``startup`` before the first request, and ``shutdown`` (again and again without harm) at the end.

    Servers send the lifespan's end only after every connection has closed, and an open stream closes only when
    its answer ends. So the first SIGTERM, SIGHUP or SIGINT begins the end itself: ``announce`` is called; the server
    goes on as ever for ``listen_seconds``, in which balancers look away (not after Ctrl-C, where a person waits);
    ``stop_listening`` is called; ``shutdown`` is run; only then the server's own handler gets the signal.
    Ctrl-C after that first signal calls ``hurry``, and nothing more is waited for: it all ends in the same order. The
    server's own handler, which cuts readers, gets only what is sent after that.
    """

    def __init__(
        self,
        *,
        startup: Work,
        shutdown: Work,
        announce: Callable[[], None] = nothing,
        hurry: Callable[[], None] = nothing,
        listen_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._startup = startup
        self._shutdown = shutdown
        self._announce = announce
        self._hurry = hurry
        self._hurried = asyncio.Event()
        self._listen_seconds = listen_seconds
        # For who runs the server, and so can. Elsewhere it listens on, until it gets the signal.
        self.stop_listening: Work = listening_on
        self.has_begun_to_end = False
        self._server_handlers: dict[int, Any] = {}
        self._drain: asyncio.Task[None] | None = None
        self._signalled = False
        self._started = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Speak the lifespan protocol with the server."""
        await receive()
        self._started = True
        try:
            await self._startup()
        except Exception as error:
            logger.exception("start-up failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self.chain_signals()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._shut_down()
        await send({"type": "lifespan.shutdown.complete"})

    async def ensure_started(self) -> None:
        """Do what the lifespan's begin does, once: for connections of servers without lifespan events."""
        self.chain_signals()
        if not self._started:
            self._started = True
            await self._startup()

    def chain_signals(self) -> None:
        """Put our handler before the server's, once."""
        if self._server_handlers or threading.current_thread() is not threading.main_thread():
            return  # only in the main thread signals can be handled; elsewhere the lifespan's end must do
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, *HANG_UP):
            if number not in HANG_UP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._server_handlers[number] = signal.signal(number, partial(self._on_signal, loop))

    def _on_signal(self, loop: asyncio.AbstractEventLoop, number: int, _frame: FrameType | None) -> None:
        if not self._signalled:
            self._signalled = True
            loop.call_soon_threadsafe(self._begin_drain, number)
        elif number == signal.SIGINT:
            loop.call_soon_threadsafe(self._hurry_up)  # a person who does not want to wait

    def _begin_drain(self, number: int) -> None:
        self._drain = asyncio.get_running_loop().create_task(self._end(number), name="drain")
        own = signal.SIGTERM if number in HANG_UP else number
        self._drain.add_done_callback(lambda _task: self._pass_on(own))

    def _hurry_up(self) -> None:
        if self._hurried.is_set() or (self._drain and self._drain.done()):
            self._pass_on(signal.SIGINT)
        else:
            self._hurried.set()
            self._hurry()

    async def _end(self, number: int) -> None:
        self.has_begun_to_end = True
        self._announce()
        if number != signal.SIGINT:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._listen_seconds()):
                    await self._hurried.wait()
        try:
            await self.stop_listening()
        except Exception:
            logger.exception("the server goes on listening")
        await self._shut_down()

    async def _shut_down(self) -> None:
        try:
            await self._shutdown()
        except Exception:
            logger.exception("shutdown failed")

    def _pass_on(self, number: int) -> None:
        handler = self._server_handlers[number]
        if callable(handler):
            handler(number, None)
        else:
            signal.signal(number, handler or signal.SIG_DFL)
            signal.raise_signal(number)


def of_the_engine() -> Lifespan:
    """Return the lifespan in which the engine of the server's event loop begins and ends."""
    from .. import conf  # here, since servers load this module before there are settings
    from ..engine import engines

    return Lifespan(
        startup=engines.startup,
        shutdown=engines.shutdown,
        announce=engines.announce_shutdown,
        hurry=engines.cut_grace,
        listen_seconds=lambda: conf.get().DRAIN_LISTEN_SECONDS,
    )

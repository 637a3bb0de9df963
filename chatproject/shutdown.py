"""The ASGI lifespan, and what a signal does while streams are open."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from types import FrameType
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Work = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Lifespan:
    """Runs ``startup`` before the first request, and ``shutdown`` (again and again without harm) at the end.

    Servers send the lifespan's end only after every connection has closed, and an open stream closes only when
    its answer ends. So the first SIGTERM or SIGINT runs ``shutdown`` at once, with the server still listening,
    which lets readiness checks see it; only then the server's own handler gets the signal.
    """

    def __init__(self, *, startup: Work, shutdown: Work) -> None:
        self._startup = startup
        self._shutdown = shutdown
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
        for number in (signal.SIGTERM, signal.SIGINT):
            self._server_handlers[number] = signal.signal(number, partial(self._on_signal, loop))

    def _on_signal(self, loop: asyncio.AbstractEventLoop, number: int, _frame: FrameType | None) -> None:
        if not self._signalled:
            self._signalled = True
            loop.call_soon_threadsafe(self._begin_drain, number)
        elif number == signal.SIGINT:
            self._pass_on(number)  # a second Ctrl-C is a person who does not want to wait

    def _begin_drain(self, number: int) -> None:
        self._drain = asyncio.get_running_loop().create_task(self._shut_down(), name="drain")
        self._drain.add_done_callback(lambda _task: self._pass_on(number))

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

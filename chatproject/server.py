"""The server's own options, alike for `python -m chatproject` and for gunicorn's workers."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from django.conf import settings

from conversations.database import db

from . import early_signals
from .protocol import Protocol
from .sockets import SocketProtocol
from .workers import READY

logger = logging.getLogger(__name__)

# What a reader that takes nothing may add to a shutdown, once every answer has ended.
CLOSE_SECONDS = 5
# How long what came in right before the listener closed may take until its answer begins.
LAST_REQUESTS_SECONDS = 2
# What all that is left may add to that: a thread may wait for a database, or anything else, that says nothing.
LAST_SECONDS = 20


def options() -> dict[str, Any]:
    """Return what ``uvicorn.Config`` is given beside the application."""
    return {
        "http": Protocol,
        "ws": SocketProtocol,
        "lifespan": "on",
        # The consumer refuses frames over the limit with a close code of its own; this is the wall behind it.
        "ws_max_size": 2 * settings.MAX_BODY_BYTES,
        "ws_per_message_deflate": False,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # Who the peer is decides who may do what: a header must not change it.
        "proxy_headers": False,
        "timeout_keep_alive": math.ceil(settings.KEEP_ALIVE_SECONDS),
        "timeout_graceful_shutdown": CLOSE_SECONDS,
    }


def serve(listeners: list[socket.socket], manager: socket.socket | None = None) -> None:
    """Run the server in this process until a signal ends it.

    ``manager`` leads to the process that looks after this one (``workers.py``).
    """
    from .asgi import application

    with suppress(KeyboardInterrupt):
        run(uvicorn.Config(application, **options()), listeners, manager)


def run(
    config: uvicorn.Config, listeners: list[socket.socket], manager: socket.socket | None = None
) -> uvicorn.Server:
    """Serve until a signal ends it, and let go of the database; return the server, which may not have started."""
    from .asgi import application

    server = Server(config)
    server.manager = manager
    application.lifespan.stop_listening = partial(stop_listening, server, listeners)
    spare_the_collector()
    try:
        server.run(sockets=listeners)
    finally:
        db.close(CLOSE_SECONDS)
    return server


async def stop_listening(server: uvicorn.Server, listeners: list[socket.socket]) -> None:
    """Take no connection any more, and close those on which nothing is asked; what runs on the others goes on.

    Returns once what had got in before is being answered, so that none of it is refused for the end.
    """
    for listener in server.servers:
        listener.close()
    for listening in listeners:
        listening.close()
    connections = [each for each in server.server_state.connections if isinstance(each, Protocol)]
    for connection in connections:
        connection.retire()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_REQUESTS_SECONDS):
            while any(each.is_waiting for each in connections):  # noqa: ASYNC110  (uvicorn tells nobody)
                await asyncio.sleep(0.02)


class Server(uvicorn.Server):
    """Ends in time, whatever waits."""

    manager: socket.socket | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell who looks after this process, if somebody does; end in order when they are gone."""
        await super().startup(sockets)
        if early_signals.has_come():
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        if self.manager is not None and self.started:
            self.manager.setblocking(False)
            with suppress(OSError):  # who is gone already: that is noticed right below
                self.manager.send(READY)
            asyncio.get_running_loop().add_reader(self.manager, self._manager_is_gone, self.manager)

    def _manager_is_gone(self, manager: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(manager)
        manager.close()
        signal.raise_signal(signal.SIGTERM)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is open; the answers have ended before."""
        last = threading.Timer(LAST_SECONDS, _leave)
        last.daemon = True
        last.start()
        await super().shutdown(sockets)


def _leave() -> None:
    logger.error("a thread does not end; leaving without it")
    logging.shutdown()
    os._exit(0)


def spare_the_collector() -> None:
    """Keep what was loaded so far out of the collection of cycles, and collect less often.

    A full collection looks at all of it, which stops every stream for a tenth of a second: with 400 streams at 20
    chunks a second the p99 delay of a chunk was 307 ms, and is 112 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)

"""The pool of connections to models: aiohttp's, with what it does not look at itself."""

from __future__ import annotations

import select
from typing import Any

import aiohttp
from aiohttp.connector import Connection


class Connector(aiohttp.TCPConnector):
    """Never reuses a connection on which bytes came while it was idle: they would be read as the next answer."""

    async def _get(self, *args: Any, **kwargs: Any) -> Connection | None:
        while (connection := await super()._get(*args, **kwargs)) is not None:
            if not _has_unread_bytes(connection):
                return connection
            connection.close()
        return None


def _has_unread_bytes(connection: Connection) -> bool:
    """Whether bytes, or the connection's end, wait in the parser or in the socket."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))

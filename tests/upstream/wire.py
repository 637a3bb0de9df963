"""HTTP/1.1 on asyncio streams, as little of it as the upstream needs."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .behaviours import Raw, Status


@dataclass
class Request:
    """One HTTP request as it arrived; header names are in lower case, ``body`` is the parsed JSON or None."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    body: Any = None
    closed_by_client: bool = False  # before the answer was complete
    answered: bool = False

    def as_json(self) -> dict[str, Any]:
        names = ("method", "path", "headers", "body", "closed_by_client", "answered")
        return {name: getattr(self, name) for name in names}


class Cut(Exception):
    """The script says that the connection ends here."""


async def read_request(reader: asyncio.StreamReader, begin: bytes = b"") -> Request | None:
    """The next request of a connection, of which ``begin`` was read before; None at the connection's end."""
    try:
        head = begin + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _version = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    try:
        body = json.loads(content) if content else None
    except ValueError:
        body = None
    return Request(method=method, path=path, headers=headers, content=content, body=body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def send_raw(behaviour: Raw, writer: asyncio.StreamWriter) -> None:
    for piece in behaviour.pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(behaviour.delay)
    if not behaviour.close:
        await asyncio.Event().wait()
    raise Cut


async def send_status(behaviour: Status, writer: asyncio.StreamWriter) -> None:
    body = behaviour.body if isinstance(behaviour.body, str) else json.dumps(behaviour.body)
    content = body.encode("utf-8", "surrogatepass")
    headers = {"Content-Type": behaviour.content_type, "Content-Length": str(len(content)), **behaviour.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {behaviour.status} Scripted\r\n{head}\r\n".encode() + content)
    await writer.drain()

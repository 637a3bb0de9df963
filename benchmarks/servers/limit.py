"""The least that a relay of this kind costs in Python: bare ASGI, aiohttp, orjson; no framework and no database.

It reads each of the model's events and writes its own, all that came together in one piece. It knows nobody and
keeps nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import orjson

UPSTREAM = os.environ["UPSTREAM"]
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache, no-transform")]
EVENT_END = re.compile(rb"\r?\n\r?\n")

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

client: aiohttp.ClientSession


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["path"] == "/chat":
        await relay(await read_body(receive), send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


async def live(receive: Receive, send: Send) -> None:
    global client
    await receive()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def relay(body: bytes, send: Send) -> None:
    message = orjson.loads(body)["message"]
    asked = {"model": "bench", "messages": [{"role": "user", "content": message}], "stream": True}
    async with client.post(
        UPSTREAM, data=orjson.dumps(asked), headers={"Content-Type": "application/json"}
    ) as response:
        response.raise_for_status()
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        rest = b""
        async for data in response.content.iter_any():
            *events, rest = EVENT_END.split(rest + data)
            if out := b"".join(map(encode, events)):
                await send({"type": "http.response.body", "body": out, "more_body": True})
    await send({"type": "http.response.body", "body": b'data: {"done": true}\n\n'})


def encode(event: bytes) -> bytes:
    if not event.startswith(b"data: ") or event == b"data: [DONE]":
        return b""
    choices = orjson.loads(event[6:])["choices"]
    text = choices[0]["delta"].get("content") if choices else None
    return b"data: " + orjson.dumps({"chunk": text}) + b"\n\n" if text else b""

"""A server on port ARGV[1] whose one stream ends with the lifespan's shutdown, which waits for one more request."""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from conversations.web.lifespan import Lifespan, Message, Receive, Send

draining = asyncio.Event()
may_end = asyncio.Event()


async def startup() -> None:
    print("startup", flush=True)


async def shutdown() -> None:
    print("shutdown", flush=True)
    draining.set()
    await may_end.wait()


lifespan = Lifespan(startup=startup, shutdown=shutdown)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"begun;", "more_body": True})
        await draining.wait()
        await send({"type": "http.response.body", "body": b"draining;", "more_body": True})
        await may_end.wait()
        await send({"type": "http.response.body", "body": b"ended;"})
    else:
        await send({"type": "http.response.body", "body": b"draining" if draining.is_set() else b"serving"})
    if scope["path"] == "/release":  # the drain may end
        may_end.set()


if __name__ == "__main__":
    uvicorn.run(application, port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=5)

"""The same server in a thread with a loop of its own, for synchronous tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .behaviours import Behaviour
from .server import ScriptedUpstream


@contextmanager
def run_upstream_in_thread(*, default: Behaviour | None = None) -> Iterator[ScriptedUpstream]:
    """Run an upstream until the block ends. Set its script before the call it is for; wait with ``wait_until``."""
    upstream = ScriptedUpstream(default=default)
    loop = asyncio.new_event_loop()
    started, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with upstream:
            started.set()
            await stopping.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="upstream", daemon=True)
    thread.start()
    try:
        if not started.wait(10):
            raise RuntimeError("the upstream did not start")
        yield upstream
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)

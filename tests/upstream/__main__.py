"""``python -m tests.upstream [--port N] [--script NAME]``: prints its URL, then serves until it is ended."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from .behaviours import SCRIPTS
from .server import ScriptedUpstream


async def serve(port: int, script: str) -> None:
    async with ScriptedUpstream(port=port, default=SCRIPTS[script]) as upstream:
        print(upstream.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A scripted upstream.")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="echo")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.script))


if __name__ == "__main__":
    main()

"""``make bench``: measure this project against others, and print one table. docs/performance.md tells how to read it.

All servers run at the same time on one core, and one is asked at a time; the load and the scripted model share the
other core. All is on loopback; what is started ends with this program.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from . import reading, rounds, sides
from .plan import PLANS, Plan
from .processes import WORK, Nobody, Server
from .reading import Reads
from .rounds import Turn
from .sides import Side
from .table import render
from .upstream import listen

LIMIT_SECONDS = 3600.0
POSTGRES = os.environ.get("POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"
SIDES = ["limit", "reference", "litellm", "sqlite", "relay", "socket", "postgres", "workers", "rows"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("extent", choices=PLANS, nargs="?", default="full")
    parser.add_argument(
        "--sides", type=lambda text: text.split(","), default=SIDES, help=f"which of them (default: {','.join(SIDES)})"
    )
    parser.add_argument("--before", type=Path, help="another checkout of this project, with a .venv, to measure, too")
    parser.add_argument("--postgres", default=POSTGRES, help="a server to make a database in (%(default)s)")
    parser.add_argument("--messages", type=int, help="how many the large database has")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := set(arguments.sides) - set(SIDES):
        parser.error(f"no such side: {', '.join(sorted(unknown))}")
    if arguments.before and not (arguments.before / ".venv" / "bin" / "python").exists():
        parser.error(f"{arguments.before} has no .venv/bin/python: `make .venv/.base` there makes one")
    cores = {arguments.server_core, arguments.load_core}
    if len(cores) < 2 or not cores <= os.sched_getaffinity(0):
        sys.exit("Two cores are needed: one for the servers, another for the load (--server-core, --load-core).")
    os.sched_setaffinity(0, {arguments.load_core})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    WORK.mkdir(parents=True, exist_ok=True)
    plan = PLANS[arguments.extent]
    if arguments.messages:
        plan = replace(plan, messages=arguments.messages)
    uvloop.run(asyncio.wait_for(bench(arguments, plan), LIMIT_SECONDS))


async def bench(arguments: argparse.Namespace, plan: Plan) -> None:
    # As Ctrl-C does: the servers that run are ended first.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began, before = time.monotonic(), os.getloadavg()[0]
    model, upstream = await listen()
    turns: list[Turn] = []
    rows: list[Reads] = []
    try:
        async with AsyncExitStack() as stack:
            await start(arguments, plan, upstream, stack, turns)
            await rounds.in_turn(turns, plan)
            await rounds.search(turns, plan)
        if "rows" in arguments.sides:
            rows = await growth(upstream, arguments.server_core, plan)
    finally:
        model.close()
        # What was measured is shown, also where the rest was not.
        text = render(turns, rows, plan)
        (WORK / "table.md").write_text(f"{text}\n")
        print(f"\n{text}\n")
        minutes = (time.monotonic() - began) / 60
        print(f"In {minutes:.1f} minutes; the machine's load before: {before:.1f}, after: {os.getloadavg()[0]:.1f}")


async def start(
    arguments: argparse.Namespace, plan: Plan, upstream: str, stack: AsyncExitStack, turns: list[Turn]
) -> None:
    """Start every server that was asked for, one after the other; what each has in memory is measured meanwhile."""
    turns.append(Turn(sides.direct(), Nobody(urlsplit(upstream).port or 0)))
    servers: dict[str, Server] = {}
    for side in chosen(arguments, upstream, stack):
        if side.at:
            turns.append(Turn(side, servers[side.at]))
            continue
        turn = Turn(side, side.server(arguments.server_core))
        if side.is_whole:
            await rounds.sockets_and_resume(turn, arguments.server_core, plan)
        servers[side.name] = await stack.enter_async_context(turn.server)
        turns.append(turn)
        if side.name != "workers":  # whose processes are warm at different times
            await rounds.memory(turn, plan)


def chosen(arguments: argparse.Namespace, upstream: str, stack: AsyncExitStack) -> list[Side]:
    """Set up what was asked for. A server that answers for another side is there before that."""
    wanted = arguments.sides
    found = [make(upstream) for make in (sides.limit, sides.reference, sides.litellm) if make.__name__ in wanted]
    if arguments.before:
        found.append(sides.before(upstream, arguments.before.resolve()))
    if {"sqlite", "relay", "socket"} & set(wanted):
        stored = sides.on_sqlite(upstream)
        found += [stored, *(make(stored) for make in (sides.relay, sides.socket) if make.__name__ in wanted)]
    if not {"postgres", "workers"} & set(wanted):
        return found
    if not sides.postgres_answers(arguments.postgres):
        print("  PostgreSQL does not answer: left out. POSTGRES_URL says where a database may be made.")
        return found
    stored = stack.enter_context(sides.on_postgres(upstream, arguments.postgres))
    return [*found, stored, *([sides.workers(stored)] if "workers" in wanted else [])]


async def growth(upstream: str, core: int, plan: Plan) -> list[Reads]:
    """Read among a thousand messages, and among as many as the plan says; the data is made once and kept."""
    found = []
    for messages in (1000, plan.messages):
        print(f"  {messages} messages", flush=True)
        side = await asyncio.to_thread(sides.seeded, upstream, messages // 10, messages)
        async with side.server(core) as server:
            found.append(await reading.reads(side, server, number=plan.reads))
    return found


if __name__ == "__main__":
    main()

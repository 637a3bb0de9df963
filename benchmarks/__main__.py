"""``make bench``: measure this project against others, and print one table. docs/performance.md tells how to read it.

Each server has one core, the load and the scripted model share the other. All is on loopback; what is started ends
with this program.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from urllib.parse import urlsplit

import uvloop

from . import load, reading, sides
from .plan import PLANS, Plan
from .processes import WORK, Nobody, Server
from .reading import Reads
from .sides import Side
from .table import Figures, render
from .upstream import listen

LIMIT_SECONDS = 3600.0
POSTGRES = os.environ.get("POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"
SIDES = ("direct", "limit", "reference", "litellm", "sqlite", "relay", "postgres", "rows")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("extent", choices=PLANS, nargs="?", default="full")
    parser.add_argument("--sides", default=",".join(SIDES), help="which, by comma (default: %(default)s)")
    parser.add_argument("--postgres", default=POSTGRES, help="a server to make a database in (%(default)s)")
    parser.add_argument("--messages", type=int, help="how many the large database has")
    parser.add_argument("--server-core", type=int, default=1)
    parser.add_argument("--load-core", type=int, default=0)
    arguments = parser.parse_args()
    cores = {arguments.server_core, arguments.load_core}
    if len(cores) < 2 or not cores <= os.sched_getaffinity(0):
        sys.exit("Two cores are needed: one for each server, another for the load (--server-core, --load-core).")
    os.sched_setaffinity(0, {arguments.load_core})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    WORK.mkdir(parents=True, exist_ok=True)
    plan = PLANS[arguments.extent]
    if arguments.messages:
        plan = replace(plan, messages=arguments.messages)
    uvloop.run(asyncio.wait_for(bench(arguments, plan), LIMIT_SECONDS))


async def bench(arguments: argparse.Namespace, plan: Plan) -> None:
    # As Ctrl-C does: the server that runs is ended first.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began, before = time.monotonic(), os.getloadavg()[0]
    model, upstream = await listen()
    wanted = arguments.sides.split(",")
    figures: dict[str, Figures] = {}
    rows: list[Reads] = []
    try:
        direct = Nobody(urlsplit(upstream).port or 0)
        figures["direct"] = await streams(sides.direct(), direct, plan)
        core = arguments.server_core
        for make in (sides.limit, sides.reference, sides.litellm, sides.on_sqlite, sides.relay):
            if make.__name__.removeprefix("on_") in wanted:
                side = await asyncio.to_thread(make, upstream)
                figures[side.name] = await measure(side, core, plan)
        if "postgres" not in wanted:
            pass
        elif not await asyncio.to_thread(sides.postgres_answers, arguments.postgres):
            print("  PostgreSQL does not answer: left out. POSTGRES_URL says where a database may be made.")
        else:
            with sides.on_postgres(upstream, arguments.postgres) as side:
                figures[side.name] = await measure(side, core, plan)
        if "rows" in wanted:
            rows = await growth(upstream, core, plan)
    finally:
        model.close()
        # What was measured is shown, also where the rest was not.
        if "direct" in figures:
            text = render(figures, rows)
            (WORK / "table.md").write_text(f"{text}\n")
            print(f"\n{text}\n")
        minutes = (time.monotonic() - began) / 60
        print(f"In {minutes:.1f} minutes; the machine's load before: {before:.1f}, after: {os.getloadavg()[0]:.1f}")


async def measure(side: Side, core: int, plan: Plan) -> Figures:
    """Take all figures of one side, memory from a fresh process."""
    sockets = resumed = None
    if side.resumes:
        async with side.server(core) as server:
            sockets = await reading.memory_of_sockets(side, server, plan.sockets)
            resumed = await reading.resume(side, server, number=plan.resumes)
    async with side.server(core) as server:
        memory = await load.memory_of_streams(side, server, min(side.guess, plan.in_memory))
        found = await streams(side, server, plan)
    found.memory, found.sockets, found.resume = memory, sockets, resumed
    return found


async def streams(side: Side, server: Server | Nobody, plan: Plan) -> Figures:
    """Take the figures that every side has."""
    tell(side, "at once")
    once = await load.rate(side, server, interval=0, at_once=plan.at_once, warm=plan.warm, seconds=plan.seconds)
    tell(side, f"{once.streams:.0f} streams/s; paced")
    crowds = plan.crowds if isinstance(server, Server) else plan.crowds[:1]
    paced, best = await load.paced_rates(side, server, numbers=crowds, warm=plan.warm, seconds=plan.seconds)
    tell(side, f"{paced.streams:.0f} streams/s, {best.streams:.0f} of {best.at_once}; first chunks")
    firsts = await load.first_chunks(side, server.port, number=plan.firsts)
    tell(side, f"{load.percentile(firsts, 0.5) / 1000:.1f} ms; held")
    start = min(side.guess, plan.held_most)
    held = await load.most_held(
        side, server, start=start, seconds=plan.held_seconds, steps=plan.held_steps, most=plan.held_most
    )
    return Figures(side.title, once, paced, best, firsts, held)


async def growth(upstream: str, core: int, plan: Plan) -> list[Reads]:
    """Read among a thousand messages, and among as many as the plan says; the data is made once and kept."""
    found = []
    for messages in (1000, plan.messages):
        print(f"  {messages} messages", flush=True)
        side = await asyncio.to_thread(sides.seeded, upstream, messages // 10, messages)
        async with side.server(core) as server:
            found.append(await reading.reads(side, server, number=plan.reads))
    return found


def tell(side: Side, what: str) -> None:
    print(f"  {side.title}: {what}", flush=True)


if __name__ == "__main__":
    main()

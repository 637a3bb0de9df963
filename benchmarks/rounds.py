"""What is measured, of which side, and in which order: in each round every side has its turn with every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from . import load, reading
from .load import Held, Rate
from .plan import Plan
from .processes import Nobody, Server
from .reading import Resume
from .sides import Side

PACE = 10
# Whose most held streams are searched for.
SEARCHED = ("limit", "reference", "litellm", "sqlite", "before", "socket", "postgres")


@dataclass
class Figures:
    """What was measured of one side, a value a round. First chunks are times in µs, of all rounds; memory is bytes."""

    once: list[Rate] = field(default_factory=list)
    one_account: list[Rate] = field(default_factory=list)
    paced: list[Rate] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    many: list[int] = field(default_factory=list)
    long: list[int] = field(default_factory=list)
    most: Held | None = None
    idle: float | None = None
    stream: float | None = None
    socket: float | None = None
    resume: Resume | None = None


@dataclass
class Turn:
    """A side with the server that answers for it, and what was measured so far."""

    side: Side
    server: Server | Nobody
    figures: Figures = field(default_factory=Figures)

    def tell(self, what: str) -> None:
        print(f"  {self.side.title}: {what}", flush=True)


async def in_turn(turns: Sequence[Turn], plan: Plan) -> None:
    """Take all figures that are taken more than once. What changes from minute to minute meets all sides alike."""
    for number in range(plan.rounds):
        for take in (once, one_account, paced, held, firsts, firsts_of_many, firsts_of_long):
            for turn in turns if number % 2 == 0 else turns[::-1]:
                await take(turn, plan)


async def once(turn: Turn, plan: Plan) -> None:
    found = await rate(turn.side, turn, plan, plan.at_once, 0)
    turn.figures.once.append(found)
    turn.tell(f"at once {found.took:.2f} ms a stream, {found.streams:.0f} streams/s")


async def one_account(turn: Turn, plan: Plan) -> None:
    """The same, all streams of one account, whose older conversations go as new ones come."""
    if turn.side.name in ("postgres", "workers"):
        found = await rate(turn.side.alone(turn.side.many), turn, plan, plan.at_once, 0)
        turn.figures.one_account.append(found)
        turn.tell(f"of one account {found.took:.2f} ms a stream")


async def paced(turn: Turn, plan: Plan) -> None:
    found = await rate(turn.side, turn, plan, min(plan.paced, turn.side.guess), PACE)
    turn.figures.paced.append(found)
    turn.tell(f"paced {found.took:.2f} ms a stream, {found.streams:.0f} streams/s")


async def rate(side: Side, turn: Turn, plan: Plan, at_once: int, interval: int) -> Rate:
    return await load.rate(side, turn.server, interval=interval, at_once=at_once, warm=plan.warm, seconds=plan.seconds)


async def held(turn: Turn, plan: Plan) -> None:
    found = await load.held(turn.side, turn.server, min(plan.held, turn.side.guess), seconds=plan.seconds)
    turn.figures.held.append(found)
    turn.tell(f"{found.number} held, {found.took:.0f} µs a chunk, p99 {found.p99:.0f} ms")


async def firsts(turn: Turn, plan: Plan) -> None:
    found = await load.first_chunks(turn.side, turn.server.port, number=plan.firsts)
    turn.figures.firsts += found
    turn.tell(f"first chunk {load.percentile(sorted(found), 0.5) / 1000:.1f} ms")


async def firsts_of_many(turn: Turn, plan: Plan) -> None:
    """First chunks of the account that has as many conversations as pruning leaves."""
    if turn.side.is_whole:
        side = turn.side.alone(turn.side.many)
        turn.figures.many += await load.first_chunks(side, turn.server.port, number=plan.firsts)


async def firsts_of_long(turn: Turn, plan: Plan) -> None:
    """First chunks in the long conversation, which is the prompt."""
    if turn.side.is_whole:
        session = await reading.only_conversation(turn.side.alone(turn.side.long), turn.server.port)
        side = turn.side.alone(turn.side.long, session)
        turn.figures.long += await load.first_chunks(side, turn.server.port, number=plan.firsts_of_long)


async def search(turns: Sequence[Turn], plan: Plan) -> None:
    """Search for the most streams that each side holds."""
    for turn in turns:
        if turn.side.name in SEARCHED:
            turn.tell("held")
            turn.figures.most = await load.most_held(
                turn.side,
                turn.server,
                start=min(turn.side.guess, plan.held_most),
                seconds=plan.seconds,
                steps=plan.steps,
                most=plan.held_most,
            )


async def memory(turn: Turn, plan: Plan) -> None:
    """Measure what a server that was just started takes: alone, and for each open stream."""
    assert isinstance(turn.server, Server)
    turn.figures.idle = turn.server.memory()
    number = min(turn.side.guess, plan.in_memory)
    turn.figures.stream = await load.memory_of_streams(turn.side, turn.server, number)
    turn.tell(f"{turn.figures.idle / 1e6:.0f} MB, {turn.figures.stream / 1024:.0f} kB a stream")


async def sockets_and_resume(turn: Turn, core: int, plan: Plan) -> None:
    """Measure a server of this project that ends with it, so that its memory tells of nothing else."""
    async with turn.side.server(core) as server:
        turn.figures.socket = await reading.memory_of_sockets(turn.side, server, plan.sockets)
        turn.figures.resume = await reading.resume(turn.side, server, number=plan.resumes)

"""The measurements of streams. Each takes a side and the port of its server, and ends within a known time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from .client import Connection, Stream
from .processes import Nobody, Server
from .sides import Side
from .upstream import Upstream, script

CHUNKS = 100
# So many callers ask for first chunks, each over a connection of its own.
IN_TURN = 20
HELD_INTERVAL = 50
MAX_DELAY = 150
ENDLESS = 1_000_000
# What the opening of streams, and their ends, may take at most.
OPENING = 120.0
ENDING = 15.0
# What an answer that is under way gets to end, once a measurement is over.
GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Streams a second by the clock, counted by their chunks; the events that brought a stream; how many failed.

    ``took`` is the processor time of the server's processes for a stream, in ms. ``load`` is the share of its core
    that the load took, ``at_once`` how many were open.
    """

    streams: float
    took: float
    events: float
    failed: int
    load: float
    at_once: int


class Crowd:
    """So many clients, each with a connection of its own, that ask again as soon as they have their answer."""

    def __init__(self, side: Side, port: int, question: str, chunks: int) -> None:
        self._side = side
        self._port = port
        self._question = question
        self._expected = chunks
        self._ends = False
        self._open: set[Stream] = set()
        self._chunks = self._events = 0
        self.failed = 0

    def chunks(self) -> int:
        return self._chunks + sum(stream.chunks for stream in self._open)

    def events(self) -> int:
        return self._events + sum(stream.events for stream in self._open)

    @asynccontextmanager
    async def asking(self, number: int, *, spread: float) -> AsyncIterator[None]:
        """Keep ``number`` streams open meanwhile; they begin within ``spread`` seconds."""
        clients = [asyncio.create_task(self._ask(index, spread * index / number)) for index in range(number)]
        try:
            yield
        finally:
            self._ends = True
            _done, late = await asyncio.wait(clients, timeout=GRACE)
            self.failed += len(late)
            for task in late:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _ask(self, index: int, pause: float) -> None:
        await asyncio.sleep(pause)
        request = self._side.chat(index, self._question)
        connection = self._side.connection(self._port, index)
        try:
            while not self._ends:
                await self._one(connection, request)
        finally:
            connection.close()

    async def _one(self, connection: Connection, request: bytes) -> None:
        stream = self._side.stream()
        self._open.add(stream)
        try:
            await connection.ask(request, stream)
        except OSError:
            await asyncio.sleep(0.1)
        finally:
            self._open.discard(stream)
            self._chunks += stream.chunks
            self._events += stream.events
            whole = stream.status == 200 and stream.chunks == self._expected and stream.ended_at
            self.failed += not whole


async def rate(
    side: Side, server: Server | Nobody, *, interval: int, at_once: int, warm: float, seconds: float
) -> Rate:
    """Measure streams of 100 chunks, ``interval`` ms apart, with ``at_once`` open at any time."""
    gc.collect()
    crowd = Crowd(side, server.port, script(CHUNKS, interval), CHUNKS)
    async with crowd.asking(at_once, spread=CHUNKS * interval / 1000):
        await asyncio.sleep(warm + CHUNKS * interval / 1000)
        began, chunks, events = time.monotonic(), crowd.chunks(), crowd.events()
        load, busy = time.process_time(), server.seconds()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        chunks, events = crowd.chunks() - chunks, crowd.events() - events
        load, busy = time.process_time() - load, server.seconds() - busy
    await quiet()
    return Rate(
        streams=chunks / CHUNKS / took,
        took=_each(1000 * busy, chunks / CHUNKS),
        events=_each(CHUNKS * events, chunks),
        failed=crowd.failed,
        load=load / took,
        at_once=at_once,
    )


def _each(amount: float, number: float) -> float:
    """What each of ``number`` costs: without end where there is none."""
    return amount / number if number else float("inf")


async def first_chunks(side: Side, port: int, *, number: int) -> list[int]:
    """Return the times to the first chunk (microseconds), one stream at a time, of some callers in turn."""
    connections = [side.connection(port, caller) for caller in range(min(number, IN_TURN))]
    times = []
    try:
        for connection in connections:
            await connection.open()
        for index in range(number):
            caller, stream = index % len(connections), side.stream()
            async with asyncio.timeout(GRACE):
                await connections[caller].ask(side.chat(caller, script(3, 3)), stream)
            if stream.status != 200 or not stream.first_at:
                raise RuntimeError(f"{side.title} answered with {stream.status}: {stream.head!r}")
            times.append(stream.first_at - stream.sent_at)
    finally:
        for connection in connections:
            connection.close()
    return times


@dataclass(frozen=True, slots=True)
class Held:
    """``number`` streams at 20 chunks/s each: the delays that half of the chunks, and 99 of 100, stayed below, in ms;
    and whether that, and that all came, is good enough.

    ``took`` is the processor time of the server's processes for a chunk, in µs. ``load`` is the share of its core that
    the load took.
    """

    number: int
    p50: float
    p99: float
    good: bool
    took: float
    load: float


@asynccontextmanager
async def open_streams(
    side: Side, server: Server | Nobody, number: int, interval: int, delays: list[int] | None = None
) -> AsyncIterator[list[Stream]]:
    """Open streams one after the other, each when the one before has begun; they end with the block.

    Fewer are open where that took too long.
    """
    gc.collect()
    connections: list[Connection] = []
    streams: list[Stream] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(OPENING):
                for index in range(number):
                    streams.append(side.stream(delays))
                    connections.append(side.connection(server.port, index))
                    asked = side.chat(index, script(ENDLESS, interval))
                    tasks.append(asyncio.create_task(connections[-1].ask(asked, streams[-1])))
                    await _begun(streams[-1], tasks[-1])
        yield streams
    finally:
        Upstream.ends = True
        await asyncio.wait(tasks, timeout=ENDING)
        for task, connection in zip(tasks, connections, strict=True):
            task.cancel()
            connection.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await quiet()
        Upstream.ends = False


async def _begun(stream: Stream, asking: asyncio.Task[None]) -> None:
    """Wait until the stream has begun, or has ended without that."""
    beginning = asyncio.create_task(stream.begun.wait())
    try:
        await asyncio.wait([beginning, asking], return_when=asyncio.FIRST_COMPLETED)
    finally:
        beginning.cancel()


async def held(side: Side, server: Server | Nobody, number: int, *, seconds: float) -> Held:
    """Hold ``number`` streams and look at every chunk for ``seconds``."""
    delays: list[int] = []
    written = Upstream.written
    async with open_streams(side, server, number, HELD_INTERVAL, delays) as streams:
        await asyncio.sleep(1.0)
        delays.clear()
        load, busy = time.process_time(), server.seconds()
        await asyncio.sleep(seconds)
        load, busy = (time.process_time() - load) / seconds, server.seconds() - busy
        seen = sorted(delays)
        delays.clear()
    whole = len(streams) == number and all(stream.ended_at for stream in streams)
    whole = whole and sum(stream.chunks for stream in streams) == Upstream.written - written
    came = len(seen) >= 0.9 * number * seconds * 1000 / HELD_INTERVAL
    p50, p99 = (percentile(seen, share) / 1000 for share in (0.5, 0.99))
    good = whole and came and p99 <= MAX_DELAY
    return Held(number, p50, p99, good=good, took=_each(1_000_000 * busy, len(seen)), load=load)


async def most_held(side: Side, server: Server | Nobody, *, start: int, seconds: float, steps: int, most: int) -> Held:
    """Search for the most streams that are good: double or halve from ``start``, then close in."""
    good = Held(0, 0.0, 0.0, good=True, took=0.0, load=0.0)
    bad: int | None = None
    number = start
    for _step in range(steps):
        found = await held(side, server, number, seconds=seconds)
        print(f"    {number} held: p99 {found.p99:.0f} ms{'' if found.good else ', too late'}", flush=True)
        if found.good:
            good = found
        else:
            bad = number
        if good.number >= most:
            break
        if bad is None:
            number = min(2 * good.number, most)
        else:
            number = (good.number + bad) // 2 // 10 * 10
            if number <= good.number * 1.1:
                break
    return good


async def memory_of_streams(side: Side, server: Server, number: int) -> float:
    """Return the bytes that each of ``number`` open streams adds to the server."""
    await first_chunks(side, server.port, number=50)
    before = server.memory()
    async with open_streams(side, server, number, 1000) as streams:
        await asyncio.sleep(2.0)
        return (server.memory() - before) / len(streams)


async def quiet() -> None:
    """Wait until the model has nothing left to send, and what follows an answer is done."""
    deadline = time.monotonic() + GRACE
    while Upstream.running and time.monotonic() < deadline:  # noqa: ASYNC110  (it is only counted)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)


def percentile(ordered: list[int], share: float) -> float:
    """Return the value that ``share`` of the sorted values do not exceed."""
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else float("inf")

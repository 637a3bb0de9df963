"""What ``make bench`` reads off the wire, and what its table says of it; no server is measured here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from benchmarks.client import Connection
from benchmarks.load import Held, Rate
from benchmarks.plan import FULL
from benchmarks.processes import Nobody
from benchmarks.reading import Reads
from benchmarks.rounds import Figures, Turn
from benchmarks.sides import Side, SocketSide
from benchmarks.sockets import PING, PONG, TEXT, frame
from benchmarks.table import render

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def unmasked(payload: bytes, kind: int = TEXT) -> bytes:
    """Return a frame as servers send it."""
    length = len(payload)
    return bytes([128 | kind]) + (bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)) + payload


async def answered(side: Side, serve: Serve) -> tuple[int, int, int]:
    """Ask ``side`` once where ``serve`` answers; return status, chunks and events."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        connection: Connection = side.connection(server.sockets[0].getsockname()[1], 0)
        stream = side.stream()
        try:
            async with asyncio.timeout(10):
                await connection.ask(side.chat(0, "bench:3:0:12"), stream)
        finally:
            connection.close()
    return stream.status, stream.chunks, stream.events


def side(kind: type[Side]) -> Side:
    return kind("sqlite", "ours", [], {})


async def test_events_are_read_wherever_they_are_cut() -> None:
    body = (
        b'data: {"chunk": "@0000000001 @0000000002 "}\n\ndata: {"chunk": "@0000000003 "}\n\ndata: {"done": true}\n\n'
    )
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'12"}')
        for index in range(len(whole)):
            writer.write(whole[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0)

    assert await answered(side(Side), serve) == (200, 3, 2)


async def test_frames_are_read_wherever_they_are_cut_and_a_ping_is_answered() -> None:
    texts = [
        b'{"type": "accepted"}',
        b'{"chunk": "@0000000001 @0000000002 "}',
        b'{"chunk": "@0000000003' + b"x" * 200 + b'"}',
    ]
    whole = unmasked(b"?", PING) + b"".join(map(unmasked, texts)) + unmasked(b'{"done": true}')
    pongs = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADED)
        await reader.readuntil(b'12"}')
        for index in range(len(whole)):
            writer.write(whole[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0)
        pongs.append(await reader.readexactly(len(frame(b"?", PONG))))

    assert await answered(side(SocketSide), serve) == (200, 3, 2)
    assert pongs == [frame(b"?", PONG)]


async def test_a_refused_call_is_no_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADED)
        await reader.readuntil(b'12"}')
        writer.write(unmasked(b'{"type": "refused", "error": {}}'))
        await writer.drain()

    assert await answered(side(SocketSide), serve) == (400, 0, 0)


async def test_a_server_that_does_not_upgrade_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        await writer.drain()

    with pytest.raises(ConnectionRefusedError, match="401"):
        await answered(side(SocketSide), serve)


def test_the_table_tells_medians_ratios_and_what_is_met() -> None:
    ours = Figures(
        once=[Rate(streams=100, took=took, events=1, failed=0, load=0.5, at_once=50) for took in (2.0, 1.0, 9.0)],
        held=[Held(200, p50=10, p99=90, good=True, took=80, load=0.1)],
        firsts=[3000] * 99 + [9000],
        idle=100e6,
    )
    bare = Figures(once=[Rate(streams=900, took=0.8, events=100, failed=0, load=0.9, at_once=50)], firsts=[600])
    alone = Figures(firsts=[100])
    turns = [
        Turn(Side(name, name, [], {}), Nobody(1), figures)
        for name, figures in (("sqlite", ours), ("limit", bare), ("direct", alone))
    ]
    lines = render(turns, [Reads(2.0, 3.0), Reads(2.2, 6.0)], FULL).splitlines()
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    assert rows["figure"] == ["sqlite", "limit", "direct", "goal", "met"]
    assert rows["sent at once, 50 streams: ms of processor a stream"] == ["2.00", "0.80", "–", "", ""]
    assert rows["… streams, × the limit"] == ["0.40", "1.00", "–", "≥ 0.5", "no"]
    assert rows["… delay of a chunk: p50, ms"] == ["10.0", "–", "–", "", ""]
    assert rows["first chunk, added: p50, ms"] == ["2.9", "0.5", "0.0", "≤ 1.5", "no"]
    assert rows["memory: idle, MB"] == ["100", "–", "–", "≤ 110", "yes"]
    growth = "GET …/history (10), SQLite: many rows / few = 6.00 / 3.00 ms"
    assert rows[growth] == ["2.00", "–", "–", "≤ 1.2", "no"]
    assert not any("reference" in name or "workers" in name for name in rows)

"""The measurements of what is read: lists and histories, a resumed answer, idle sockets. Of this project alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from .client import Answer, Connection, Stream, request
from .load import GRACE, percentile
from .processes import Server
from .sides import Side
from .sockets import Socket
from .upstream import script

LENGTH = 100_000
PIECES = 100


@dataclass(frozen=True, slots=True)
class Reads:
    """Medians in ms: of a list of 50 conversations, and of a history of ten messages."""

    list: float
    history: float


async def reads(side: Side, server: Server, *, number: int) -> Reads:
    """Read as the first caller, whose rows are the many."""
    connection = Connection(server.port)
    headers = side.headers(0)
    listing = request("GET", "/conversations?limit=50", headers)
    found = await _read(connection, listing)
    sessions = [entry["session_id"] for entry in json.loads(found.body)["conversations"]]
    histories = [request("GET", f"/conversations/{session}/history", headers) for session in sessions]
    lists = [await _took(connection, listing) for _ in range(number)]
    told = [await _took(connection, histories[index % len(histories)]) for index in range(number)]
    connection.close()
    return Reads(percentile(sorted(lists), 0.5) / 1000, percentile(sorted(told), 0.5) / 1000)


async def only_conversation(side: Side, port: int) -> str:
    """Return the ``session_id`` of the one conversation that the caller has."""
    connection = Connection(port)
    found = await _read(connection, request("GET", "/conversations", side.headers(0)))
    connection.close()
    (conversation,) = json.loads(found.body)["conversations"]
    return str(conversation["session_id"])


async def _read(connection: Connection, asked: bytes) -> Answer:
    answer = Answer()
    async with asyncio.timeout(GRACE):
        await connection.ask(asked, answer)
    if answer.status != 200:
        raise RuntimeError(f"{asked.splitlines()[0]!r} was answered with {answer.status}: {answer.body[:300]!r}")
    return answer


async def _took(connection: Connection, asked: bytes) -> int:
    answer = await _read(connection, asked)
    return answer.ended_at - answer.sent_at


@dataclass(frozen=True, slots=True)
class Resume:
    """The median time for an ended answer of 100,000 characters, in ms, and its largest event in bytes."""

    took: float
    largest: int


async def resume(side: Side, server: Server, *, number: int) -> Resume:
    connection = Connection(server.port)
    stream = Stream()
    await connection.ask(side.chat(0, script(PIECES, 0, LENGTH // PIECES)), stream)
    names = dict(line.split(b": ", 1) for line in stream.head.lower().split(b"\r\n")[1:])
    generation = names[b"x-generation-id"].decode()
    asked = request("GET", f"/generations/{generation}/stream?after=0", side.headers(0))
    answers = [await _read(connection, asked) for _ in range(number)]
    connection.close()
    took = sorted(answer.ended_at - answer.sent_at for answer in answers)
    assert answers[0].body.count(b"x") >= LENGTH * 0.9, "the resumed answer is not whole"
    return Resume(percentile(took, 0.5) / 1000, max(map(len, answers[0].body.split(b"\n\n"))))


async def memory_of_sockets(side: Side, server: Server, number: int) -> float:
    """Return the bytes that each of ``number`` open and idle sockets adds to the server."""
    warm = await _sockets(side, server, 20)
    before = server.memory()
    sockets = await _sockets(side, server, number)
    await asyncio.sleep(2.0)
    grown = server.memory() - before
    for socket in [*warm, *sockets]:
        socket.close()
    return grown / number


async def _sockets(side: Side, server: Server, number: int) -> list[Socket]:
    sockets = [Socket(server.port, side.headers(index)) for index in range(number)]
    for socket in sockets:
        await socket.open()
    return sockets

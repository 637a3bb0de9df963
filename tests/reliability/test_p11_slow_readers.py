"""P11: a reader that never reads neither grows the server's memory nor delays anybody else (uvicorn)."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conversations.helpers import streaming
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer

from .conftest import Serve
from .silent import SilentClient
from .sizes import size
from .truth import consistent

READERS = size(40, 200)
MAX_BYTES_EACH = 256 * 1024
PROBES = size(9, 51)
# Each character takes four bytes, in the server's memory and on the wire: the worst that a text can be. All of it
# is several times what the kernel's buffers between two sockets of one machine hold.
PIECE = "😀" * 8_192
PIECES = 200

# A busy machine's, and what a median of a few probes may meet (seconds).
NOISE = 2.0
STALL = size(0.2, 0.02)

Attach = Callable[[SilentClient, str], None]


def over_sse(client: SilentClient, generation_id: str) -> None:
    client.get(f"/generations/{generation_id}/stream")


def over_websocket(client: SilentClient, generation_id: str) -> None:
    client.open_socket()
    client.send_frame(type="attach", id="x", generation_id=generation_id)


WAYS: Sequence[Sequence[Attach]] = size([(over_sse, over_websocket)], [(over_sse,), (over_websocket,)])


def resident(server: ServerProcess) -> int:
    """Return the bytes of memory that a server process occupies."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def settled(server: ServerProcess) -> int:
    """Return the server's memory once it has stopped to grow."""
    deadline = time.monotonic() + 60
    samples = [resident(server)]
    while len(samples) < 6 or max(samples[-6:]) - min(samples[-6:]) > 500_000:
        assert time.monotonic() < deadline, samples[-6:]
        time.sleep(0.1)
        samples.append(resident(server))
    return samples[-1]


def first_chunk_seconds(client: httpx.Client) -> float:
    """Return what others wait, from the question to the first text: the median of some."""
    took = []
    for _ in range(PROBES):
        began = time.monotonic()
        with streaming(client, "POST", "/chat", json={"message": "hello"}) as (seen, blocks):
            while not seen.events:
                next(blocks)
            took.append(time.monotonic() - began)
            for _block in blocks:
                pass
        consistent(client, seen)
    return statistics.median(took)


@contextmanager
def silent_readers(server: ServerProcess, ways: Sequence[Attach], generation_id: str, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for index in range(count):
            ways[index % len(ways)](stack.enter_context(SilentClient(server)), generation_id)
        yield


@pytest.mark.alone
@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_p11_readers_that_never_read_cost_little_and_delay_nobody(
    ways: Sequence[Attach], ended: bool, serve: Serve, scripted: ScriptedUpstream, record_property: Any
) -> None:
    [server] = serve(providers={"MAX_ANSWER_BYTES": 1_000_000_000})
    scripted.script = [answer(*[PIECE] * PIECES, **({} if ended else {"gate": "end", "gate_at": "finish"}))]
    with server.client() as client, server.client() as others, ExitStack() as stack:
        with streaming(client, "POST", "/chat", json={"message": "much"}) as (seen, blocks):
            while len(seen.text) < len(PIECE) * PIECES:
                next(blocks)
            if ended:
                list(blocks)
            generation_id = seen.headers["x-generation-id"]
            # The text itself is in memory, once, as long as anybody reads it. Some more readers come first, so that
            # what the allocator does with the memory of the loading is over.
            stack.enter_context(silent_readers(server, ways, generation_id, READERS // 4))
            alone = first_chunk_seconds(others)
            before = settled(server)
            stack.enter_context(silent_readers(server, ways, generation_id, READERS))
            beside = min(first_chunk_seconds(others) for _try in range(3))  # a machine's pause does not come each time
            each = (settled(server) - before) / READERS
            scripted.gate("end").open()
            list(blocks)
        record_property("figures", f"{each / 1024:.0f} kB each; first chunk {alone:.4f} s, then {beside:.4f} s")
        assert each <= MAX_BYTES_EACH
        assert beside <= NOISE * alone + STALL
        assert consistent(client, seen).status == "completed"

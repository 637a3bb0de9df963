"""P16: what one caller or one upstream does costs the others little, and the memory that it took comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.entry import LOGIN, MAKE_KEYS, OTHERS_TOKEN, TOKEN, UPSTREAM_HOST
from tests.processes.server import ServerProcess, manage
from tests.upstream import ScriptedUpstream

from . import floods
from .conftest import Serve
from .silent import SilentClient
from .sizes import size

SAMPLES = size(60, 200)
# Of that many samples the slowest hundredth, or in small size the slowest tenth: of sixty one may be anything.
SLOW = size(0.90, 0.99)
SPARE_SECONDS = size(0.1, 0.020)
TRIES = size(8, 3)
SPARE_MEMORY_KB = 40_000
SETTLE_SECONDS = 60.0
FLOODED_ANSWERS = 4
CALLERS = size(["wrong_keys", "long_heads"], list(floods.CALLER))
UPSTREAMS = size(["comments", "empty_events"], list(floods.UPSTREAM))


def first_chunks(client: httpx.Client) -> float:
    """Begin chats one after the other; return the seconds until the first text of a slow one of them."""
    taken = sorted(_first_chunk(client) for _sample in range(SAMPLES))
    return taken[int(len(taken) * SLOW)]


def _first_chunk(client: httpx.Client) -> float:
    began = time.perf_counter()
    with client.stream("POST", "/chat", json={"message": "hello", "stream": True}) as response:
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        while "chunk" not in next(lines):
            pass
        took = time.perf_counter() - began
        for _line in lines:
            pass
    return took


def memory_kb(server: ServerProcess) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def assert_memory_comes_back(server: ServerProcess, before: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while (now := memory_kb(server)) > before + SPARE_MEMORY_KB:
        assert time.monotonic() < deadline, f"{before} kB before, {now} kB after"
        time.sleep(0.2)


@pytest.fixture
def server(serve: Serve) -> ServerProcess:
    [running] = serve(
        REQUIRE_LOGIN="true",
        ALLOWED_UPSTREAM_HOSTS=UPSTREAM_HOST,
        MAX_ANSWERS_PER_CALLER="1000",
        RATE_LIMIT="100000/minute",
    )
    if not LOGIN:
        manage(running.env, "shell", "--command", MAKE_KEYS)
    return running


@pytest.fixture
def other(server: ServerProcess) -> Iterator[httpx.Client]:
    """The account that notices little."""
    headers = {"Authorization": f"Bearer {OTHERS_TOKEN}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client:
        for _warm_up in range(20):
            _first_chunk(client)
        yield client


def assert_little_is_noticed(measure: Callable[[], tuple[float, float]]) -> None:
    """Measure before and during, a few times: what the product causes comes each time, a machine's pause does not."""
    tried = []
    for _try in range(TRIES):
        before, during = measure()
        tried.append(f"{before * 1000:.1f} ms before, {during * 1000:.1f} ms during")
        if during <= max(2 * before, before + SPARE_SECONDS):
            return
    raise AssertionError("; ".join(tried))


@pytest.mark.alone
@pytest.mark.parametrize("kind", CALLERS)
def test_p16_a_caller_that_floods(kind: str, server: ServerProcess, other: httpx.Client) -> None:
    memory = memory_kb(server)

    def measure() -> tuple[float, float]:
        before = first_chunks(other)
        with floods.running("caller", kind, str(server.port)):
            return before, first_chunks(other)

    assert_little_is_noticed(measure)
    assert_memory_comes_back(server, memory)


@pytest.mark.alone
@pytest.mark.parametrize("kind", UPSTREAMS)
def test_p16_an_upstream_that_floods(
    kind: str, server: ServerProcess, other: httpx.Client, scripted: ScriptedUpstream
) -> None:
    memory = memory_kb(server)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def measure() -> tuple[float, float]:
        before = first_chunks(other)
        with (
            floods.running("upstream", kind) as url,
            httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as flooded,
            ExitStack() as stack,
        ):
            return before, _first_chunks_beside(other, server, flooded, url, stack)

    assert_little_is_noticed(measure)
    assert_memory_comes_back(server, memory)


def _first_chunks_beside(
    other: httpx.Client, server: ServerProcess, flooded: httpx.Client, url: str, stack: ExitStack
) -> float:
    """Measure while an account's model at ``url`` floods its answers; each of those ends typed."""
    config = {"model_type": "custom", "custom_api_url": url, "custom_model": "flood"}
    assert flooded.post("/api/config", json=config).status_code == 200
    seen = {one["session_id"] for one in _conversations(flooded)}
    for _answer in range(FLOODED_ANSWERS):
        client = stack.enter_context(SilentClient(server, dict(flooded.headers)))
        client.post("/chat", {"message": "hello"})
    # Their beginnings are chats like any others.
    while len(new := {one["session_id"] for one in _conversations(flooded)} - seen) < FLOODED_ANSWERS:
        time.sleep(0.01)
    during = first_chunks(other)
    for session_id in new:
        _assert_ends_typed(flooded, session_id)
    return during


def _conversations(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/conversations?limit=100").json()["conversations"]
    return found


def _assert_ends_typed(client: httpx.Client, session_id: str) -> None:
    """A flood ends as a fault of the protocol, and soon."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (answer := client.get(f"/conversations/{session_id}/history").json()["messages"][-1])["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    state = client.get(f"/generations/{answer['generation_id']}").json()
    assert (state["status"], state["error"]["code"]) == ("failed", "upstream_protocol")

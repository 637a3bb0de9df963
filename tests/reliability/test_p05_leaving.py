"""P5: a reader that leaves stops, or does not stop, the upstream call: by the setting ON_DISCONNECT.

Each way of reading, and of leaving, is tried on one server: a reader that waits for more, one that is so far behind
that the server waits to send to it, one that asked for the whole answer, one that left before the first byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import pytest

from tests.processes.server import ServerProcess
from tests.upstream import Answer, ScriptedUpstream, answer
from tests.upstream.wire import Request

from .conftest import Serve
from .silent import SilentClient
from .sizes import size

# What is promised in seconds is measured with the machine to itself.
pytestmark = pytest.mark.alone

KINDS = size(["uvicorn"], ["uvicorn", "daphne"])
# The two seconds that are promised; in small size the machine may stand still for some of them.
CLOSE_SECONDS = size(6.0, 2.0)
# More text than the kernel's buffers between two sockets of one machine take, so that `send` blocks.
FAR = 8_000_000
CHATTY = answer("x" * 100_000, endless=True, delay=0.005)
LIMITS = {"MAX_ANSWER_BYTES": 1_000_000_000}

Begin = Callable[[SilentClient, str], None]


def over_sse(client: SilentClient, message: str) -> None:
    client.post("/chat", {"message": message})


def over_websocket(client: SilentClient, message: str) -> None:
    client.open_socket()
    client.send_frame(type="chat", id="x", message=message)


def whole(client: SilentClient, message: str) -> None:
    client.post("/chat", {"message": message, "stream": False})


def held(gate: str) -> Answer:
    """An answer that waits for a gate after its first chunk."""
    return answer("seen ", "rest", gate=gate, gate_at=1)


class Watch:
    """What happens to the answers of one server."""

    def __init__(self, server: ServerProcess, upstream: ScriptedUpstream) -> None:
        self.server = server
        self.upstream = upstream
        self.http = server.client()
        self._clients: list[SilentClient] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.http.close()
        for client in self._clients:
            client.leave()

    def begin(self, begin: Begin, behaviour: Answer) -> tuple[SilentClient, Request]:
        """Ask for an answer; return who asked, and the call as the upstream sees it."""
        calls = self.upstream.calls
        self.upstream.script = [behaviour]
        client = SilentClient(self.server)
        self._clients.append(client)
        begin(client, "hello")
        self.upstream.wait_until(lambda: self.upstream.calls > calls)
        return client, self.upstream.completions[calls]

    def newest(self) -> dict[str, Any]:
        """The newest answer, as the history shows it."""
        session_id = self.http.get("/conversations", params={"limit": 1}).json()["conversations"][0]["session_id"]
        message: dict[str, Any] = self.http.get(f"/conversations/{session_id}/history").json()["messages"][-1]
        return message

    def until(self, predicate: Callable[[dict[str, Any]], object], seconds: float = 15.0) -> dict[str, Any]:
        """Ask for the newest answer's state until it is as wished."""
        generation_id = self.newest()["generation_id"]
        deadline = time.monotonic() + seconds
        while not predicate(state := self.http.get(f"/generations/{generation_id}").json()):
            assert time.monotonic() < deadline, state
            time.sleep(0.02)
        return dict(state)

    def until_text(self) -> None:
        self.until(lambda state: state["position"] > 0)


def expect_close(watch: Watch, call: Request, name: str, left_at: float) -> None:
    """The upstream sees the close in time; what there was of the answer is kept."""
    try:
        watch.upstream.wait_until(lambda: call.closed_by_client, CLOSE_SECONDS)
    except TimeoutError:
        pytest.fail(f"{name}: the call is still open {time.monotonic() - left_at:.1f} s after the reader left")
    state = watch.until(lambda state: state["status"] != "running")
    assert state["status"] == "stopped", name
    assert len(watch.newest()["content"]) == state["position"], name


@pytest.mark.parametrize("kind", KINDS)
def test_p5_cancel_closes_the_upstream_when_the_reader_leaves(
    kind: str, serve: Serve, scripted: ScriptedUpstream
) -> None:
    [server] = serve(kind=kind, ON_DISCONNECT="cancel", providers=LIMITS)
    with Watch(server, scripted) as watch:
        for begin in (over_sse, over_websocket, whole):
            client, call = watch.begin(begin, held("never"))
            watch.until_text()
            client.leave()
            expect_close(watch, call, f"idle {begin.__name__}", time.monotonic())
            assert watch.newest()["content"] == "seen "
        if kind == "uvicorn":  # daphne has no back-pressure: nobody is ever blocked there
            for begin in (over_sse, over_websocket):
                client, call = watch.begin(begin, CHATTY)
                watch.until(lambda state: state["position"] > FAR, seconds=60.0)
                client.leave()
                expect_close(watch, call, f"blocked {begin.__name__}", time.monotonic())


@pytest.mark.parametrize("kind", KINDS)
def test_p5_cancel_stops_an_answer_whose_client_left_before_its_first_byte(
    kind: str, serve: Serve, scripted: ScriptedUpstream
) -> None:
    """However early it left: the message is stored, and nobody waits for the answer."""
    scripted.default = answer("never", stall="headers")
    [server] = serve(kind=kind, ON_DISCONNECT="cancel")
    with server.client() as http:
        for begin in (over_sse, over_websocket, whole):
            for pause in (0.0, 0.001, 0.003, 0.01):
                client = SilentClient(server)
                begin(client, "hello")
                time.sleep(pause)
                client.leave()
        left_at = time.monotonic()
        scripted.wait_until(lambda: all(call.closed_by_client for call in scripted.completions), 2 * CLOSE_SECONDS)
        while states := running(http):
            assert time.monotonic() - left_at < 2 * CLOSE_SECONDS, states
            time.sleep(0.05)
        scripted.wait_until(lambda: all(call.closed_by_client for call in scripted.completions), CLOSE_SECONDS)


def running(http: httpx.Client) -> list[str]:
    """The ids of conversations that are being answered."""
    sessions = [item["session_id"] for item in http.get("/conversations").json()["conversations"]]
    histories = {key: http.get(f"/conversations/{key}/history").json()["messages"] for key in sessions}
    return [key for key, messages in histories.items() if messages and messages[-1]["status"] == "running"]


@pytest.mark.parametrize("kind", KINDS)
def test_p5_continue_stores_the_whole_answer_though_its_reader_left(
    kind: str, serve: Serve, scripted: ScriptedUpstream
) -> None:
    [server] = serve(kind=kind, ON_DISCONNECT="continue")
    with Watch(server, scripted) as watch:
        for begin in (over_sse, over_websocket, whole):
            gate = f"{kind} {begin.__name__}"
            client, call = watch.begin(begin, held(gate))
            watch.until_text()
            client.leave()
            scripted.gate(gate).open()
            state = watch.until(lambda state: state["status"] != "running")
            assert state["status"] == "completed", gate
            assert watch.newest()["content"] == "seen rest"
            assert not call.closed_by_client
        client, _call = watch.begin(over_sse, answer("x" * 10_000, repeat=300))
        watch.until(lambda state: state["position"] > 100_000)
        client.leave()  # in the middle of a send
        assert watch.until(lambda state: state["status"] != "running")["status"] == "completed"
        assert watch.newest()["content"] == "x" * 3_000_000

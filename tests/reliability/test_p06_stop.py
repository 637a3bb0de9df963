"""P6: stop works from any process, in 2 s, while the upstream is silent too, whether the owner lives or not."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.entry import HEADERS
from tests.processes.server import ServerProcess
from tests.upstream import Request, ScriptedUpstream

from .pair import Pair, running_pair
from .readers import Reader, SocketReader, SseReader, script
from .reading import at_most
from .sizes import size
from .truth import consistent, heard

# What is promised in seconds is measured with the machine to itself.
pytestmark = [pytest.mark.server, pytest.mark.alone]

# The two seconds that are promised; in small size the machine may stand still for some of them.
SECONDS = size(6.0, 2.0)
ROUNDS = size(1, 25)
_numbers = count()


@pytest.fixture(scope="module", params=[False, True], ids=["polling", "redis"])
def pair(request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two processes that give up none of the other's answers as long as these tests run."""
    patience = {"BEAT_INTERVAL": 30.0}
    folder = tmp_path_factory.mktemp("stop")
    with running_pair(migrated, folder, redis=request.param, conversations=patience) as pair:
        yield pair


class Running:
    """An answer that ``owner`` makes; its upstream said "kept " and is silent until it ``goes_on``."""

    def __init__(self, owner: ServerProcess, upstream: ScriptedUpstream, **body: Any) -> None:
        self._upstream = upstream
        self._gate = gate = f"gate-{next(_numbers)}"
        message = script(chunks=["kept ", "more"], reasoning=["hm"], gate=gate, gate_at=2)
        self.reader: Reader = SseReader(owner, message=message, **body).start()
        self.reader.seen(2)
        self.generation_id = self.reader.ids["generation_id"]
        self.session_id = self.reader.ids["session_id"]

    def readers_at(self, server: ServerProcess) -> list[Reader]:
        """One of each kind."""
        readers: list[Reader] = [
            SseReader(server, generation=self.generation_id).start(),
            SocketReader(server, frame_type="attach", generation_id=self.generation_id).start(),
        ]
        return [reader.seen(2) for reader in readers]

    def goes_on(self) -> None:
        self._upstream.gate(self._gate).open()

    @property
    def _request(self) -> Request:
        return next(
            request
            for request in reversed(self._upstream.completions)
            if f'"gate": "{self._gate}"' in request.body["messages"][-1]["content"]
        )

    def is_hung_up_within(self, seconds: float) -> None:
        """Assert that the upstream sees its connection closed."""
        self._upstream.wait_until(lambda: self._request.closed_by_client, max(seconds, 0.01))


def stop(client: httpx.Client, generation_id: str) -> dict[str, Any]:
    response = client.post(f"/generations/{generation_id}/stop")
    assert response.status_code == 200, response.text
    state: dict[str, Any] = response.json()
    return state


def test_p6_any_process_stops_an_answer_whose_upstream_is_silent(pair: Pair) -> None:
    owner, other = pair.servers
    at_owner, at_other = pair.clients
    for _ in range(ROUNDS):
        _stopped_from(at_other, at_owner, other, Running(owner, pair.upstream))
        _stopped_from(at_owner, at_other, other, Running(owner, pair.upstream))
        _stopped_over_a_socket(other, at_owner, Running(owner, pair.upstream))


def _stopped_from(here: httpx.Client, there: httpx.Client, other: ServerProcess, run: Running) -> None:
    readers = [run.reader, *run.readers_at(other)]
    deadline = time.monotonic() + SECONDS
    state = stop(here, run.generation_id)
    assert (state["status"], state["position"]) == ("stopped", len("hmkept "))
    run.is_hung_up_within(deadline - time.monotonic())
    for reader in readers:
        reader.until(lambda reader: reader.has_ended, deadline - time.monotonic())
    for reader in readers:
        told = consistent(there, reader.join().part)
        assert (told.status, told.reasoning, told.text) == ("stopped", "hm", "kept ")
    # Idempotent, from anywhere, also all at once.
    with ThreadPoolExecutor(10) as threads:
        again = list(threads.map(lambda client: stop(client, run.generation_id), [here, there] * 5))
    assert all(once == state for once in again)


def _stopped_over_a_socket(other: ServerProcess, client: httpx.Client, run: Running) -> None:
    with connect(other.ws_url, proxy=None, additional_headers=HEADERS, open_timeout=60) as socket:
        deadline = time.monotonic() + SECONDS
        socket.send(json.dumps({"type": "stop", "generation_id": run.generation_id}))
        run.is_hung_up_within(deadline - time.monotonic())
        run.reader.until(lambda reader: reader.has_ended, deadline - time.monotonic())
    told = consistent(client, run.reader.join().part)
    assert (told.status, told.text) == ("stopped", "kept ")


def test_p6_many_stops_at_once_from_both_processes_are_one(pair: Pair) -> None:
    """Each stop that returns has found the text committed, and all tell the same end."""
    for _ in range(ROUNDS):
        reader = SseReader(pair.servers[0], message=script(chunks=["tick "], endless=True, delay=0.005)).start()
        generation_id = reader.seen(3).ids["generation_id"]
        with ThreadPoolExecutor(10) as threads, at_most(SECONDS, "stopping"):
            ends = list(threads.map(stop, [*pair.clients] * 5, [generation_id] * 10))
        assert all(end == ends[0] for end in ends)
        assert ends[0]["status"] == "stopped"
        told = consistent(pair.clients[1], reader.join().part)
        assert len(told.text) == ends[0]["position"] >= len("tick tick tick ")


def test_p6_a_late_stop_never_hits_a_newer_answer(pair: Pair) -> None:
    owner, other = pair.servers
    at_owner, at_other = pair.clients
    old = Running(owner, pair.upstream)
    stop(at_other, old.generation_id)
    # At once, by the other process too: the owner may not even know yet that the old one ended.
    newer = Running(other, pair.upstream, session_id=old.session_id)
    elsewhere = Running(owner, pair.upstream)
    for client in (at_other, at_owner) * 2:
        assert stop(client, old.generation_id)["status"] == "stopped"
    old.goes_on()
    assert consistent(at_owner, old.reader.join().part).text == "kept "
    for run in (newer, elsewhere):
        assert at_owner.get(f"/generations/{run.generation_id}").json()["status"] == "running"
        run.goes_on()
        told = consistent(at_owner, run.reader.join().part)
        assert (told.status, told.text) == ("completed", "kept more")
    assert stop(at_owner, newer.generation_id)["status"] == "completed", "an end is final"


def test_p6_an_answer_of_a_dead_process_is_stopped(pair: Pair) -> None:
    """At once: nobody waits until the dead one is known to be dead."""
    owner, other = pair.servers
    client = pair.clients[1]
    run = Running(owner, pair.upstream)
    reader = run.readers_at(other)[0]
    owner.kill()
    try:
        with at_most(SECONDS, "stopping the answer of a dead process"):
            state = stop(client, run.generation_id)
            reader.until(lambda reader: reader.has_ended, SECONDS)
        assert (state["status"], state["position"]) == ("stopped", len("hmkept "))
        told = consistent(client, reader.join().part)
        assert (told.status, told.reasoning, told.text) == ("stopped", "hm", "kept ")
        assert stop(client, run.generation_id) == state
        newer = SseReader(other, message="hello", session_id=run.session_id).start().join()
        assert consistent(client, newer.part).status == "completed"
    finally:
        owner.start()


def test_p6_an_answer_of_a_stopped_process_is_stopped(pair: Pair) -> None:
    """The owner wakes up to an answer that is no longer its own: it adds nothing and hangs up."""
    owner, other = pair.servers
    at_owner, client = pair.clients
    run = Running(owner, pair.upstream)
    reader = run.readers_at(other)[0]
    owner.signal(signal.SIGSTOP)
    try:
        with at_most(SECONDS, "stopping the answer of a process that stands still"):
            assert stop(client, run.generation_id)["status"] == "stopped"
            reader.until(lambda reader: reader.has_ended, SECONDS)
        newer = Running(other, pair.upstream, session_id=run.session_id)
        run.goes_on()  # into the buffers of the process that stands still
    finally:
        owner.signal(signal.SIGCONT)
    told = consistent(client, run.reader.join().part)
    assert (told.status, told.text) == ("stopped", "kept ")
    assert heard(reader.part) == told
    newer.goes_on()
    assert consistent(at_owner, newer.reader.join().part).status == "completed"
    assert consistent(at_owner, run.reader.part) == told, "nothing was added later either"

"""P8: every stream that began ends with exactly one `done`. P10: an upstream fault is a typed error, in time.

The whole list runs once, at the same time over SSE and WebSocket of a uvicorn and of a daphne; the tests look at
what came of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests import databases
from tests.conversations.helpers import Stream, blocks
from tests.entry import HEADERS
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream

from . import faults
from .faults import FAULTS, STALLS, Fault
from .pair import running_faults
from .truth import Heard, consistent, events_of, heard, text_of

pytestmark = pytest.mark.server

KINDS, DOORS = ("uvicorn", "daphne"), ("sse", "websocket")
# The rest of the list, which no upstream can do: how the file of its tests begins.
ELSEWHERE = {
    "database locked for 10 s": "test_p12",
    "database full": "test_p12",
    "database restarted": "test_p12",
    "Redis restarted": "test_p12",
    "kill -9": "test_p02",
    "SIGTERM": "test_p09",
    "SIGSTOP 30 s then SIGCONT": "test_p07",
    "200 readers that never read": "test_p11",
    "clock jumps": "test_source_rules",  # nothing looks at the wall clock
}
# Names that are in the logs of every answer, for the proof that the logs were read.
LOGGED = "generation"


@dataclass
class Outcome:
    """What one reader saw of one fault. ``seconds`` run from the question to the end of what came."""

    kind: str
    door: str
    fault: Fault
    part: Stream | list[dict[str, Any]] = field(default_factory=list)
    raw: str = ""
    seconds: float = 0.0

    @property
    def events(self) -> Sequence[Any]:
        return events_of(self.part)


@dataclass
class Run:
    """What became of the whole list."""

    outcomes: list[Outcome]
    stored: dict[int, Heard]  # by id(outcome): what REST tells
    logs: dict[str, str]
    config: str
    database: bytes
    calls: Counter[str]
    hung_up: set[str]

    def of(self, fault: Fault) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.fault is fault]


def over_sse(server: ServerProcess, client: httpx.Client) -> list[Outcome]:
    """Ask for every fault at once, a connection each."""

    def ask(fault: Fault) -> Outcome:
        started = time.monotonic()
        with client.stream("POST", "/chat", json=fault.asked) as response:
            stream = Stream(response.status_code, response.headers)
            raw = response.read().decode()
        seconds = time.monotonic() - started
        for block in blocks([raw]):
            stream.add(block)
        return Outcome(server.kind, "sse", fault, stream, raw, seconds)

    with ThreadPoolExecutor(len(FAULTS)) as threads:
        return list(threads.map(ask, FAULTS))


def over_websocket(server: ServerProcess, _client: httpx.Client) -> list[Outcome]:
    """Ask for every fault at once, all on one socket."""
    outcomes = {fault.name: Outcome(server.kind, "websocket", fault, []) for fault in FAULTS}
    with connect(server.ws_url, proxy=None, additional_headers=HEADERS, max_size=None, open_timeout=60) as socket:
        started = time.monotonic()
        for fault in FAULTS:
            socket.send(json.dumps({"type": "chat", "id": fault.name, **fault.asked}))
        open_replies = set(outcomes)
        while open_replies:
            open_replies -= _take(socket, outcomes, started)
        # Whatever follows a reply's end comes before the answer to this.
        socket.send(json.dumps({"type": "ping"}))
        while (rest := _take(socket, outcomes, started)) != {"pong"}:
            assert not rest, f"a second end of {rest}"
    return list(outcomes.values())


def _take(socket: Any, outcomes: dict[str, Outcome], started: float) -> set[str]:
    """Read a frame; return the name of the reply that it ends, if it ends one."""
    text = socket.recv(timeout=faults.TOTAL + 2 * faults.SLACK)
    frame = json.loads(text)
    if frame.get("type") == "pong":
        return {"pong"}
    outcome = outcomes[frame["id"]]
    assert isinstance(outcome.part, list)
    outcome.part.append(frame)
    outcome.raw += text
    outcome.seconds = time.monotonic() - started
    return {frame["id"]} if frame.keys() & {"done"} or frame.get("type") == "refused" else set()


@pytest.fixture(scope="module")
def run(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole list, over everything, at once."""
    with running_faults(migrated, tmp_path_factory.mktemp("faults"), *KINDS) as pair:
        clients = pair.clients
        with ThreadPoolExecutor(4) as threads:
            pairs = product(zip(pair.servers, clients, strict=True), (over_sse, over_websocket))
            asked = [threads.submit(over, server, client) for (server, client), over in pairs]
            outcomes = [outcome for future in asked for outcome in future.result()]
        # Each is told by the other process: what REST says must not depend on who made it.
        others = dict(zip(KINDS, reversed(clients), strict=True))
        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(lambda outcome: consistent(others[outcome.kind], outcome.part), outcomes))
        yield Run(
            outcomes=outcomes,
            stored={id(outcome): told for outcome, told in zip(outcomes, told, strict=True)},
            logs={server.kind: server.log.read_text() for server in pair.servers},
            config="".join(client.get("/api/config").text for client in clients),
            database=databases.contents(pair.folder),
            calls=Counter(_name(request.body) for request in pair.upstream.completions),
            hung_up=_hung_up(pair.upstream),
        )


def _name(body: Any) -> str:
    return str(body["messages"][-1]["content"]).removeprefix(faults.COMMAND)


def _hung_up(upstream: ScriptedUpstream) -> set[str]:
    """The names of the faults on all of whose calls our side has hung up."""
    left = {_name(request.body) for request in upstream.completions if not request.closed_by_client}
    return {fault.name for fault in FAULTS} - left


def test_p8_every_stream_that_began_ends_with_exactly_one_done(run: Run) -> None:
    """Counted over the whole list."""
    for outcome in run.outcomes:
        ends = [index for index, event in enumerate(outcome.events) if "done" in event]
        assert ends == [len(outcome.events) - 1], (outcome.kind, outcome.door, outcome.fault.name)
    assert len(run.outcomes) == len(FAULTS) * len(KINDS) * len(DOORS)


def test_p8_every_event_has_its_place(run: Run) -> None:
    """Positions count the characters up to and with each event; an error has the last one's."""
    for outcome in run.outcomes:
        position = 0
        for place, event in zip(_positions(outcome), outcome.events, strict=True):
            position += len(text_of(event))
            assert place == ("end" if "done" in event and outcome.door == "sse" else str(position))


def _positions(outcome: Outcome) -> list[str]:
    if isinstance(outcome.part, Stream):
        return [event_id.partition(":")[2] for event_id in outcome.part.ids]
    return [str(frame["position"]) for frame in outcome.part if frame.get("type") != "accepted"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_a_fault_is_a_typed_end_with_the_partial_text(run: Run, fault: Fault) -> None:
    for outcome in run.of(fault):
        where = (outcome.kind, outcome.door)
        told = heard(outcome.part)
        assert (told.status, told.error_code or "") == (fault.status, fault.code), where
        assert fault.fits(told.text), (where, told.text[:200])
        assert told.reasoning == fault.reasoning, where
        assert told.calls == (fault.calls or ()), where
        if told.status == "failed":
            error = outcome.events[-2]["error"]
            assert fault.retry_after(error.get("retry_after")), (where, error)
            assert fault.says in error["message"]
            assert len(error["message"]) < 500


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_a_fault_ends_in_time(run: Run, fault: Fault) -> None:
    seconds = {(outcome.kind, outcome.door): outcome.seconds for outcome in run.of(fault)}
    assert max(seconds.values()) <= fault.within + faults.SLACK, seconds


def test_p10_nothing_leaks_to_clients(run: Run) -> None:
    assert "CANARY" not in run.config
    for outcome in run.outcomes:
        assert "CANARY" not in outcome.raw, (outcome.kind, outcome.door, outcome.fault.name)


def test_p10_nothing_leaks_to_logs_and_database(run: Run) -> None:
    for kind, log in run.logs.items():
        assert log.count(LOGGED) > len(FAULTS), "the log was read, and is that of this run"
        assert "CANARY" not in log, (kind, [line for line in log.splitlines() if "CANARY" in line][:3])
    assert b"CANARY" not in run.database


def test_p10_nothing_unexpected_went_wrong(run: Run) -> None:
    """No fault of an upstream is an error of ours: no tracebacks."""
    for kind, log in run.logs.items():
        assert "Traceback" not in log, (kind, log[log.index("Traceback") - 500 :][:3000])


def test_p10_an_upstream_that_began_is_asked_once(run: Run) -> None:
    runs = len(KINDS) * len(DOORS)
    for fault in FAULTS:
        begun = fault.text or fault.calls is not None or fault.status == "completed"
        # Three tries, each once more where it met a connection that had been idle: nobody knows why that was closed.
        most = runs if begun else 6 * runs
        assert runs <= run.calls[fault.name] <= most, fault.name
    assert run.calls.keys() == {fault.name for fault in FAULTS}, "no redirect was followed"


def test_p10_a_stalled_upstream_is_hung_up_on(run: Run) -> None:
    stalled = {fault.name for fault in STALLS if fault.status == "failed" and fault.name.startswith("stall")}
    assert stalled <= run.hung_up


def test_p14_rest_tells_what_the_events_told_of_every_fault(run: Run) -> None:
    for outcome in run.outcomes:
        assert run.stored[id(outcome)] == heard(outcome.part)


def test_p8_what_no_upstream_can_do_is_tested_elsewhere() -> None:
    folder = Path(__file__).parent
    for fault, name in ELSEWHERE.items():
        assert list(folder.glob(f"{name}*.py")), f"{fault}: no {name}*.py"

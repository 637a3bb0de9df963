"""P8, P10, P14 over AG-UI: the list of faults as runs, each sent twice: then it is told from what is stored."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import faults
from .faults import FAULTS, Fault
from .pair import ended_log, running_faults

pytestmark = pytest.mark.server

ENDS = {"RUN_FINISHED", "RUN_ERROR"}


@dataclass
class Outcome:
    """What one client saw of one fault, and what it gets of the same run afterwards."""

    fault: Fault
    raw: str
    seconds: float
    stored: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        return events_of(self.raw)


@dataclass
class Run:
    outcomes: list[Outcome]
    log: str


def events_of(raw: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in raw.split("\n") if line.startswith("data: ")]


def text_of(events: list[dict[str, Any]], kind: str) -> str:
    return "".join(event["delta"] for event in events if event["type"] == kind)


def ask(client: httpx.Client, fault: Fault) -> Outcome:
    """Send a run, and send it again."""
    body = {
        "threadId": f"thread of {fault.name}",
        "runId": uuid.uuid4().hex,
        "messages": [{"id": "1", "role": "user", "content": faults.COMMAND + fault.name}],
        "tools": [] if fault.calls is None else [faults.TOOL["function"]],
    }
    started = time.monotonic()
    first = client.post("/api/agui", json=body)
    assert first.status_code == 200, first.text
    outcome = Outcome(fault, first.text, time.monotonic() - started)
    outcome.stored = client.post("/api/agui", json=body).text
    return outcome


@pytest.fixture(scope="module")
def run(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with running_faults(migrated, tmp_path_factory.mktemp("faults"), "uvicorn") as pair:
        (client,), (server,) = pair.clients, pair.servers
        with ThreadPoolExecutor(len(FAULTS)) as threads:
            outcomes = list(threads.map(lambda fault: ask(client, fault), FAULTS))
        yield Run(outcomes, ended_log(server))


def test_p8_every_run_begins_once_and_ends_once(run: Run) -> None:
    assert len(run.outcomes) == len(FAULTS)
    for outcome in run.outcomes:
        kinds = [event["type"] for event in outcome.events]
        assert (kinds[0], kinds.count("RUN_STARTED")) == ("RUN_STARTED", 1), outcome.fault.name
        assert [place for place, kind in enumerate(kinds) if kind in ENDS] == [len(kinds) - 1], outcome.fault.name
        for opened in {kind for kind in kinds if kind.endswith("_START")}:
            assert kinds.count(opened) == kinds.count(opened.replace("_START", "_END")), outcome.fault.name


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_a_run_has_a_typed_end_with_the_partial_text(run: Run, fault: Fault) -> None:
    (outcome,) = [outcome for outcome in run.outcomes if outcome.fault is fault]
    last, stored = outcome.events[-1], events_of(outcome.stored)
    assert last["type"] == ("RUN_ERROR" if fault.status == "failed" else "RUN_FINISHED")
    assert last.get("code", "") == fault.code
    assert fault.says in last.get("message", "")
    assert fault.retry_after(last["metadata"].get("retry_after"))
    assert fault.fits(text_of(stored, "TEXT_MESSAGE_CONTENT"))
    assert text_of(stored, "REASONING_MESSAGE_CONTENT") == fault.reasoning
    calls = [event for event in stored if event["type"] == "TOOL_CALL_START"]
    assert [(call["toolCallId"], call["toolCallName"]) for call in calls] == [call[:2] for call in fault.calls or ()]
    assert text_of(stored, "TOOL_CALL_ARGS") == "".join(call[2] for call in fault.calls or ())
    assert outcome.seconds <= fault.within + faults.SLACK


def test_p10_nothing_leaks_and_nothing_unexpected_went_wrong(run: Run) -> None:
    for outcome in run.outcomes:
        assert "CANARY" not in outcome.raw + outcome.stored, outcome.fault.name
    assert "generation" in run.log
    assert "CANARY" not in run.log
    assert "Traceback" not in run.log, run.log[run.log.index("Traceback") - 500 :][:3000]


def test_p14_what_is_stored_is_what_was_told(run: Run) -> None:
    for outcome in run.outcomes:
        told, stored = outcome.events, events_of(outcome.stored)
        assert (told[0], told[-1]) == (stored[0], stored[-1]), outcome.fault.name
        for deltas in ("TOOL_CALL_ARGS", None):
            texts = [
                "".join(event.get("delta", "") for event in events if deltas in (None, event["type"]))
                for events in (told, stored)
            ]
            assert texts[0] == texts[1], (outcome.fault.name, deltas)

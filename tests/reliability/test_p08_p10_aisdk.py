"""P8, P10, P14 over the AI SDK's stream: the list of faults as chats, each sent twice: then told from what is kept."""

from __future__ import annotations

import json
import time
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


@dataclass
class Outcome:
    """What one client saw of one fault, and what it gets of the same message afterwards."""

    fault: Fault
    raw: str
    stored: str
    seconds: float


@dataclass
class Run:
    outcomes: list[Outcome]
    log: str


def parts_of(raw: str) -> list[dict[str, Any]]:
    """The parts of a stream, which ends as it has to."""
    *data, last = [line.removeprefix("data: ") for line in raw.split("\n") if line.startswith("data: ")]
    assert last == "[DONE]"
    return [json.loads(each) for each in data]


def text_of(parts: list[dict[str, Any]], kind: str) -> str:
    return "".join(part["delta"] for part in parts if part["type"] == f"{kind}-delta")


def ask(client: httpx.Client, fault: Fault) -> Outcome:
    """Send a message, and send it again."""
    text = {"type": "text", "text": faults.COMMAND + fault.name}
    body = {
        "id": f"chat of {fault.name}",
        "messages": [{"id": "1", "role": "user", "parts": [text]}],
        "tools": [] if fault.calls is None else [{"name": faults.TOOL["function"]["name"]}],
    }
    started = time.monotonic()
    first = client.post("/api/chat", json=body)
    assert first.status_code == 200, first.text
    seconds = time.monotonic() - started
    return Outcome(fault, first.text, client.post("/api/chat", json=body).text, seconds)


@pytest.fixture(scope="module")
def run(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with running_faults(migrated, tmp_path_factory.mktemp("faults"), "uvicorn") as pair:
        (client,), (server,) = pair.clients, pair.servers
        with ThreadPoolExecutor(len(FAULTS)) as threads:
            outcomes = list(threads.map(lambda fault: ask(client, fault), FAULTS))
        yield Run(outcomes, ended_log(server))


def test_p8_every_answer_begins_once_and_ends_once(run: Run) -> None:
    assert len(run.outcomes) == len(FAULTS)
    for outcome in run.outcomes:
        for raw in (outcome.raw, outcome.stored):
            kinds = [part["type"] for part in parts_of(raw)]
            ends = [kinds.count(kind) for kind in ("start", "start-step", "finish-step", "finish")]
            assert ends == [1, 1, 1, 1], outcome.fault.name
            assert (kinds[0], kinds[-1]) == ("start", "finish"), outcome.fault.name
            for kind in ("text", "reasoning"):
                assert kinds.count(f"{kind}-start") == kinds.count(f"{kind}-end"), outcome.fault.name


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_an_answer_has_a_told_end_with_the_partial_text(run: Run, fault: Fault) -> None:
    (outcome,) = [outcome for outcome in run.outcomes if outcome.fault is fault]
    told, stored = parts_of(outcome.raw), parts_of(outcome.stored)
    errors = [part["errorText"] for part in told if part["type"] == "error"]
    assert len(errors) == (fault.status == "failed")
    assert fault.says in "".join(errors)
    assert told[-1]["messageMetadata"]["status"] == fault.status
    assert fault.fits(text_of(stored, "text"))
    assert text_of(stored, "reasoning") == fault.reasoning
    calls = [part for part in stored if part["type"] == "tool-input-start"]
    assert [(call["toolCallId"], call["toolName"]) for call in calls] == [call[:2] for call in fault.calls or ()]
    whole = [part for part in stored if part["type"] == "tool-input-available"]
    assert len(whole) <= len(calls)
    assert fault.status != "completed" or len(whole) == len(calls)
    assert outcome.seconds <= fault.within + faults.SLACK


def test_p10_nothing_leaks_and_nothing_unexpected_went_wrong(run: Run) -> None:
    for outcome in run.outcomes:
        assert "CANARY" not in outcome.raw + outcome.stored, outcome.fault.name
    assert "generation" in run.log
    assert "CANARY" not in run.log
    assert "Traceback" not in run.log, run.log[run.log.index("Traceback") - 500 :][:3000]


def test_p14_what_is_stored_is_what_was_told(run: Run) -> None:
    for outcome in run.outcomes:
        told, stored = parts_of(outcome.raw), parts_of(outcome.stored)
        assert told[0]["messageId"] == stored[0]["messageId"], outcome.fault.name
        # What turned out to be a thought only later came as text: of both together nothing moves.
        texts = ["".join(part.get("delta", "") for part in parts) for parts in (told, stored)]
        arguments = ["".join(part.get("inputTextDelta", "") for part in parts) for parts in (told, stored)]
        assert texts[0] == texts[1], outcome.fault.name
        assert arguments[0] == arguments[1], outcome.fault.name

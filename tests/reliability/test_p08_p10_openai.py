"""P8, P10, P14 over OpenAI's API: the list of faults as responses, which are stored, and as what is passed on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import databases
from tests.conversations.helpers import blocks

from . import faults
from .faults import FAULTS, Fault
from .pair import ended_log, running_faults

pytestmark = pytest.mark.server

RESPONSES, COMPLETIONS = "/v1/responses", "/v1/chat/completions"
ENDS = {"completed": {"completed", "incomplete"}, "failed": {"failed"}}
# Names where theirs are other than ours.
EMPTY = "empty_answer"
CODES = {"context_length": "context_length_exceeded"}


@dataclass
class Outcome:
    """What one reader saw of one fault. ``seconds`` run from the question to the end of what came."""

    fault: Fault
    status: int = 0
    raw: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    # What GET tells of a response afterwards, and its stream after its middle.
    stored: dict[str, Any] = field(default_factory=dict)
    rest: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]


@dataclass
class Run:
    responses: list[Outcome]
    completions: list[Outcome]
    log: str
    relays_left: int
    conversations: int


def read(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of all events, and of no comment; `[DONE]` has to be the last."""
    found: list[str] = []
    for block in blocks([response.text]):
        found += [line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data: ")]
    assert "[DONE]" not in found[:-1]
    return [json.loads(data) for data in found if data != "[DONE]"]


def asked(client: httpx.Client, path: str, body: Callable[[Fault], dict[str, Any]]) -> list[Outcome]:
    """Ask for every fault at once, a connection each."""

    def ask(fault: Fault) -> Outcome:
        started = time.monotonic()
        response = client.post(path, json={"model": "default", "stream": True, **body(fault)})
        outcome = Outcome(fault, response.status_code, response.text, seconds=time.monotonic() - started)
        outcome.events = read(response) if response.status_code == 200 else [response.json()]
        return outcome

    with ThreadPoolExecutor(len(FAULTS)) as threads:
        return list(threads.map(ask, FAULTS))


def completion(fault: Fault) -> dict[str, Any]:
    tools = {} if fault.calls is None else {"tools": [faults.TOOL]}
    return {"messages": [{"role": "user", "content": faults.COMMAND + fault.name}], **tools}


def response(fault: Fault) -> dict[str, Any]:
    tools = {} if fault.calls is None else {"tools": [{"type": "function", **faults.TOOL["function"]}]}
    return {"input": faults.COMMAND + fault.name, **tools}


def look_again(client: httpx.Client, outcome: Outcome) -> None:
    key = outcome.events[0]["response"]["id"]
    outcome.stored = client.get(f"{RESPONSES}/{key}").json()
    middle = outcome.events[len(outcome.events) // 2]["sequence_number"]
    again = client.get(f"{RESPONSES}/{key}", params={"stream": "true", "starting_after": str(middle)})
    outcome.rest = read(again)


@pytest.fixture(scope="module")
def run(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with running_faults(migrated, tmp_path_factory.mktemp("faults"), "uvicorn") as pair:
        (client,), (server,) = pair.clients, pair.servers
        completions = asked(client, COMPLETIONS, completion)
        conversations = len(databases.rows(pair.folder, "SELECT id FROM conversations_conversation"))
        responses = asked(client, RESPONSES, response)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda outcome: look_again(client, outcome), responses))
        yield Run(responses, completions, ended_log(server), relays_left(pair.folder), conversations)


def relays_left(folder: Path) -> int:
    """How many relays are not settled, once they had the time."""
    deadline = time.monotonic() + faults.SLACK
    while (left := len(databases.rows(folder, "SELECT id FROM conversations_relay"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def text_of(events: list[dict[str, Any]], name: str) -> str:
    return "".join(event["delta"] for event in events if event["type"] == f"response.{name}.delta")


def said_of(response: dict[str, Any], kind: str) -> str:
    items = [item for item in response["output"] if item["type"] == kind]
    return "".join(part["text"] for item in items for part in item["content"])


def test_p8_every_response_ends_with_exactly_one_last_event(run: Run) -> None:
    last = {"response.completed", "response.incomplete", "response.failed"}
    for outcome in run.responses:
        ends = [index for index, event in enumerate(outcome.events) if event["type"] in last]
        assert (outcome.status, ends) == (200, [len(outcome.events) - 1]), outcome.fault.name
    assert len(run.responses) == len(FAULTS)


def test_p8_the_numbers_are_places_in_the_text(run: Run) -> None:
    for outcome in run.responses:
        position, numbers = 0, [event["sequence_number"] for event in outcome.events]
        assert numbers == sorted(set(numbers)), outcome.fault.name
        for event in outcome.events:
            position += len(event["delta"]) if event["type"].endswith(".delta") else 0
            assert event["sequence_number"] // 16 == position, (outcome.fault.name, event["type"])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_a_response_has_a_typed_end_with_the_partial_text(run: Run, fault: Fault) -> None:
    (outcome,) = [outcome for outcome in run.responses if outcome.fault is fault]
    response = outcome.last["response"]
    assert response["status"] in ENDS[fault.status]
    assert (response["error"] or {}).get("code", "") == fault.code
    assert fault.fits(said_of(response, "message")), said_of(response, "message")[:200]
    assert said_of(response, "reasoning") == fault.reasoning
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert tuple((item["call_id"], item["name"], item["arguments"]) for item in calls) == (fault.calls or ())
    assert fault.says in (response["error"] or {}).get("message", "")
    assert outcome.seconds <= fault.within + faults.SLACK


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_p10_what_is_passed_on_has_a_typed_end(run: Run, fault: Fault) -> None:
    (outcome,) = [outcome for outcome in run.completions if outcome.fault is fault]
    deltas = [choice["delta"] for event in outcome.events for choice in event.get("choices", ())]
    error = outcome.last.get("error")
    if fault.code in ("", EMPTY) and error is None:  # an answer of no words is one there
        assert outcome.raw.endswith("data: [DONE]\n\n")
        assert fault.fits("".join(delta.get("content") or "" for delta in deltas)) or fault.reasoning
    else:
        assert error is not None
        assert error["code"] == CODES.get(fault.code, fault.code)
        assert fault.says in error["message"]
        assert outcome.status != 200 or outcome.raw.endswith("data: [DONE]\n\n")
    assert outcome.seconds <= fault.within + faults.SLACK


def test_p10_nothing_leaks_and_nothing_unexpected_went_wrong(run: Run) -> None:
    for outcome in [*run.responses, *run.completions]:
        assert "CANARY" not in outcome.raw, outcome.fault.name
    assert "relay" in run.log
    assert "CANARY" not in run.log
    assert "Traceback" not in run.log, run.log[run.log.index("Traceback") - 500 :][:3000]


def test_p14_what_is_stored_is_what_was_told(run: Run) -> None:
    for outcome in run.responses:
        told = outcome.last["response"]
        for name in ("id", "status", "error", "output", "usage", "incomplete_details"):
            assert outcome.stored[name] == told[name], (outcome.fault.name, name)
        assert outcome.rest[-1]["response"]["output"] == told["output"], outcome.fault.name
        middle = outcome.events[len(outcome.events) // 2]["sequence_number"]
        later = [event for event in outcome.events if event["sequence_number"] > middle]
        for name in ("output_text", "reasoning_text", "function_call_arguments"):
            assert text_of(outcome.rest, name) == text_of(later, name), outcome.fault.name


def test_what_is_passed_on_leaves_nothing(run: Run) -> None:
    assert (run.relays_left, run.conversations) == (0, 0)

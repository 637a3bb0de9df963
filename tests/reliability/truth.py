"""What REST shows equals what the events said (promise 14): asked after each test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conversations.helpers import Stream, calls_of, stream

Frames = Sequence[Mapping[str, Any]]
Part = Stream | Frames


KINDS = ("chunk", "reasoning", "tool_call")


@dataclass(frozen=True)
class Heard:
    """What a reader put together from the events of one answer."""

    session_id: str
    message_id: int
    generation_id: str
    text: str
    reasoning: str
    # (id, name, arguments) of each.
    calls: tuple[tuple[str, str, str], ...]
    status: str
    finish_reason: str | None
    usage: Mapping[str, int] | None
    error_code: str | None


def events_of(part: Part) -> list[Mapping[str, Any]]:
    """Return the events of an SSE stream, or of the frames of one reply on a socket."""
    if isinstance(part, Stream):
        return list(part.events)
    return [frame for frame in part if frame.keys() & {*KINDS, "error", "done"}]


def text_of(event: Mapping[str, Any]) -> str:
    """Return what an event adds to the text of an answer, over which positions run."""
    text: str = event.get("chunk", "") + event.get("reasoning", "") + event.get("tool_call", {}).get("arguments", "")
    return text


def heard(*parts: Part, after: int = 0) -> Heard:
    """Put the parts of one answer together: a reader, then those that resumed it. Only the last part may end it.

    The first part begins after so many characters.

    One that was cut between the error and the end resumes at the position of both, and is told of both.
    """
    *cut, last = [events_of(part) for part in parts]
    events = [event for part in (*cut, last) for event in part]
    assert [event for event in events if "done" in event] == events[-1:], events[-3:]
    errors = [event["error"]["code"] for event in last if "error" in event]
    done = events[-1]
    assert len(errors) == (done["status"] == "failed"), "an error, and one only, comes before a failed end"
    assert not errors or "error" in last[-2], "right before the end"
    for part in cut:
        before = [event["error"]["code"] for event in part if "error" in event]
        assert not before or (before == errors and "error" in part[-1]), "the same error, right before the cut"
    reasoning, text = split(events, after)
    return Heard(
        session_id=done["session_id"],
        message_id=done["message_id"],
        generation_id=done["generation_id"],
        text=text,
        reasoning=reasoning,
        calls=tuple((each.get("id", ""), each.get("name", ""), each["arguments"]) for each in calls_of(events)),
        status=done["status"],
        finish_reason=done["finish_reason"],
        usage=done["usage"],
        error_code=errors[0] if errors else None,
    )


def split(events: Sequence[Mapping[str, Any]], after: int) -> tuple[str, str]:
    """Return reasoning and answer: the end says how much of all text was thought, also where it came as the answer."""
    length = max(events[-1]["reasoning_chars"] - after, 0)
    position, reasoning, text = 0, "", ""
    for event in events:
        said, position = event.get("reasoning", "") + event.get("chunk", ""), position + len(text_of(event))
        thought = said if "reasoning" in event else said[: max(0, length - position + len(said))]
        reasoning, text = reasoning + thought, text + said[len(thought) :]
    assert length <= min(position, len(reasoning)), "what is thought first, is thought"
    return reasoning, text


def consistent(client: httpx.Client, *parts: Part, within: float = 10.0) -> Heard:
    """Assert that the state, the history and the stream from its beginning tell what ``parts`` told; return that.

    ``parts`` are whole answers, or pieces in order that resumed one another. An end that the database did not
    take at once is waited for, up to ``within`` seconds.
    """
    told = heard(*parts)
    _check_state(_ended_state(client, told.generation_id, within), told)
    _check_history(client, told)
    again = heard(stream(client, "GET", f"/generations/{told.generation_id}/stream"))
    assert again == told
    return told


def _ended_state(client: httpx.Client, generation_id: str, within: float) -> dict[str, Any]:
    deadline = time.monotonic() + within
    while True:
        response = client.get(f"/generations/{generation_id}")
        assert response.status_code == 200, response.text
        state: dict[str, Any] = response.json()
        if state["status"] != "running":
            return state
        assert time.monotonic() < deadline, "the events said the end, the row still says running"
        time.sleep(0.05)


def _check_state(state: dict[str, Any], told: Heard) -> None:
    assert (state["session_id"], state["message_id"]) == (told.session_id, told.message_id)
    assert (state["status"], state["finish_reason"], state["usage"]) == (told.status, told.finish_reason, told.usage)
    assert state["position"] == len(told.reasoning) + len(told.text) + sum(len(call[2]) for call in told.calls)
    assert (state["error"] or {}).get("code") == told.error_code


def _check_history(client: httpx.Client, told: Heard) -> None:
    """The answer as the history shows it; one that a later answer has displaced is not on the active branch."""
    response = client.get(f"/conversations/{told.session_id}/history")
    assert response.status_code == 200, response.text
    for message in response.json()["messages"]:
        if message["id"] == told.message_id:
            shown = [message[name] for name in ("content", "reasoning", "status", "finish_reason", "usage")]
            assert shown == [told.text, told.reasoning, told.status, told.finish_reason, told.usage]
            assert message["generation_id"] == told.generation_id
            calls = [part for part in message["parts"] or () if part["type"] == "tool_call"]
            assert tuple((part["id"], part["name"], part["arguments"]) for part in calls) == told.calls

"""What a model's server refuses at first, over every door: from the call to the answer that is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import httpx
import pytest
from websockets.sync.client import connect

from llmproviders import dialect
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer, status

from .helpers import Socket

pytestmark = pytest.mark.usefixtures("model")

# What a door gives for one message: the answer's text, the error's code, and how often it said that the model loads.
Said: TypeAlias = tuple[str, str | None, int]
Say: TypeAlias = Callable[..., Said]


def _error_of(events: list[dict[str, Any]]) -> str | None:
    return next((event["error"]["code"] for event in events if "error" in event), None)


def _streamed(client: httpx.Client, _server: Server, body: Mapping[str, Any]) -> Said:
    text = client.post("/chat", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    assert "done" in events[-1]
    return "".join(event.get("chunk", "") for event in events), _error_of(events), text.count(": loading\n")


def _whole(client: httpx.Client, _server: Server, body: Mapping[str, Any]) -> Said:
    answered = client.post("/chat", json={**body, "stream": False}).json()
    return answered.get("assistant_reply", ""), answered.get("code"), 0


def _over_a_socket(_client: httpx.Client, server: Server, body: Mapping[str, Any]) -> Said:
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="chat", id="x", **body)
        frames = socket.reply("x")
    loading = sum(frame.get("type") == "loading" for frame in frames)
    return "".join(frame.get("chunk", "") for frame in frames), _error_of(frames), loading


@pytest.fixture(params=[_streamed, _whole, _over_a_socket])
def say(request: pytest.FixtureRequest, client: httpx.Client, server: Server, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setattr(dialect, "memory", dialect.Memory())
    return lambda message, **body: request.param(client, server, {"message": message, **body})


@pytest.fixture
def tells(request: pytest.FixtureRequest) -> bool:
    """Whether this door can say anything before the answer."""
    return "_whole" not in request.node.callspec.id


def test_a_prompt_is_trimmed_as_the_refusal_says(say: Say, client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/conversations", json={}).json()["session_id"]
    for number in range(4):
        model.script = [answer("short")]
        say(f"{number} " + "word " * 300, session_id=session_id, max_tokens=50)
    too_long = "This model's maximum context length is 1000 tokens. However, your messages resulted in 1600 tokens."
    model.script = [status(400, {"error": {"message": too_long, "code": "context_length_exceeded"}}), answer("fits")]
    assert say("last", session_id=session_id, max_tokens=50) == ("fits", None, 0)
    refused, accepted = ([turn["content"] for turn in call.body["messages"]] for call in model.requests[-2:])
    assert accepted[-1] == refused[-1] == "last"
    assert len(accepted) < len(refused)
    assert accepted == refused[-len(accepted) :], "the newest turns stay, whole"


def test_parameters_are_changed_as_refusals_say_and_that_is_remembered(say: Say, model: ScriptedUpstream) -> None:
    renamed = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    fixed = "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is supported."
    model.script = [
        *(status(400, {"error": {"message": text, "type": "invalid_request_error"}}) for text in (renamed, fixed)),
        answer("taken"),
        answer("at once"),
    ]
    assert say("hi", max_tokens=50) == ("taken", None, 0)
    assert say("again", max_tokens=60) == ("at once", None, 0)
    assert model.calls == 4
    for call, most in zip(model.requests[-2:], (50, 60), strict=True):
        assert call.body["max_completion_tokens"] == most
        assert not call.body.keys() & {"max_tokens", "temperature"}


def test_a_model_that_loads_is_waited_for(say: Say, tells: bool, model: ScriptedUpstream) -> None:
    loading = status(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
    model.script = [loading, loading, answer("ready")]
    text, error, told = say("hi")
    assert (text, error, model.calls) == ("ready", None, 3)
    assert (told > 0) == tells


def test_an_unpaid_account_is_asked_once(say: Say, model: ScriptedUpstream) -> None:
    unpaid = {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}
    model.script = [status(429, unpaid), answer("never")]
    assert say("hi") == ("", "upstream_unpaid", 0)
    assert model.calls == 1

"""Answers that are passed on, where somebody or something is in the way: ends, limits, refusals, odd upstreams."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.db import DatabaseError
from django.utils import timezone

from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine import completions
from conversations.engine import relaying as engine_relaying
from conversations.engine import relays as engine_relays
from conversations.engine.completions import ContentDelta, Delta, Endpoint, ThoughtSoFar, ToolCallDelta
from conversations.engine.relaying import RelayPlan
from conversations.engine.relays import Relays
from conversations.engine.supervisor import Supervisor
from conversations.exceptions import ShuttingDown
from conversations.limits import relays as limits_relays
from conversations.models import ApiKey, DailyUsage, Relay, TokenBudget
from conversations.openai import views
from conversations.openai.told import Told
from conversations.services import overview
from conversations.web.credential_watch import CredentialWatch
from conversations.web.sse import PING
from llmproviders.dialect import memory
from llmproviders.exceptions import AnswerTooLarge
from llmproviders.net.flow import FREE, Flow
from tests.upstream import ScriptedUpstream, answer, events, status

from .accounts import key_of, make_user, require_login
from .calling import until
from .test_openai import ask, chunks, nothing_runs, said, streamed

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


# What it costs -------------------------------------------------------------------------------------------------------
def test_tools_calls_and_images_are_part_of_the_prompt(client: httpx.Client, model: ScriptedUpstream) -> None:
    told = {"name": "weather", "description": "A long description. " * 500}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps("word " * 500)}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    bodies: list[dict[str, Any]] = [
        {},
        {"tools": [{"type": "function", "function": told}]},
        {"messages": [{"role": "assistant", "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": [image]}]},
        {"response_format": {"type": "json_schema", "json_schema": {"description": "word " * 500}}},
    ]
    estimates = []
    for number, body in enumerate(bodies):
        model.script = [answer("a", "b", gate=f"cost-{number}", gate_at=1)]
        payload = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
        with client.stream("POST", PATH, json=payload) as response:
            lines = response.iter_lines()
            next(lines)
            estimates.append(Relay.objects.get().estimated_prompt_tokens)
            model.gate(f"cost-{number}").open()
            chunks(lines)
        until(nothing_runs)
    assert estimates[0] < 50
    assert min(estimates[1:]) > 400, estimates


def test_an_answer_of_no_words_is_one_and_is_counted(client: httpx.Client, model: ScriptedUpstream) -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 0, "total_tokens": 70}
    empty = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
    model.script = [events(empty, "[DONE]"), events(empty, "[DONE]")]
    whole = ask(client).json()
    assert (whole["choices"][0]["message"]["content"], whole["choices"][0]["finish_reason"]) == ("", "stop")
    assert streamed(client, stream=True)[-1]["choices"][0]["finish_reason"] == "stop"
    until(nothing_runs)
    row = DailyUsage.objects.get()
    assert (row.requests, row.prompt_tokens) == (2, 140)


def test_an_account_that_goes_leaves_no_reservation(transactional_db: None) -> None:
    kim = make_user("kim")
    budget = TokenBudget.objects.create(subject="group:1", day=timezone.now().date(), spent=5_000)
    Relay.objects.create(
        owner=kim,
        user_identifier=f"user:{kim.pk}",
        model_type="default",
        estimated_prompt_tokens=12,
        max_tokens=4_988,
        charges=[[budget.pk, 5_000]],
    )
    kim.delete()
    budget.refresh_from_db()
    assert (budget.spent, Relay.objects.count()) == (12, 0)
    assert DailyUsage.objects.get().estimated_prompt_tokens == 12


def test_a_process_makes_as_many_as_it_may(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_ANSWERS_PER_PROCESS": 1}
    model.script = [answer("one", "two", gate="busy", gate_at=1)]
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        next(lines)
        refused = ask(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_busy")
        assert client.post("/chat", json={"message": "hi", "stream": False}).json()["code"] == "server_busy"
        model.gate("busy").open()
        chunks(lines)


def test_a_key_that_is_revoked_ends_the_stream(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings, CREDENTIAL_INTERVAL=0.05)
    kim = make_user("kim")
    client.headers.update(key_of(kim))
    model.script = [answer("one", "two", endless=True, delay=0.02)]
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        next(lines)
        ApiKey.objects.filter(user=kim).update(revoked_at=timezone.now())
        *_chunks, error, end = [line for line in lines if line.startswith("data: ")]
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "authentication_error"
    assert end == "data: [DONE]"
    model.wait_until(lambda: model.requests[-1].closed_by_client)


# What a model's server refuses or sends ------------------------------------------------------------------------------
def test_what_one_caller_asks_for_is_not_left_out_for_others(client: httpx.Client, model: ScriptedUpstream) -> None:
    memory.forget()
    refusal = status(400, {"error": {"message": "Invalid value for response_format", "param": "response_format"}})
    model.script = [refusal, answer("{}")]
    refused = ask(client, response_format={"type": "nonsense"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert model.calls == 1
    assert ask(client, response_format={"type": "json_object"}).status_code == 200
    assert model.requests[-1].body["response_format"] == {"type": "json_object"}


def test_thoughts_that_a_caller_sends_back_are_for_who_wants_them(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    memory.forget()
    called = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [called], "reasoning_content": "hm"},
        {"role": "tool", "content": "sun", "tool_call_id": "a"},
    ]
    refusal = {"error": {"message": "reasoning_content is missing in assistant tool call message at index 1"}}
    model.script = [status(400, refusal), answer("yes")]
    assert ask(client, messages=messages, tools=[TOOL]).status_code == 200
    refused, taken = (request.body["messages"][1] for request in model.requests[-2:])
    assert "reasoning_content" not in refused
    assert taken["reasoning_content"] == "hm"
    memory.forget()


def test_a_call_without_a_name_is_passed_over(client: httpx.Client, model: ScriptedUpstream) -> None:
    nameless = {"index": 0, "id": "a", "function": {"arguments": "{}"}}
    named = {"index": 1, "id": "b", "function": {"name": "weather", "arguments": "{}"}}
    lines = [json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}) for call in (nameless, named)]
    model.script = [events(*lines, "[DONE]"), events(*lines, "[DONE]")]
    (call,) = ask(client, tools=[TOOL]).json()["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "b", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    parts = streamed(client, tools=[TOOL], stream=True)
    assert parts[1]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


def test_a_line_end_in_a_text_ends_no_line(client: httpx.Client, model: ScriptedUpstream) -> None:
    text = "a\u2028b\u2029c\x85d"
    model.script = [answer(text)]
    assert said(streamed(client, stream=True)) == text


def test_what_turns_out_to_be_thought_is_no_content() -> None:
    told = Told("m")
    for delta in (ContentDelta("hm"), ThoughtSoFar(), ContentDelta("yes")):
        told.take(delta)
    message = told.whole()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "yes")


def test_the_arguments_of_calls_pay_for_the_bytes_around_them() -> None:
    async def flow(delta: Delta) -> None:
        counted = Flow(most=4_096)
        for _number in range(200):
            counted.said(delta)
            counted.took(b"x" * 500)

    asyncio.run(flow(ToolCallDelta(0, arguments="{")))
    with pytest.raises(AnswerTooLarge):
        asyncio.run(flow(ToolCallDelta(0)))
    assert FREE < 200 * 500


# Ends ----------------------------------------------------------------------------------------------------------------
ENDPOINT = Endpoint(model_type="default", name="D", api_url="http://127.0.0.1:1/v1", model="m", backend="openai")


async def never_switched(_endpoint: Endpoint) -> None:
    raise AssertionError


def plan() -> RelayPlan:
    return RelayPlan(uuid.uuid4(), ENDPOINT, completions.CompletionRequest(messages=()), (), never_switched)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says one word, and then nothing for ever; nothing is stored."""

    async def stream(*_arguments: Any) -> AsyncIterator[Delta]:
        yield ContentDelta("one")
        await asyncio.Event().wait()

    monkeypatch.setattr(completions, "stream", stream)
    monkeypatch.setattr(limits_relays, "settle", lambda *_arguments, **_more: True)


async def begun(relays: Relays) -> AsyncGenerator[bytes, None]:
    batches = relays.begin(plan()).batches()
    first = await anext(batches)
    watch = CredentialWatch(Caller(user_identifier="x"))
    return views._streamed(Told("m"), first, batches, watch, include_usage=False)


@pytest.mark.usefixtures("stuck")
async def test_a_stream_that_is_cut_says_so(engine: Supervisor) -> None:
    relays = engine.relays
    stream = await begun(relays)
    assert b"one" in await anext(stream)
    waits = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)  # it waits for the model now
    await asyncio.sleep(0)
    (relaying,) = relays.running.values()
    relaying.cut(ShuttingDown())
    assert b'"shutting_down"' in await waits
    assert [line async for line in stream] == [b"data: [DONE]\n\n"]
    await relays.settled()
    assert relays.running == {}


def test_one_that_somebody_stops_ends_within_a_moment_and_is_paid_for(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("one", "two", stall=1)]
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with client.stream("POST", PATH, json=body) as response:
        lines = response.iter_lines()
        next(lines)
        relay = Relay.objects.get()
        assert overview.stop_relay(relay.pk) == relay
        assert overview.stop_relay(relay.pk) is None, "it is ending already"
        *_chunks, error, end = [line for line in lines if line.startswith("data: ")]
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "answer_stopped"
    assert end == "data: [DONE]"
    model.wait_until(lambda: model.requests[-1].closed_by_client)
    until(nothing_runs)
    row = DailyUsage.objects.get()
    assert (row.estimated_requests, row.failed_requests) == (1, 0)
    assert row.estimated_completion_tokens > 0
    assert overview.stop_relay(relay.pk) is None


def test_who_is_told_that_somebody_stopped_it_does_not_ask_again(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    """By themselves clients of OpenAI's ask again after a 409."""
    model.script = [answer("one", "two", stall=1)]
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, PATH, json=body)
        until(Relay.objects.exists)
        assert overview.stop_relay(Relay.objects.get().pk) is not None
        response = asked.result()
    assert (response.status_code, response.json()["error"]["code"]) == (409, "answer_stopped")
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.usefixtures("stuck")
async def test_one_that_is_cut_is_settled_though_its_reader_takes_nothing(engine: Supervisor) -> None:
    stream = await begun(engine.relays)
    await anext(stream)
    (relaying,) = engine.relays.running.values()
    relaying.cut(ShuttingDown())
    async with asyncio.timeout(5):
        await relaying.finished.wait()
    await stream.aclose()


@pytest.mark.usefixtures("stuck")
async def test_a_client_that_is_written_to_gets_the_end_next(engine: Supervisor) -> None:
    relays = engine.relays
    stream = await begun(relays)
    await anext(stream)
    (relaying,) = relays.running.values()
    relaying.cut(ShuttingDown())
    assert b'"shutting_down"' in await anext(stream)
    await stream.aclose()
    await relays.settled()


@pytest.mark.usefixtures("stuck")
async def test_who_leaves_at_a_ping_leaves_nothing(engine: Supervisor, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "PING_INTERVAL": 0.01}
    relays = engine.relays
    stream = await begun(relays)
    await anext(stream)
    assert await anext(stream) == PING
    await stream.aclose()
    await relays.settled()
    assert relays.running == {}


async def test_a_model_waits_for_a_slow_reader(engine: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 0

    async def stream(*_arguments: Any) -> AsyncIterator[Delta]:
        nonlocal said
        for said in range(1, 500):  # noqa: B007
            yield ContentDelta("x")
        raise AnswerTooLarge("too much")

    monkeypatch.setattr(completions, "stream", stream)
    monkeypatch.setattr(limits_relays, "settle", lambda *_arguments, **_more: True)
    batches = engine.relays.begin(plan()).batches()
    sizes = [len(await anext(batches))]
    assert said == sizes[0] == engine_relaying.MOST_WAITING
    while sum(sizes) < 499:
        sizes.append(len(await anext(batches)))
    with pytest.raises(AnswerTooLarge):  # what came before a failure is told before it
        await anext(batches)
    await engine.relays.settled()


@pytest.mark.usefixtures("stuck")
async def test_what_nobody_reads_is_given_up(engine: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_relays, "LOOK_EVERY", 0.02)
    engine.ensure_started()
    unread = engine.relays.begin(plan())
    await asyncio.wait_for(unread.finished.wait(), 30)
    assert engine.relays.running == {}
    with pytest.raises(ShuttingDown):
        await unread.begin()


@pytest.mark.usefixtures("stuck")
async def test_the_end_waits_for_none_that_nobody_reads(engine: Supervisor) -> None:
    engine.relays.begin(plan())
    await asyncio.wait_for(engine.relays.end(), 30)
    assert engine.relays.running == {}


async def test_none_begins_while_the_process_ends(engine: Supervisor) -> None:
    row = await db.write(
        Relay.objects.create, user_identifier="x", model_type="default", worker_id=engine.heartbeat.worker_id
    )
    engine.draining = True
    refused = RelayPlan(row.pk, ENDPOINT, completions.CompletionRequest(messages=()), (), never_switched)
    with pytest.raises(ShuttingDown):
        engine.begin_relay(refused)
    await engine.relays.settled()
    assert not await db.read(Relay.objects.exists)


async def test_an_end_that_was_not_stored_is_stored_later(engine: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_relays, "LOOK_EVERY", 0.05)
    settle, settled, loop = limits_relays.settle, asyncio.Event(), asyncio.get_running_loop()
    tries: list[str] = []

    def failing(relay_id: uuid.UUID, **told: Any) -> bool:
        tries.append(told["text"])
        if len(tries) == 1:
            raise DatabaseError("gone")
        done = settle(relay_id, **told)
        loop.call_soon_threadsafe(settled.set)
        return done

    async def stream(*_arguments: Any) -> AsyncIterator[Delta]:
        yield ContentDelta("one")
        yield completions.CompletionFinished("stop")

    monkeypatch.setattr(completions, "stream", stream)
    monkeypatch.setattr(limits_relays, "settle", failing)
    row = await db.write(
        Relay.objects.create, user_identifier="x", model_type="default", worker_id=engine.heartbeat.worker_id
    )
    made = RelayPlan(row.pk, ENDPOINT, completions.CompletionRequest(messages=()), (), never_switched)
    relaying = engine.begin_relay(made)
    assert ContentDelta("one") in [delta async for batch in relaying.batches() for delta in batch]
    await asyncio.wait_for(settled.wait(), 30)
    assert tries == ["one", "one"]
    assert not await db.read(Relay.objects.exists)

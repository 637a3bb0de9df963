"""AG-UI at /api/agui: a run is a stored answer, its thread a conversation; asked, told, sent again, refused."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations.agui.asked import asked_of
from conversations.agui.told import Telling
from conversations.engine.events import CONTENT, INTERRUPTED, AnswerIds, DoneEvent, Ending, Piece
from conversations.models import Conversation, Generation, Message
from conversations.services import client_requests
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, status

from .accounts import make_key, make_user, require_login
from .calling import calling
from .helpers import ARGUMENTS, JSON, asks, whole_chat

PATH = "/api/agui"
Event = dict[str, Any]


def user(text: str, name: str = "u") -> Event:
    return {"id": name, "role": "user", "content": text}


def run(*messages: Event, thread: str | None = None, **fields: Any) -> Event:
    """What a client sends, with what it always sends."""
    return {
        "threadId": thread or str(uuid.uuid4()),
        "runId": str(uuid.uuid4()),
        "protocolVersion": "1.0",
        "state": {},
        "messages": list(messages) or [user("hi")],
        "tools": [],
        "context": [],
        "forwardedProps": {},
        **fields,
    }


def told(client: httpx.Client, body: Event) -> list[Event]:
    """The events of a run, which begin and end as they have to."""
    with client.stream("POST", PATH, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    kinds = [event["type"] for event in events]
    assert kinds[0] == "RUN_STARTED"
    assert [kind for kind in kinds if kind in ("RUN_FINISHED", "RUN_ERROR")] == kinds[-1:]
    for opened in [kind for kind in kinds if kind.endswith("_START")]:
        assert kinds.count(opened) == kinds.count(opened.replace("_START", "_END"))
    return events


def text_of(events: list[Event], kind: str = "TEXT") -> str:
    return "".join(event["delta"] for event in events if event["type"] == f"{kind}_MESSAGE_CONTENT")


def asked(model: ScriptedUpstream) -> list[str]:
    """What the model was shown, the last time."""
    return [message["content"] for message in model.requests[-1].body["messages"]]


# Answers -------------------------------------------------------------------------------------------------------------
def test_a_run_is_a_stored_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo, ", "世界\u2028!", reasoning=["h", "mm"])]
    body = run(user("Who?"), forwardedProps={"temperature": 0.5, "max_tokens": 50, "anything": 1})
    events = told(client, body)
    assert (text_of(events), text_of(events, "REASONING")) == ("Hello, 世界\u2028!", "hmm")
    kinds = list(dict.fromkeys(event["type"] for event in events))
    assert kinds == [
        "RUN_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    generation = Generation.objects.get()
    for event in (events[0], events[-1]):
        assert (event["threadId"], event["runId"]) == (body["threadId"], body["runId"])
        assert event["metadata"]["generation_id"] == str(generation.pk)
        assert event["metadata"]["session_id"] == str(Conversation.objects.get().session_id)
    assert events[0]["protocolVersion"] == "1.0"
    assert events[-1]["outcome"] == {"type": "success"}
    assert (events[-1]["metadata"]["finish_reason"], events[-1]["metadata"]["status"]) == ("stop", "completed")
    usage = events[-1]["usage"][0]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"] > 0
    (begin,) = [event for event in events if event["type"] == "TEXT_MESSAGE_START"]
    assert begin == {"type": "TEXT_MESSAGE_START", "messageId": str(generation.message_id), "role": "assistant"}
    sent = model.requests[-1].body
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 50)
    assert Message.objects.get(pk=generation.message_id).content == "Hello, 世界\u2028!"


def test_a_session_is_a_thread(client: httpx.Client, model: ScriptedUpstream) -> None:
    """What is stored there is believed, not what is sent."""
    session_id = whole_chat(client, "one").json()["session_id"]
    lie = {"id": "a", "role": "assistant", "content": "never said"}
    told(client, run(user("invented"), lie, user("two"), thread=session_id))
    assert [text for text in asked(model) if "said" not in text] == ["one", "two"]
    assert "never said" not in asked(model)
    assert Conversation.objects.get().message_count == 4


def test_a_new_thread_begins_with_its_history(client: httpx.Client, model: ScriptedUpstream) -> None:
    messages = [
        {"id": "1", "role": "developer", "content": "Be brief."},
        {"id": "2", "role": "system", "content": "Be kind."},
        user("我叫小明"),
        {"id": "3", "role": "reasoning", "content": "hm"},
        {"id": "4", "role": "assistant", "content": "你好"},
        {"id": "5", "role": "activity", "activityType": "PLAN", "content": {"steps": 1}},
        user("x"),
    ]
    messages[-1]["content"] = [{"type": "text", "text": "Who am"}, {"type": "text", "text": "I?"}]
    told(client, run(*messages, context=[{"description": "Time", "value": "noon"}]))
    assert asked(model) == ["Be brief.\n\nBe kind.\n\nTime:\nnoon", "我叫小明", "你好", "Who am\nI?"]
    conversation = Conversation.objects.get()
    assert (conversation.message_count, conversation.title) == (4, "Who am I?")
    history = client.get(f"/conversations/{conversation.session_id}/history").json()["messages"]
    assert [message["content"] for message in history[:3]] == ["我叫小明", "你好", "Who am\nI?"]


def test_instructions_are_those_of_the_last_run_that_had_some(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = whole_chat(client, "one").json()["session_id"]
    told(client, run({"id": "s", "role": "system", "content": "Be kind."}, user("two"), thread=session_id))
    told(client, run(user("three"), thread=session_id))
    assert asked(model)[0] == "Be kind."


def test_the_model_is_chosen(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="other", name="Other", api_url=model.url, model="another", context_window=4096)
    told(client, run(forwardedProps={"model_type": "other"}))
    assert model.requests[-1].body["model"] == "another"
    refusal = client.post(PATH, json=run(forwardedProps={"model_type": "unknown"}))
    assert (refusal.status_code, refusal.json()["code"]) == (400, "unknown_model_type")


# Sent again ----------------------------------------------------------------------------------------------------------
def test_a_run_that_is_sent_again_is_the_same_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hello", " there", reasoning=["hm"])]
    body = run()
    first, again = told(client, body), told(client, body)
    assert (text_of(first), text_of(first, "REASONING")) == (text_of(again), text_of(again, "REASONING"))
    assert (first[0], first[-1]) == (again[0], again[-1])
    assert (model.calls, Generation.objects.count(), Conversation.objects.count()) == (1, 1, 1)


def test_what_a_client_has_is_not_told_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo ", "there", reasoning=["h", "mm"])]
    body = run()
    first = told(client, body)
    key = first[0]["metadata"]["message_id"]
    reasoning = {"id": f"{key}-reasoning", "role": "reasoning"}
    content = {"id": f"{key}", "role": "assistant"}
    question = body["messages"][0]
    for has in range(4):
        part = {**reasoning, "content": "hmm"[:has]}
        assert text_of(told(client, {**body, "messages": [question, part]}), "REASONING") == "hmm"[has:]
    for has in range(len("Hello there") + 1):
        parts = [{**reasoning, "content": "hmm"}, {**content, "content": "Hello there"[:has]}]
        again = told(client, {**body, "messages": [question, *parts]})
        assert (text_of(again, "REASONING"), text_of(again)) == ("", "Hello there"[has:])
    # A client that dropped what was thought, and one that has something else.
    again = told(client, {**body, "messages": [question, {**content, "content": "Hello"}]})
    assert (text_of(again, "REASONING"), text_of(again)) == ("hmm", " there")
    again = told(client, {**body, "messages": [question, {**content, "content": "Help"}]})
    assert text_of(again) == "Hello there"
    assert model.calls == 1


def test_a_client_that_left_finds_its_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun, ", "and the end", gate="left", gate_at=1)]
    body = run()
    with client.stream("POST", PATH, json=body) as response:
        next(line for line in response.iter_lines() if "TEXT_MESSAGE_CONTENT" in line)
    model.gate("left").open()
    assert text_of(told(client, body)) == "begun, and the end"
    assert model.calls == 1


def test_a_late_thought_is_told_in_its_place(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Each thought is a message of its own; the text is one, which goes on."""
    thoughts = [{"reasoning_content": text} for text in ("no, ", "wait")]
    model.script = [answer(deltas=[{"reasoning_content": "hm"}, {"content": "One. "}, *thoughts, {"content": "Two."}])]
    body = run()
    events = told(client, body)
    key = str(events[0]["metadata"]["message_id"])
    first, late = f"{key}-reasoning", f"{key}-reasoning-2"
    contents = [(event["messageId"], event["delta"]) for event in events if "delta" in event]
    texts: dict[str, str] = {}
    for name, text in contents:
        texts[name] = texts.get(name, "") + text
    assert texts == {first: "hm", key: "One. Two.", late: "no, wait"}
    assert contents[0][0] == first
    begun = [(event["type"], event["messageId"]) for event in events if event["type"].endswith("MESSAGE_START")]
    assert begun == [
        ("REASONING_MESSAGE_START", first),
        ("TEXT_MESSAGE_START", key),
        ("REASONING_MESSAGE_START", late),
        ("TEXT_MESSAGE_START", key),
    ]
    # Of what it has, in the middle of the late thought, the client is told the rest.
    has = [
        {"id": first, "role": "reasoning", "content": "hm"},
        {"id": key, "role": "assistant", "content": "One. "},
        {"id": late, "role": "reasoning", "content": "no, "},
    ]
    again = told(client, {**body, "messages": [body["messages"][0], *has]})
    assert (text_of(again, "REASONING"), text_of(again)) == ("wait", "Two.")


def test_a_run_id_is_for_one_message(client: httpx.Client, model: ScriptedUpstream) -> None:
    body = run()
    told(client, body)
    refusal = client.post(PATH, json={**body, "messages": [user("another")]})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "idempotency_mismatch")
    assert model.calls == 1


# Ends ----------------------------------------------------------------------------------------------------------------
def test_a_failure_is_a_run_error(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"})] * 5
    events = told(client, run())
    error = events[-1]
    assert (error["type"], error["code"], error["metadata"]["retry_after"]) == ("RUN_ERROR", "upstream_rate_limit", 7)
    assert error["message"]
    model.script = [answer("half", " of it", cut=1)]
    body = run()
    events = told(client, body)
    assert (text_of(events), events[-1]["type"]) == ("half", "RUN_ERROR")
    assert told(client, body)[-1]["code"] == events[-1]["code"]


def test_a_stop_is_a_cancelled_run(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun, ", "never", gate="stays", gate_at=1)]
    body = run()
    with client.stream("POST", PATH, json=body) as response:
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        generation_id = json.loads(next(lines))["metadata"]["generation_id"]
        next(line for line in lines if "TEXT_MESSAGE_CONTENT" in line)
        assert client.post(f"/generations/{generation_id}/stop").status_code == 200
        events = [json.loads(line) for line in lines]
    assert events[-1]["outcome"] == {"type": "cancelled"}
    assert events[-1]["metadata"]["status"] == "stopped"
    assert [event["type"] for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]


def test_what_was_interrupted_is_a_run_error() -> None:
    ids = AnswerIds(uuid.uuid4(), uuid.uuid4(), 7)
    telling = Telling("t", "r", ids, {})
    said = telling.encode(Piece(3, CONTENT, "abc"), "") + telling.encode(DoneEvent(3, ids, Ending(INTERRUPTED), 0), "")
    events = [json.loads(line.removeprefix("data: ")) for line in said.decode().split("\n\n") if line]
    assert [event["type"] for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert (events[-1]["code"], bool(events[-1]["message"])) == ("interrupted", True)


def test_clients_before_1_0_are_told_no_outcome_that_they_refuse(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    """They name no version, and throw away a run whose end has `pendingToolCallIds`, or is `cancelled`."""
    model.script = [asks("one"), answer("begun, ", "never", gate="stays", gate_at=1)]
    old = run(user("Weather?", "1"), tools=[WEATHER])
    del old["protocolVersion"]
    called = told(client, old)
    assert list(calls_of(called)) == ["one"]
    assert "outcome" not in called[-1]
    assert called[-1]["metadata"]["finish_reason"] == "tool_calls"
    with client.stream("POST", PATH, json={**old, "threadId": "another"}) as response:
        lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
        generation_id = json.loads(next(lines))["metadata"]["generation_id"]
        next(line for line in lines if "TEXT_MESSAGE_CONTENT" in line)
        client.post(f"/generations/{generation_id}/stop")
        stopped = [json.loads(line) for line in lines][-1]
    assert (stopped["type"], stopped["metadata"]["status"]) == ("RUN_FINISHED", "stopped")
    assert "outcome" not in stopped


def test_a_new_run_ends_the_one_that_its_client_left(client: httpx.Client, model: ScriptedUpstream) -> None:
    """`abortRun()` of a client says nothing to a server."""
    model.script = [answer("begun, ", "never", gate="stays", gate_at=1), answer("two")]
    first = run(user("one", "1"))
    with client.stream("POST", PATH, json=first) as response:
        next(line for line in response.iter_lines() if "TEXT_MESSAGE_CONTENT" in line)
    body = run(user("one", "1"), user("two", "2"), thread=first["threadId"])
    assert text_of(told(client, body)) == "two"
    assert asked(model) == ["one", "begun, ", "two"]
    statuses = Generation.objects.order_by("created_at").values_list("status", flat=True)
    assert list(statuses) == ["stopped", "completed"]


# Threads -------------------------------------------------------------------------------------------------------------
def shown(client: httpx.Client) -> list[str]:
    """What the branch that is shown says."""
    session_id = Conversation.objects.get().session_id
    return [message["content"] for message in client.get(f"/conversations/{session_id}/history").json()["messages"]]


@pytest.mark.parametrize("thread", ["a thread", "我的对话", str(uuid.UUID(int=7)), "t" * 128])
def test_a_client_names_its_threads(client: httpx.Client, model: ScriptedUpstream, thread: str) -> None:
    model.script = [answer("eins"), answer("zwei")]
    first = told(client, run(user("one", "1"), thread=thread))
    said = {"id": str(first[0]["metadata"]["message_id"]), "role": "assistant", "content": "eins"}
    told(client, run(user("one", "1"), said, user("two", "2"), thread=thread))
    assert shown(client) == ["one", "eins", "two", "zwei"]
    assert [event["threadId"] for event in (first[0], first[-1])] == [thread, thread]


def test_what_a_client_changed_is_a_branch(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("eins"), answer("zwei"), answer("drei"), answer("vier")]
    first = told(client, run(user("one", "1"), thread="t"))
    said = {"id": str(first[0]["metadata"]["message_id"]), "role": "assistant", "content": "eins"}
    told(client, run(user("one", "1"), said, user("two", "2"), thread="t"))
    told(client, run(user("one", "1"), said, user("another", "2"), thread="t"))
    assert shown(client) == ["one", "eins", "another", "drei"]
    # Without the answers after it the first message is answered once more.
    told(client, run(user("one", "1"), thread="t"))
    assert shown(client) == ["one", "vier"]
    assert Message.objects.filter(client_id="1").count() == 1


def test_what_follows_no_answer_is_changed_where_it_is(client: httpx.Client, model: ScriptedUpstream) -> None:
    told(client, run(user("one", "1"), user("two", "2"), thread="t"))
    told(client, run(user("one", "1"), user("deux", "2"), thread="t"))
    assert shown(client)[:2] == ["one", "deux"]


def test_a_run_that_is_refused_ends_nothing(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun, ", "and ended", gate="stays", gate_at=1)]
    first = run(user("one", "1"), thread="t")
    with client.stream("POST", PATH, json=first) as response:
        lines = response.iter_lines()
        next(line for line in lines if "TEXT_MESSAGE_CONTENT" in line)
        body = run(user("one", "1"), user("two", "2"), thread="t", forwardedProps={"model_type": "unknown"})
        assert client.post(PATH, json=body).json()["code"] == "unknown_model_type"
        assert Generation.objects.get().is_running
        model.gate("stays").open()
        assert any('"completed"' in line for line in lines)


def test_another_run_for_what_a_client_has_a_part_of_tells_the_rest(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("begun, ", "and ended")]
    first = told(client, run(user("one", "1"), thread="t"))
    part = {"id": str(first[0]["metadata"]["message_id"]), "role": "assistant", "content": "begun, "}
    again = told(client, run(user("one", "1"), part, thread="t"))
    assert (text_of(again), model.calls) == ("and ended", 1)


def test_what_failed_is_asked_again_by_another_run(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("half", " of it", cut=1), answer("whole")]
    body = run(user("one", "1"), thread="t")
    failed = told(client, body)
    part = {"id": str(failed[0]["metadata"]["message_id"]), "role": "assistant", "content": "half"}
    assert told(client, {**body, "messages": [*body["messages"], part]})[-1]["type"] == "RUN_ERROR"
    assert text_of(told(client, run(user("one", "1"), part, thread="t"))) == "whole"


def test_messages_without_names_and_of_one_name_are_taken(client: httpx.Client, model: ScriptedUpstream) -> None:
    nameless = {"role": "user", "content": "one"}
    same = {"id": "1", "role": "assistant", "content": "eins"}
    told(client, run(nameless, same, same, user("two", "1"), thread="t"))
    assert shown(client)[:4] == ["one", "eins", "eins", "two"]


# Tools ---------------------------------------------------------------------------------------------------------------
WEATHER = {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}


def calls_of(events: list[Event]) -> dict[str, str]:
    """Each call by its id, with its arguments; the events of each come one after the other."""
    found = {event["toolCallId"]: "" for event in events if event["type"] == "TOOL_CALL_START"}
    for event in events:
        if event["type"] == "TOOL_CALL_ARGS":
            found[event["toolCallId"]] += event["delta"]
    return found


def assistant(events: list[Event]) -> Event:
    """The message that a client makes of a run."""
    made = [
        {"id": key, "type": "function", "function": {"name": "weather", "arguments": arguments}}
        for key, arguments in calls_of(events).items()
    ]
    text = text_of(events)
    message = {"id": str(events[0]["metadata"]["message_id"]), "role": "assistant", "toolCalls": made}
    return {**message, "content": text} if text else message


def result(key: str, content: str = "sun", **more: Any) -> Event:
    return {"id": f"result of {key}", "role": "tool", "toolCallId": key, "content": content, **more}


def test_a_front_end_runs_the_tools(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", "two"), answer("Sunny.")]
    question = user("Weather?", "1")
    first = told(client, run(question, thread="t", tools=[WEATHER]))
    assert (text_of(first), calls_of(first)) == ("Let me look.", {"one": ARGUMENTS, "two": ARGUMENTS})
    (begin, _other) = [event for event in first if event["type"] == "TOOL_CALL_START"]
    assert (begin["toolCallName"], begin["parentMessageId"]) == ("weather", str(first[0]["metadata"]["message_id"]))
    assert first[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["one", "two"]}
    assert first[-1]["metadata"]["finish_reason"] == "tool_calls"
    results = [result("one"), result("two", "", error="no such city")]
    body = run(question, assistant(first), *results, thread="t", tools=[WEATHER])
    assert text_of(told(client, body)) == "Sunny."
    sent = model.requests[-1].body
    assert sent["tools"] == [{"type": "function", "function": WEATHER}]
    assert [(message["role"], message["content"]) for message in sent["messages"]] == [
        ("user", "Weather?"),
        ("assistant", "Let me look."),
        ("tool", "sun"),
        ("tool", "no such city"),
    ]
    assert text_of(told(client, body)) == "Sunny."
    assert (model.calls, Conversation.objects.count()) == (2, 1)


def test_a_call_that_a_client_has_a_part_of_is_told_to_its_end(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one")]
    body = run(user("Weather?", "1"), thread="t", tools=[WEATHER])
    first = told(client, body)
    for has in (0, 3, len(ARGUMENTS)):
        part = assistant(first)
        part["toolCalls"][0]["function"]["arguments"] = ARGUMENTS[:has]
        again = told(client, {**body, "messages": [*body["messages"], part]})
        assert (text_of(again), calls_of(again)) == ("", {"one": ARGUMENTS[has:]})
    assert model.calls == 1


def test_a_new_thread_goes_on_with_calls_that_were_made_elsewhere(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    made = {"id": "one", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    thought = {"id": "3", "role": "reasoning", "content": "hm"}
    calling_it = {"id": "2", "role": "assistant", "toolCalls": [made]}
    told(client, run(user("Weather?", "1"), calling_it, thought, result("one"), thread="t"))
    roles = [message["role"] for message in model.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "tool"]
    told(client, run(user("Weather?", "1"), calling_it, result("one"), user("Thanks", "4"), thread="u"))
    roles = [message["role"] for message in model.requests[-1].body["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]


def test_what_stands_between_results_is_none_of_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", "two"), answer("Sunny.")]
    question, beside = user("Weather?", "1"), {"id": "5", "role": "activity", "activityType": "PLAN", "content": {}}
    first = told(client, run(question, thread="t", tools=[WEATHER]))
    results = [result("one"), beside, result("two", "rain")]
    for thread in ("t", "u"):
        told(client, run(question, assistant(first), *results, thread=thread, tools=[WEATHER]))
        assert [message["content"] for message in model.requests[-1].body["messages"][2:]] == ["sun", "rain"]
    told(client, run(question, assistant(first), *results, user("Thanks", "6"), thread="v"))
    assert Message.objects.filter(conversation__client_id="v", role="tool").count() == 1


def test_results_go_before_what_is_said_after_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", "two")]
    question, beside = user("Weather?", "1"), {"id": "5", "role": "activity", "activityType": "PLAN", "content": {}}
    first = told(client, run(question, thread="t", tools=[WEATHER]))
    results = [result("one"), beside, result("two", "rain")]
    told(client, run(question, assistant(first), *results, user("And?", "2"), thread="t"))
    sent = [(message["role"], message["content"]) for message in model.requests[-1].body["messages"]]
    assert sent[2:] == [("tool", "sun"), ("tool", "rain"), ("user", "And?")]


def test_results_that_nobody_asked_for_are_refused(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one")]
    first = told(client, run(user("Weather?", "1"), thread="t", tools=[WEATHER]))
    body = run(user("Weather?", "1"), assistant(first), result("another"), thread="t")
    refusal = client.post(PATH, json=body)
    assert (refusal.status_code, list(refusal.json()["errors"])) == (400, ["messages"])
    assert model.calls == 1


# Refusals ------------------------------------------------------------------------------------------------------------
LONG = "x" * 100_001
TOOL = {"name": "x", "description": "x"}
BAD: dict[str, tuple[Event, str]] = {
    "a result of no call": (run({"id": "1", "role": "tool", "content": "x"}), "messages[0].toolCallId"),
    "a result of nobody": (run({"id": "1", "role": "tool", "toolCallId": "1", "content": "x"}), "messages"),
    "calls that are none": (run({"id": "1", "role": "assistant", "toolCalls": "x"}), "messages[0].toolCalls"),
    "a call without a function": (run({"id": "1", "role": "assistant", "toolCalls": [{}]}), "messages[0].toolCalls"),
    "a tool without a name": (run(tools=[{"description": "x"}]), "tools"),
    "a tool that is none": (run(tools=["x"]), "tools"),
    "tools that are none": (run(tools={}), "tools"),
    "too many tools": (run(tools=[{**TOOL, "name": f"t{number}"} for number in range(129)]), "tools"),
    "a name of a message that is none": (run({"id": 5, "role": "user", "content": "x"}), "messages[0].id"),
    "no messages": (run(messages=[]), "messages"),
    "messages that are none": (run(messages="hi"), "messages"),
    "a message that is none": (run(messages=["hi"]), "messages[0]"),
    "an unknown role": (run({"id": "1", "role": "robot", "content": "x"}), "messages[0]"),
    "a role that is none": (run({"id": "1", "role": ["user"], "content": "x"}), "messages[0]"),
    "nobody asks": (run({"id": "1", "role": "assistant", "content": "x"}), "messages"),
    "an empty message": (run(user("  ")), "messages[0]"),
    "no content": (run({"id": "1", "role": "user"}), "messages[0]"),
    "a content that is none": (run({"id": "1", "role": "user", "content": 5}), "messages[0].content"),
    "half a character": (run(user("\ud800")), "messages[0].content"),
    "a NUL": (run(user("a\x00b")), "messages[0].content"),
    "a message too long": (run(user(LONG)), "messages[0]"),
    "a part that is none": (run(user(["x"])), "messages[0].content"),  # type: ignore[arg-type]
    "instructions too long": (run({"id": "1", "role": "system", "content": LONG}, user("x")), "messages"),
    "too much history": (run(*[user("x")] * 502), "messages"),
    "no thread": (run(threadId=None), "threadId"),
    "a thread with no name": (run(threadId=""), "threadId"),
    "a thread too long": (run(threadId="x" * 129), "threadId"),
    "a thread with a line break": (run(threadId="a\nb"), "threadId"),
    "no run": (run(runId=None), "runId"),
    "a run with a blank": (run(runId="a b"), "runId"),
    "a run too long": (run(runId="x" * 201), "runId"),
    "a context that is none": (run(context={}), "context"),
    "a context of no text": (run(context=[{"description": "x", "value": 5}]), "context[0].value"),
    "a temperature": (run(forwardedProps={"temperature": 3}), "forwardedProps.temperature"),
    "too many tokens": (run(forwardedProps={"max_tokens": 10**9}), "forwardedProps.max_tokens"),
    "a model that is none": (run(forwardedProps={"model_type": 5}), "forwardedProps.model_type"),
    "an answer that nobody waits for": (run(resume=[{"interruptId": "1", "status": "resolved"}]), "resume"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_its_field(client: httpx.Client, model: ScriptedUpstream, name: str) -> None:
    body, field = BAD[name]
    refusal = client.post(PATH, content=json.dumps(body), headers=JSON)
    assert (refusal.status_code, list(refusal.json().get("errors", {}))) == (400, [field]), refusal.text
    assert (model.calls, Conversation.objects.count()) == (0, 0)


def test_the_bounds_hold(client: httpx.Client, model: ScriptedUpstream) -> None:
    body = run(*[user("x")] * 501, threadId="t" * 128, runId="r" * 200)
    assert told(client, body)[-1]["type"] == "RUN_FINISHED"
    assert Conversation.objects.get().message_count == 502


def test_a_stored_thread_may_be_longer_than_one_that_begins(client: httpx.Client, model: ScriptedUpstream) -> None:
    told(client, run(user("x", "1"), thread="t"))
    body = run(*[user("x", f"m{number}") for number in range(600)], user("and?", "2"), thread="t")
    assert told(client, body)[-1]["type"] == "RUN_FINISHED"
    assert Conversation.objects.get().message_count == 4


def test_however_many_answers_a_client_has_few_queries_look_for_them(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    told(client, run(user("one", "1"), thread="t"))
    conversation = Conversation.objects.get()
    chat = asked_of(run(user("one", "1"), *[{"id": f"9{n}", "role": "assistant"} for n in range(5000)])).chat
    with CaptureQueriesContext(connection) as queries:
        assert client_requests.answer_held(conversation, chat) is None
    assert len(queries) <= 3


def test_a_run_id_counts_in_its_thread(client: httpx.Client, model: ScriptedUpstream) -> None:
    for thread, text in (("t", "one"), ("u", "two")):
        told(client, run(user(text), thread=thread, runId="1"))
        assert asked(model)[-1] == text


def test_a_thread_of_somebody_else_is_a_new_one(
    client: httpx.Client, server: Any, model: ScriptedUpstream, settings: Any
) -> None:
    require_login(settings)
    anna, ben = make_user("anna"), make_user("ben")
    with calling(server, make_key(anna)) as hers, calling(server, make_key(ben)) as his:
        session_id = whole_chat(hers, "secret").json()["session_id"]
        body = run(user("mine"), thread=session_id)
        told(his, body)
        assert "secret" not in asked(model)
        # Nor is a run another's answer.
        assert told(hers, body)[0]["metadata"]["session_id"] == session_id
        assert asked(model)[0] == "secret"
    assert {conversation.owner for conversation in Conversation.objects.all()} == {anna, ben}
    with calling(server, None) as stranger:
        assert stranger.post(PATH, json=run()).status_code == 401

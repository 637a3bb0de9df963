"""OpenAI's responses: stored, gone on from, resumed after any event, cancelled, deleted; and passed on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conversations.models import Conversation, Generation, Message, Relay
from llmproviders.models import Preset
from tests.reliability.truth import consistent
from tests.upstream import ScriptedUpstream, answer, call, events, status

from .accounts import key_of, make_user, require_login
from .calling import until
from .helpers import stream

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
Event = dict[str, Any]


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post(PATH, json={"model": "default", "input": "hi", **body})


def told(lines: Iterator[str]) -> list[Event]:
    """The events of a stream, whose names and order are as they have to be."""
    found = []
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
            assert found[-1]["type"] == name
    numbers = [event["sequence_number"] for event in found]
    assert numbers == sorted(set(numbers))
    return found


def streamed(client: httpx.Client, **body: Any) -> list[Event]:
    with client.stream("POST", PATH, json={"model": "default", "input": "hi", "stream": True, **body}) as response:
        response.raise_for_status()
        return told(response.iter_lines())


def resumed(client: httpx.Client, response_id: str, after: int) -> list[Event]:
    query = {"stream": "true", "starting_after": str(after)}
    with client.stream("GET", f"{PATH}/{response_id}", params=query) as response:
        response.raise_for_status()
        return told(response.iter_lines())


def text_of(found: list[Event], name: str = "output_text") -> str:
    return "".join(event["delta"] for event in found if event["type"] == f"response.{name}.delta")


def output_text(response: Event) -> str:
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


# Stored --------------------------------------------------------------------------------------------------------------
def test_a_whole_response_is_stored(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hello", " there", reasoning=["hm"])]
    answered = ask(client, instructions="Be kind.", temperature=0.5, max_output_tokens=50, metadata={"a": "b"})
    body = answered.json()
    assert (body["object"], body["status"], body["store"], body["error"]) == ("response", "completed", True, None)
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert body["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert output_text(body) == "Hello there"
    assert (body["temperature"], body["max_output_tokens"], body["metadata"]) == (0.5, 50, {"a": "b"})
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"] > 0
    assert body["id"] == f"resp_{uuid.UUID(answered.headers['X-Generation-Id']).hex}"
    session_id = answered.headers["X-Session-Id"]
    assert body["conversation"] == {"id": f"conv_{uuid.UUID(session_id).hex}"}
    assert Conversation.objects.get(session_id=session_id).system_prompt == "Be kind."
    assert model.requests[0].body["messages"][0] == {"role": "system", "content": "Be kind."}
    again = client.get(f"{PATH}/{body['id']}").json()
    kept_nowhere = {"metadata", "temperature", "max_output_tokens", "model"}
    assert {**again, **{name: body[name] for name in kept_nowhere}} == body


def test_it_goes_on_from_a_response_and_branches(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = ask(client, input="one").json()
    second = ask(client, input="two", previous_response_id=first["id"]).json()
    third = ask(client, input="three", previous_response_id=first["id"]).json()
    assert (second["previous_response_id"], third["conversation"]) == (first["id"], first["conversation"])
    said = [message["content"] for message in model.requests[-1].body["messages"] if message["role"] == "user"]
    assert said == ["one", "three"]
    ask(client, input="four", conversation=third["conversation"])
    said = [message["content"] for message in model.requests[-1].body["messages"] if message["role"] == "user"]
    assert said == ["one", "three", "four"]
    assert Conversation.objects.count() == 1


def test_a_conversation_begins_with_what_was_said_elsewhere(client: httpx.Client, model: ScriptedUpstream) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "我叫小明"}]},
        {"type": "reasoning", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "你好，小明"}]},
        {"role": "user", "content": "Who am I?"},
    ]
    answered = ask(client, input=items)
    assert [message["content"] for message in model.requests[0].body["messages"]] == [
        "Be brief.",
        "我叫小明",
        "你好，小明",
        "Who am I?",
    ]
    history = client.get(f"/conversations/{answered.headers['X-Session-Id']}/history").json()["messages"]
    assert [message["content"] for message in history[:3]] == ["我叫小明", "你好，小明", "Who am I?"]
    assert Conversation.objects.get().message_count == 4
    assert client.get("/search", params={"q": "小明"}).json()["conversations"]


def test_a_stream_goes_on_after_any_of_its_events(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo, ", "世界", "!", reasoning=["h", "mm"])]
    whole = streamed(client)
    response = whole[-1]["response"]
    assert [event["type"] for event in whole[:3]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert (text_of(whole), text_of(whole, "reasoning_text")) == ("Hello, 世界!", "hmm")
    assert (whole[-1]["type"], output_text(response)) == ("response.completed", "Hello, 世界!")
    by_number = {event["sequence_number"]: event for event in whole if "delta" not in event["type"]}
    last = whole[-1]["sequence_number"]
    for after in range(last + 1):
        rest = resumed(client, response["id"], after)
        assert all(event["sequence_number"] > after for event in rest)
        expected = {number: event["type"] for number, event in by_number.items() if number > after}
        assert {event["sequence_number"]: event["type"] for event in rest if "delta" not in event["type"]} == expected
        assert text_of(rest, "reasoning_text") + text_of(rest) == "hmmHello, 世界!"[max(0, after // 16) :]


def test_it_is_resumed_while_it_is_made_and_cancelled(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun", " more", gate="go", gate_at=1)]
    begun = ask(client, background=True)
    body = begun.json()
    assert (body["status"], body["background"], body["output"]) == ("in_progress", True, [])
    until(lambda: client.get(f"/generations/{begun.headers['X-Generation-Id']}").json()["position"] == 5)
    query = {"stream": "true", "starting_after": str(16 * 2)}
    with client.stream("GET", f"{PATH}/{body['id']}", params=query) as response:
        lines = response.iter_lines()
        first = next(line for line in lines if line.startswith("data: "))
        assert json.loads(first.removeprefix("data: "))["delta"] == "gun"
        cancelled = client.post(f"{PATH}/{body['id']}/cancel").json()
        rest = told(lines)
    assert (cancelled["status"], output_text(cancelled)) == ("cancelled", "begun")
    assert (rest[-1]["type"], rest[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
    assert client.post(f"{PATH}/{body['id']}/cancel").json() == cancelled
    model.wait_until(lambda: model.requests[-1].closed_by_client)


def test_a_client_that_leaves_ends_nothing(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("begun", " more", gate="leave", gate_at=1)]
    body = {"model": "default", "input": "hi", "stream": True}
    with client.stream("POST", PATH, json=body) as response:
        next(line for line in response.iter_lines() if "output_text.delta" in line)
        key = response.headers["X-Generation-Id"]
    model.gate("leave").open()
    until(lambda: Generation.objects.get(pk=key).status == "completed")
    assert output_text(client.get(f"{PATH}/resp_{uuid.UUID(key).hex}").json()) == "begun more"


def test_what_is_cut_short_is_incomplete(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("abc", finish="length")]
    body = ask(client).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][-1]["status"] == "incomplete"


def test_a_failure_is_told(client: httpx.Client, model: ScriptedUpstream) -> None:
    refusal = status(401, {"error": {"message": "no such key"}})
    model.script = [refusal, refusal]
    refused = ask(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_authentication")
    last = streamed(client)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == "upstream_authentication"
    assert client.get(f"{PATH}/{last['response']['id']}").json()["error"] == last["response"]["error"]


def test_the_same_key_is_the_same_response(client: httpx.Client, model: ScriptedUpstream) -> None:
    client.headers["Idempotency-Key"] = "once"
    assert ask(client).json()["id"] == ask(client).json()["id"]
    assert ask(client, input="other").status_code == 422
    assert model.calls == 1


def test_deleting(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = ask(client, input="one").json()
    second = ask(client, input="two", previous_response_id=first["id"]).json()
    refused = client.delete(f"{PATH}/{first['id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid")
    assert client.delete(f"{PATH}/{second['id']}").json() == {
        "id": second["id"],
        "object": "response",
        "deleted": True,
    }
    assert client.get(f"{PATH}/{second['id']}").status_code == 404
    assert list(Message.objects.order_by("pk").values_list("role", flat=True)) == ["user", "assistant"]
    items = client.get(f"{PATH}/{first['id']}/input_items").json()
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "one"}]


def test_others_find_nothing(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    theirs = client.post(PATH, json={"model": "default", "input": "hi"}, headers=key_of(kim)).json()["id"]
    client.headers.update(key_of(lee))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        answered = client.request(method, f"{PATH}/{theirs}{path}")
        assert (answered.status_code, answered.json()["error"]["type"]) == (404, "not_found_error")
    refused = ask(client, previous_response_id=theirs)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "previous_response_not_found")
    session = Conversation.objects.get().session_id
    assert ask(client, conversation=f"conv_{session.hex}").status_code == 404
    assert Conversation.objects.count() == 1


def test_all_that_is_sent_is_new_to_a_conversation(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = ask(client, input="one", instructions="Be kind.").json()
    items = [{"role": "user", "content": "two"}, {"role": "user", "content": "three"}]
    again = ask(client, input=items, instructions="Be brief.", previous_response_id=first["id"])
    sent = [message["content"] for message in model.requests[-1].body["messages"]]
    assert (sent[0], sent[1], sent[-1]) == ("Be brief.", "one", "two\n\nthree")
    assert again.json()["instructions"] == "Be brief."
    history = client.get(f"/conversations/{again.headers['X-Session-Id']}/history").json()["messages"]
    assert [message["content"] for message in history if message["role"] == "user"] == ["one", "two", "three"]
    assert Conversation.objects.get().message_count == len(history) == 5


def test_items_are_known_by_their_ids(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hello"), answer("again")]
    item = ask(client, input="one").json()["output"][0]
    items = [{"role": "user", "content": "one"}, {"type": "item_reference", "id": item["id"]}]
    ask(client, input=[*items, {"role": "user", "content": "two"}])
    assert [message["content"] for message in model.requests[-1].body["messages"]] == ["one", "Hello", "two"]


def test_a_conversation_s_own_model_answers(client: httpx.Client, model: ScriptedUpstream) -> None:
    Preset.objects.create(type="other", name="Other", api_url=model.url, model="other-model")
    session_id = client.post("/conversations", json={"model_type": "other"}).json()["session_id"]
    for body in ({}, {"model": "default"}):
        response = client.post(PATH, json={"input": "hi", "conversation": f"conv_{session_id}", **body})
        assert (response.status_code, model.requests[-1].body["model"]) == (200, "other-model")


def test_in_the_background_it_goes_on_whatever_the_setting(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ON_DISCONNECT": "cancel"}
    model.script = [answer("begun", " more", gate="later", gate_at=1), answer("x", gate="never")]
    client.headers["Idempotency-Key"] = "one"
    key = ask(client, background=True).json()["id"]
    until(lambda: bool(model.requests))
    with client.stream("GET", f"{PATH}/{key}", params={"stream": "true"}) as response:
        next(line for line in response.iter_lines() if "delta" in line)
    model.gate("later").open()
    until(lambda: client.get(f"{PATH}/{key}").json()["status"] == "completed")
    assert ask(client, background=True).json()["status"] == "completed", "the same key, and it has ended"


def test_cancelling_what_has_failed_tells_it(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(401, {"error": {"message": "no such key"}})]
    key = streamed(client)[-1]["response"]["id"]
    cancelled = client.post(f"{PATH}/{key}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "failed")


def test_a_failure_that_is_stored_is_not_tried_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [events("[DONE]")] * 3
    assert ask(client).headers["x-should-retry"] == "false"


def test_the_head_of_a_stream(client: httpx.Client, model: ScriptedUpstream) -> None:
    key = ask(client).json()["id"]
    head = client.head(f"{PATH}/{key}", params={"stream": "true"})
    assert (head.status_code, head.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")


# Passed on -----------------------------------------------------------------------------------------------------------
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
SHOWN_BY_A_TOOL = [
    {"role": "user", "content": "hi"},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": [IMAGE]},
]


@pytest.mark.parametrize("body", [{"store": False}, {"input": SHOWN_BY_A_TOOL}])
def test_what_is_passed_on_is_not_stored(client: httpx.Client, model: ScriptedUpstream, body: Event) -> None:
    model.script = [answer("a", "b"), answer("a", "b")]
    whole = ask(client, **body).json()
    assert (whole["store"], output_text(whole)) == (False, "ab")
    found = streamed(client, **body)
    assert (text_of(found), output_text(found[-1]["response"])) == ("ab", "ab")
    until(lambda: not Relay.objects.exists())
    assert not Conversation.objects.exists()
    assert client.get(f"{PATH}/{whole['id']}").status_code == 404


def test_tools_go_there_and_back(client: httpx.Client, model: ScriptedUpstream) -> None:
    called = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":'}}
    more = {"index": 0, "function": {"arguments": ' "Bonn"}'}}
    lines = [json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}) for call in (called, more)]
    lines += [json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}), "[DONE]"]
    model.script = [events(*lines), events(*lines), answer("rain")]
    (call,) = ask(client, tools=[TOOL], tool_choice={"type": "function", "name": "weather"}).json()["output"]
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"city": "Bonn"}')
    sent = model.requests[0].body
    assert sent["tools"] == [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    found = streamed(client, tools=[TOOL])
    assert text_of(found, "function_call_arguments") == '{"city": "Bonn"}'
    done = next(event for event in found if event["type"] == "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("weather", '{"city": "Bonn"}')
    items = [{"role": "user", "content": "hi"}, call, {"type": "function_call_output", "call_id": "c1", "output": "8"}]
    assert output_text(ask(client, input=items, tools=[TOOL]).json()) == "rain"
    assert [message["role"] for message in model.requests[-1].body["messages"]] == ["user", "assistant", "tool"]


def test_a_choice_of_tools_is_told_as_a_completion_has_it(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Without tools theirs is said of each response, and model servers refuse it."""
    names = {"tool_choice", "parallel_tool_calls"}
    for choice in ("auto", "none", None):
        assert ask(client, tools=[], tool_choice=choice, parallel_tool_calls=True).status_code == 200
        assert not names & model.requests[-1].body.keys()
    named = {"type": "function", "name": "weather"}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [named]}
    assert ask(client, tools=[TOOL], tool_choice=allowed, parallel_tool_calls=False).status_code == 200
    theirs = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    assert model.requests[-1].body["tool_choice"] == {"type": "allowed_tools", "allowed_tools": theirs}
    assert model.requests[-1].body["parallel_tool_calls"] is False
    for field, value in {"tool_choice": "all", "parallel_tool_calls": 1}.items():
        assert ask(client, **{field: value}).json()["error"]["param"] == field


def test_what_came_of_calls_goes_on_from_a_stored_response(client: httpx.Client, model: ScriptedUpstream) -> None:
    script = answer("I look.", reasoning=["hm"], deltas=call(0, '{"city":', ' "Bonn"}', id="c1", name="weather"))
    model.script = [script, answer("rain"), answer("still")]
    asked = {"tools": [TOOL], "top_p": 0.5, "text": {"format": {"type": "json_object"}}}
    found = streamed(client, **asked)
    first = found[-1]["response"]
    assert [item["type"] for item in first["output"]] == ["reasoning", "message", "function_call"]
    assert (model.requests[0].body["top_p"], model.requests[0].body["response_format"]["type"]) == (0.5, "json_object")
    stored = client.get(f"{PATH}/{first['id']}").json()
    assert stored["output"] == first["output"]
    for number in (event["sequence_number"] for event in found):
        rest = resumed(client, first["id"], number)
        before = [event for event in found if event["sequence_number"] <= number]
        said = text_of(before, "function_call_arguments") + text_of(rest, "function_call_arguments")
        assert said == '{"city": "Bonn"}'
        assert rest == [] or rest[-1]["response"]["output"] == first["output"]
    results = [{"type": "function_call_output", "call_id": "c1", "output": "8 degrees"}]
    second = ask(client, input=results, previous_response_id=first["id"], tools=[TOOL]).json()
    assert output_text(second) == "rain"
    called, said = model.requests[-1].body["messages"][-2:]
    assert called["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Bonn"}'}
    assert said == {"role": "tool", "content": "8 degrees", "tool_call_id": "c1"}
    (item,) = client.get(f"{PATH}/{second['id']}/input_items").json()["data"]
    assert (item["type"], item["call_id"], item["output"]) == ("function_call_output", "c1", "8 degrees")
    # Whoever sends items anew refers to those that are stored here.
    references = [{"type": "item_reference", "id": each["id"]} for each in first["output"]]
    items = [{"role": "user", "content": "hi"}, *references, *results]
    assert output_text(ask(client, input=items, tools=[TOOL]).json()) == "still"
    assert model.requests[-1].body["messages"][1:] == [called, said]
    wrong = [{**results[0], "call_id": "c2"}]
    refused = ask(client, input=wrong, previous_response_id=first["id"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_what_was_thought_before_a_call_leaves_the_call_as_it_is(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    """Where the model's server says so late, and the model thinks once more after it."""
    calls = call(0, '{"city": "Bonn"}', id="c1", name="weather")
    after = [{"reasoning_content": "hm, hm, hm, hm"}, {"content": "so"}]
    model.script = [answer("let me see", "</think>", "I look. ", deltas=[*calls, *after])]
    found = streamed(client, tools=[TOOL])
    last = found[-1]["response"]
    assert [item["type"] for item in last["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "reasoning",
        "message",
    ]
    assert last["output"][2]["arguments"] == '{"city": "Bonn"}'
    assert output_text(last) == "I look. so"
    assert client.get(f"{PATH}/{last['id']}").json()["output"] == last["output"]


def test_a_call_and_a_text_do_not_mix(client: httpx.Client, model: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"x":'}}
    deltas: list[Event] = [
        {"tool_calls": [call]},
        {"content": "hello"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    model.script = [events(*[json.dumps({"choices": [{"delta": delta}]}) for delta in deltas], "[DONE]")]
    response = streamed(client, tools=[TOOL])[-1]["response"]
    assert [item.get("arguments") for item in response["output"]] == ['{"x":1}', None]
    assert output_text(response) == "hello"
    assert len({item["id"] for item in response["output"]}) == 2
    assert client.get(f"{PATH}/{response['id']}").json()["output"] == response["output"]
    generation_id = response["id"].removeprefix("resp_")
    live = stream(client, "GET", f"/generations/{generation_id}/stream")
    assert [event.get("chunk", event.get("tool_call", {}).get("arguments")) for event in live.events[:-1]] == [
        '{"x":',
        "hello",
        "1}",
    ]
    consistent(client, live)


def test_who_never_reads_leaves_nothing(client: httpx.Client, model: ScriptedUpstream) -> None:
    """What cannot be told is refused before anything begins."""
    body = '{"input": "hi", "store": false, "stream": true, "metadata": {"a": "\\ud800"}}'
    refused = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "metadata")
    assert not Relay.objects.exists()


def test_a_failure_of_what_is_passed_on(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(401, {"error": {"message": "no such key"}})]
    refused = ask(client, store=False, stream=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_authentication")
    cut = json.dumps({"choices": [{"delta": {"content": "begun"}}]})
    model.script = [events(cut)]
    last = streamed(client, store=False)[-1]
    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "upstream_protocol")
    assert output_text(last["response"]) == "begun"


# Bad input -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": " "}, "input"),
        ({"input": "a\0b"}, "input"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "input"),
        ({"instructions": 5}, "instructions"),
        ({"instructions": "x" * 20_001}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"model": 5}, "model"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
        ({"conversation": "conv_x"}, "conversation"),
        ({"conversation": "conv_" + "a" * 32, "previous_response_id": "resp_" + "a" * 32}, "conversation"),
        ({"background": True, "store": False}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"input": [{"role": "user", "content": [{"type": []}]}]}, "input[0].content[0]"),
        ({"instructions": "x", "input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "msg_9"}, {"role": "user", "content": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": "x"}] * 502}, "input"),
        ({"background": 1}, "background"),
        ({"conversation": {}}, "conversation"),
        ({"text": 5}, "text"),
        ({"reasoning": "x"}, "reasoning"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"store": False, "previous_response_id": "resp_" + "a" * 32}, "previous_response_id"),
        ({"store": False, "conversation": "conv_" + "a" * 32}, "conversation"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, model: ScriptedUpstream, body: Event, param: str) -> None:
    refused = ask(client, **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
    assert model.calls == 0
    assert not Conversation.objects.exists()
    assert not Relay.objects.exists()


@pytest.mark.parametrize("after", ["-1", "x", "9" * 13, "999999"])
def test_a_place_that_is_none(client: httpx.Client, model: ScriptedUpstream, after: str) -> None:
    key = ask(client).json()["id"]
    refused = client.get(f"{PATH}/{key}", params={"stream": "true", "starting_after": after})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_position")


def test_no_such_response(client: httpx.Client, model: ScriptedUpstream) -> None:
    for key in ("resp_x", f"resp_{uuid.uuid4().hex}"):
        assert client.get(f"{PATH}/{key}").status_code == 404
    assert model.calls == 0


# Chat completions that are stored ------------------------------------------------------------------------------------
def test_a_stored_completion(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hel", "lo", reasoning=["hm"]), answer("more"), answer("streamed")]
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "store": True}
    first = client.post("/v1/chat/completions", json=body)
    message = first.json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "hm")
    session_id = first.headers["X-Session-Id"]
    body["metadata"] = {"session_id": session_id}
    assert client.post("/v1/chat/completions", json=body).headers["X-Session-Id"] == session_id
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert (lines[-1], "streamed" in "".join(lines)) == ("data: [DONE]", True)
    history = client.get(f"/conversations/{session_id}/history").json()["messages"]
    assert [message["content"] for message in history] == ["hi", "Hello", "hi", "more", "hi", "streamed"]

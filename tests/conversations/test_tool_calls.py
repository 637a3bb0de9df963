"""Tools in chats that are stored: the model asks for calls, the client runs them and sends what came of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from websockets.sync.client import connect

from conversations.models import Conversation, Generation, Message
from llmproviders.dialect import memory
from llmproviders.models import Preset
from tests.conftest import Server
from tests.reliability.truth import consistent
from tests.upstream import ScriptedUpstream, answer, call, status

from .helpers import ARGUMENTS, Socket, Stream, asks, chat, history, stream, streaming, whole_chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def go_on(client: httpx.Client, session_id: str, results: list[dict[str, str]], **body: Any) -> Stream:
    asked = {"session_id": session_id, "tool_results": results, "tools": [WEATHER], **body}
    return stream(client, "POST", "/chat", json=asked)


def test_calls_are_streamed_stored_and_resumed(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", "two")]
    live = chat(client, "How is the weather?", tools=[WEATHER])
    calls = [
        {"index": place, "id": key, "name": "weather", "arguments": ARGUMENTS}
        for place, key in ((0, "one"), (1, "two"))
    ]
    assert (live.text, live.calls, live.done["finish_reason"]) == ("Let me look.", calls, "tool_calls")
    assert live.ids[-2].endswith(f":{len('Let me look.') + 2 * len(ARGUMENTS)}")
    consistent(client, live)
    message = history(client, live.done["session_id"])[-1]
    shown = [{"type": "tool_call", "id": each["id"], "name": "weather", "arguments": ARGUMENTS} for each in calls]
    assert message["parts"] == [{"type": "text", "text": "Let me look."}, *shown]
    assert (message["content"], message["reasoning"]) == ("Let me look.", "")


def test_what_came_of_a_call_goes_to_the_model_and_it_goes_on(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("It is sunny.")]
    first = chat(
        client, "How is the weather?", tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    ).done
    live = go_on(client, first["session_id"], [{"id": "one", "content": "sun"}])
    assert (live.text, live.done["status"]) == ("It is sunny.", "completed")
    asked, went_on = (request.body for request in model.requests[-2:])
    assert (asked["tools"], asked["tool_choice"], asked["parallel_tool_calls"]) == ([WEATHER], "required", False)
    assert went_on["messages"] == [
        {"role": "user", "content": "How is the weather?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "one", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}],
        },
        {"role": "tool", "content": "sun", "tool_call_id": "one"},
    ]
    roles = [(message["role"], message["content"]) for message in history(client, first["session_id"])]
    assert roles == [
        ("user", "How is the weather?"),
        ("assistant", "Let me look."),
        ("tool", "sun"),
        ("assistant", "It is sunny."),
    ]
    parts = history(client, first["session_id"])[2]["parts"]
    assert parts == [{"type": "tool_result", "id": "one", "content": "sun"}]


def test_what_was_thought_before_a_call_goes_back_to_a_model_that_wants_it(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    memory.forget()
    thinks = answer(deltas=[{"reasoning_content": "Which city?"}, *call(0, ARGUMENTS, id="one", name="weather")],
                    finish="tool_calls")  # fmt: skip
    reason = "The `reasoning_content` in the thinking mode must be passed back to the API."
    model.script = [thinks, status(400, {"error": {"message": reason}}), answer("It is sunny.")]
    first = chat(client, "How is the weather?", tools=[WEATHER]).done
    live = go_on(client, first["session_id"], [{"id": "one", "content": "sun"}])
    assert (live.text, live.done["status"]) == ("It is sunny.", "completed")
    refused, taken = (request.body["messages"][1] for request in model.requests[-2:])
    assert "reasoning_content" not in refused
    assert taken == {**refused, "reasoning_content": "Which city?"}
    memory.forget()


def test_a_later_turn_sees_the_call_and_its_result(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text=""), answer("Sunny.")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    go_on(client, first["session_id"], [{"id": "one", "content": "sun"}])
    chat(client, "Thanks", session_id=first["session_id"])
    said = model.requests[-1].body["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "user"]


def test_a_call_that_nobody_ran_is_left_out_of_what_the_model_sees(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    """Models' servers refuse a call without a result."""
    model.script = [asks("one", "two")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    chat(client, "Never mind", session_id=first["session_id"])
    assert model.requests[-1].body["messages"][1] == {"role": "assistant", "content": "Let me look."}
    model.script = [asks("one", "two")]
    second = chat(client, "Weather?", tools=[WEATHER]).done
    go_on(client, second["session_id"], [{"id": "two", "content": "rain"}])
    answered = model.requests[-1].body["messages"][1]["tool_calls"]
    assert [each["id"] for each in answered] == ["two"]


def test_a_whole_answer_has_its_calls(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text="")]
    body = whole_chat(client, "Weather?", tools=[WEATHER]).json()
    assert (body["assistant_reply"], body["finish_reason"]) == ("", "tool_calls")
    assert body["tool_calls"] == [{"id": "one", "name": "weather", "arguments": ARGUMENTS}]


def test_a_call_without_arguments_has_a_place_in_the_text(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Whoever resumes where it begins gets it whole, whoever resumes after it nothing of it."""
    model.script = [answer("a", deltas=[*call(0, id="x"), {"content": "b"}])]
    live = chat(client, "hi", tools=[WEATHER])
    assert live.calls == [{"index": 0, "id": "x", "name": "look_up", "arguments": "{}"}]
    url = f"/generations/{live.done['generation_id']}/stream"
    assert [len(stream(client, "GET", f"{url}?after={after}").calls) for after in (0, 2, 4)] == [1, 1, 0]
    consistent(client, live)


def test_text_between_a_call_and_its_arguments_is_no_end_of_it(client: httpx.Client, model: ScriptedUpstream) -> None:
    begin, more = call(0, ARGUMENTS, id="x")
    model.script = [answer(deltas=[begin, {"content": "\n"}, more])]
    live = chat(client, "hi", tools=[WEATHER])
    assert (live.text, [each["arguments"] for each in live.calls]) == ("\n", [ARGUMENTS])
    consistent(client, live)


def test_calls_that_all_begin_before_their_arguments_come(client: httpx.Client, model: ScriptedUpstream) -> None:
    (first, *one), (second, *two) = call(0, '{"a": 1}', id="x"), call(1, '{"b": 2}', id="y")
    model.script = [answer(deltas=[first, second, *one, *two])]
    live = chat(client, "hi", tools=[WEATHER])
    assert [(each["id"], each["arguments"]) for each in live.calls] == [("x", '{"a": 1}'), ("y", '{"b": 2}')]
    consistent(client, live)


def test_calls_of_one_id_get_ids_of_their_own(client: httpx.Client, model: ScriptedUpstream) -> None:
    """As of servers that give the name of the tool for one: results have to name one call."""
    model.script = [answer(deltas=[*call(0, "{}", id="look_up"), *call(1, "{}", id="look_up")]), answer("done")]
    live = chat(client, "hi", tools=[WEATHER])
    ids = [each["id"] for each in live.calls]
    assert (len(set(ids)), ids[0]) == (2, "look_up")
    results = [{"id": each, "content": "x"} for each in ids]
    assert go_on(client, live.done["session_id"], results).text == "done"


def test_arguments_that_are_no_json_are_not_sent_on(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer(deltas=call(0, '{"city', id="x"), finish="length"), answer("done")]
    live = chat(client, "hi", tools=[WEATHER])
    go_on(client, live.done["session_id"], [{"id": "x", "content": "cut"}])
    (sent,) = model.requests[-1].body["messages"][1]["tool_calls"]
    assert sent["function"]["arguments"] == "{}"
    assert live.calls[0]["arguments"] == '{"city'


def test_who_takes_no_tools_answers_instead_once_they_are_of_earlier_turns(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    Preset.objects.create(type="plain", name="P", api_url=model.url, model="plain", takes_tools=False)
    Preset.objects.create(type="first", name="F", api_url=model.url, model="m", fallbacks="plain")
    model.script = [asks("one"), answer("Sunny."), status(401, {"error": {"message": "no"}}), answer("Bye.")]
    first = chat(client, "Weather?", tools=[WEATHER], model_type="first").done
    go_on(client, first["session_id"], [{"id": "one", "content": "sun"}], model_type="first")
    assert chat(client, "Thanks", session_id=first["session_id"], model_type="first").text == "Bye."
    assert [message["role"] for message in model.requests[-1].body["messages"]] == ["user", "assistant", "user"]


def test_reasoning_after_text_is_kept_in_its_place(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a", reasoning=["hm"], deltas=[{"reasoning_content": "so"}, {"content": "b"}])]
    live = chat(client, "hi")
    assert (live.text, live.reasoning, live.done["reasoning_chars"]) == ("ab", "hmso", 2)
    consistent(client, live)
    parts = history(client, live.done["session_id"])[-1]["parts"]
    assert [(part["type"], part["text"]) for part in parts] == [
        ("reasoning", "hm"),
        ("text", "a"),
        ("reasoning", "so"),
        ("text", "b"),
    ]


def test_a_stop_keeps_the_call_as_far_as_it_came(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer(deltas=call(0, '{"city', "never", id="x"), gate="g", gate_at=2)]
    with streaming(client, "POST", "/chat", json={"message": "hi", "tools": [WEATHER]}) as (live, blocks):
        while not live.calls:
            next(blocks)
        client.post(f"/generations/{live.headers['x-generation-id']}/stop")
        list(blocks)
    assert (live.done["status"], live.calls[0]["arguments"]) == ("stopped", '{"city')
    consistent(client, live)
    model.gate("g").open()


def test_regenerating_after_results_asks_with_them_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("Sunny."), answer("Bright.")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    done = go_on(client, first["session_id"], [{"id": "one", "content": "sun"}]).done
    again = stream(client, "POST", f"/messages/{done['message_id']}/regenerate", json={"tools": [WEATHER]})
    assert again.text == "Bright."
    assert model.requests[-1].body["messages"] == model.requests[-2].body["messages"]


def test_over_the_socket_as_over_sse(server: Server, client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("Sunny.")]
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="chat", id="x", message="Weather?", tools=[WEATHER])
        frames = socket.reply("x")
        told = consistent(client, frames[1:])
        assert told.calls == (("one", "weather", ARGUMENTS),)
        results = [{"id": "one", "content": "sun"}]
        socket.send(type="chat", id="y", session_id=told.session_id, tool_results=results, tools=[WEATHER])
        assert consistent(client, socket.reply("y")[1:]).text == "Sunny."


def test_results_are_counted_and_not_found(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("Sunny.")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    go_on(client, first["session_id"], [{"id": "one", "content": "thermometer"}])
    assert client.get(f"/conversations/{first['session_id']}").json()["message_count"] == 4
    assert client.get("/search", params={"q": "thermometer"}).json()["conversations"] == []
    call_command("rebuild_search", "--all", verbosity=0)
    assert client.get("/search", params={"q": "thermometer"}).json()["conversations"] == []


WRONG = [
    ({"tool_results": [{"id": "one", "content": "x"}]}, "tool_results"),
    ({"tool_results": [{"id": "one", "content": "x"}], "message": "hi"}, "tool_results"),
    ({"tool_results": []}, "tool_results"),
    ({"tool_results": [{"id": "one"}]}, "tool_results"),
    ({"tool_results": [{"id": "one", "content": "x\0"}]}, "tool_results"),
    ({}, "message"),
    ({"message": None}, "message"),
    ({"message": "hi", "tools": [{}]}, "tools"),
    ({"message": "hi", "tools": [{"type": "web_search"}]}, "tools"),
    ({"message": "hi", "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
    ({"message": "hi", "tools": [WEATHER, WEATHER]}, "tools"),
    ({"message": "hi", "tools": [WEATHER] * 129}, "tools"),
    ({"message": "hi", "tools": [{**WEATHER, "more": 1}]}, "tools"),
    ({"message": "hi", "tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools"),
    ({"message": "hi", "tool_choice": "auto"}, "tool_choice"),
    ({"message": "hi", "tools": [WEATHER], "tool_choice": "weather"}, "tool_choice"),
    (
        {"message": "hi", "tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        "tool_choice",
    ),
    ({"message": "hi", "parallel_tool_calls": 1}, "parallel_tool_calls"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_and_changes_nothing(
    client: httpx.Client, model: ScriptedUpstream, body: dict[str, Any], field: str
) -> None:
    refused = client.post("/chat", json=body)
    assert (refused.status_code, refused.json()["code"], list(refused.json()["errors"])) == (400, "invalid", [field])
    assert not Message.objects.exists()
    assert not Conversation.objects.exists()
    assert model.calls == 0


@pytest.mark.parametrize("ids", [["other"], ["one", "one"], ["one", "other"]])
def test_results_of_calls_that_were_not_asked_for_are_refused(
    client: httpx.Client, model: ScriptedUpstream, ids: list[str]
) -> None:
    model.script = [asks("one", "two")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    results = [{"id": each, "content": "x"} for each in ids]
    refused = client.post("/chat", json={"session_id": first["session_id"], "tool_results": results})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["tool_results"])
    assert (Message.objects.count(), Generation.objects.count(), model.calls) == (2, 1, 1)


def test_results_can_name_the_answer_of_another_branch(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("Other."), answer("Sunny.")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    stream(client, "POST", f"/messages/{first['message_id']}/regenerate", json={})
    results = [{"id": "one", "content": "sun"}]
    live = go_on(client, first["session_id"], results, parent_id=first["message_id"])
    assert live.text == "Sunny."
    assert [message["content"] for message in history(client, first["session_id"])][-1] == "Sunny."


def test_a_key_is_for_one_set_of_tools(client: httpx.Client, model: ScriptedUpstream) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"message": "hi", "tools": [WEATHER], "stream": False}
    first = client.post("/chat", json=body, headers=headers).json()
    assert client.post("/chat", json=body, headers=headers).json() == first
    turned = {"function": dict(reversed(WEATHER["function"].items())), "type": "function"}  # type: ignore[attr-defined]
    assert client.post("/chat", json={**body, "tools": [turned]}, headers=headers).json() == first
    assert client.post("/chat", json={"message": "hi", "stream": False}, headers=headers).status_code == 422
    assert model.calls == 1


def test_a_model_that_takes_no_tools_gets_none(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Not those of before it was chosen either; offered to it, they are refused by name."""
    Preset.objects.create(type="plain", name="P", api_url=model.url, model="m", takes_tools=False)
    model.script = [asks("one"), answer("Sunny.")]
    first = chat(client, "Weather?", tools=[WEATHER]).done
    done = go_on(client, first["session_id"], [{"id": "one", "content": "sun"}]).done
    chat(client, "Thanks", session_id=first["session_id"], model_type="plain")
    assert model.requests[-1].body["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me look.\n\nSunny."},
        {"role": "user", "content": "Thanks"},
    ]
    refused = client.post("/chat", json={"message": "hi", "tools": [WEATHER], "model_type": "plain"})
    assert (refused.json()["code"], list(refused.json()["errors"])) == ("tools_not_supported", ["tools"])
    again = client.post(f"/messages/{done['message_id']}/regenerate", json={"model_type": "plain"})
    assert (again.json()["code"], list(again.json()["errors"])) == ("tools_not_supported", ["tool_results"])


def test_without_tools_a_call_is_no_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text="")]
    assert chat(client, "hi").error["code"] == "empty_answer"


def test_what_tools_take_of_the_window_is_reckoned(client: httpx.Client, model: ScriptedUpstream) -> None:
    big = json.loads(json.dumps(WEATHER))
    big["function"]["description"] = "word " * 1900
    tools = [json.loads(json.dumps(big).replace('"weather"', f'"weather{number}"')) for number in range(6)]
    refused = client.post("/chat", json={"message": "hi", "tools": tools})
    assert (refused.status_code, refused.json()["code"]) == (400, "context_length")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [[None, None]]},
        {"tools": ["x"]},
        {"tools": [{"type": "function", "function": [None]}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": [None, None]}},
    ],
    ids=["a list", "a text", "a list for a function", "a list for the one that is chosen"],
)
def test_what_is_no_tool_is_refused(client: httpx.Client, model: ScriptedUpstream, fields: dict[str, Any]) -> None:
    refusal = client.post("/chat", json={"message": "hi", **fields})
    assert (refusal.status_code, list(refusal.json()["errors"])) == (400, [list(fields)[-1]])

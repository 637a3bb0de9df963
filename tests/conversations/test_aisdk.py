"""The AI SDK's UI message stream at /api/chat: asked, told, named, edited, asked again, resumed, refused."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from conversations.models import Attachment, Conversation, Generation, Message
from tests.upstream import ScriptedUpstream, answer, call, status

from . import pictures
from .accounts import key_of, make_user, require_login
from .calling import until
from .helpers import JSON, asks

PATH = "/api/chat"
WEATHER = {"name": "weather", "description": "Tell it", "inputSchema": {"type": "object", "properties": {}}}
Part = dict[str, Any]


def ran(name: str, **outputs: Any) -> dict[str, Any]:
    """The client's message with calls that it has run."""
    parts = [
        {"type": "tool-weather", "toolCallId": key, "state": "output-available", "input": {}, "output": output}
        for key, output in outputs.items()
    ]
    return {"id": name, "role": "assistant", "parts": [{"type": "step-start"}, *parts]}


def said(text: str, name: str | None = None, role: str = "user") -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "parts": [{"type": "text", "text": text}]}
    return message if name is None else {"id": name, **message}


def showing(*urls: str, text: str = "", name: str | None = None) -> dict[str, Any]:
    """A message with images, as the client sends files."""
    message = said(text, name)
    files = [{"type": "file", "mediaType": "image/png", "url": url} for url in urls]
    return {**message, "parts": [*files, *(message["parts"] if text else [])]}


def body_of(*messages: dict[str, Any], chat: str = "chat-1", **more: Any) -> dict[str, Any]:
    return {"id": chat, "messages": list(messages), "trigger": "submit-message", **more}


def parts_of(lines: Iterator[str]) -> list[Part]:
    """The parts of a stream, which ends as it has to."""
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert "[DONE]" not in data[:-1]
    return [json.loads(each) for each in data[:-1]]


def ask(client: httpx.Client, *messages: dict[str, Any], **more: Any) -> list[Part]:
    with client.stream("POST", PATH, json=body_of(*messages, **more)) as response:
        assert response.status_code == 200, response.read()
        return parts_of(response.iter_lines())


def resumed(client: httpx.Client, chat: str) -> list[Part]:
    with client.stream("GET", f"{PATH}/{chat}/stream") as response:
        assert response.status_code == 200, response.read()
        return parts_of(response.iter_lines())


def refusal(client: httpx.Client, *messages: dict[str, Any], **more: Any) -> httpx.Response:
    return client.post(PATH, json=body_of(*messages, **more))


@contextmanager
def begun(client: httpx.Client, *messages: dict[str, Any], **more: Any) -> Iterator[Iterator[str]]:
    """Open a stream and read up to its first text; the connection is dropped after the block."""
    with client.stream("POST", PATH, json=body_of(*messages, **more)) as response:
        lines = response.iter_lines()
        assert any("-delta" in line for line in lines)
        yield lines


def text_of(parts: list[Part], kind: str = "text") -> str:
    return "".join(part["delta"] for part in parts if part["type"] == f"{kind}-delta")


def kinds(parts: list[Part]) -> list[str]:
    return [part["type"] for part in parts]


def start_of(parts: list[Part]) -> dict[str, Any]:
    metadata: dict[str, Any] = parts[0]["messageMetadata"]
    return metadata


def conversation_of(parts: list[Part]) -> Conversation:
    return Conversation.objects.get(session_id=start_of(parts)["session_id"])


def prompts(model: ScriptedUpstream) -> list[list[tuple[str, str]]]:
    """What the model was asked, call by call."""
    return [[(m["role"], m["content"]) for m in request.body["messages"]] for request in model.requests]


# Told ----------------------------------------------------------------------------------------------------------------
def test_an_answer_is_told_in_parts(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("Hello", " there", reasoning=["hm"])]
    with client.stream("POST", PATH, json=body_of(said("hi", "u1"))) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        parts = parts_of(response.iter_lines())
        message_id = response.headers["x-message-id"]
    assert kinds(parts) == [
        "start",
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        *["text-delta"] * (len(parts) - 9),
        "text-end",
        "finish-step",
        "finish",
    ]
    assert (text_of(parts, "reasoning"), text_of(parts)) == ("hm", "Hello there")
    assert len({part["id"] for part in parts if part["type"].startswith("text")}) == 1
    assert parts[0]["messageId"] == message_id
    stored = Message.objects.get(pk=message_id)
    assert start_of(parts) == {
        "session_id": str(stored.conversation.session_id),
        "message_id": stored.pk,
        "parent_id": stored.parent_id,
        "generation_id": str(stored.generation.pk),
        "model": "scripted",
        "model_type": "default",
        "status": "running",
    }
    end = parts[-1]["messageMetadata"]
    assert (end["status"], end["finish_reason"], end["model"]) == ("completed", "stop", "scripted")
    assert end["usage"]["total_tokens"] > 0


SAFE_KEYS = {
    "tool-input-start": {"type", "toolCallId", "toolName"},
    "tool-input-delta": {"type", "toolCallId", "inputTextDelta"},
    "tool-input-available": {"type", "toolCallId", "toolName", "input"},
    "tool-output-available": {"type", "toolCallId", "output"},
    "start": {"type", "messageId", "messageMetadata"},
    "finish": {"type", "messageMetadata"},
    "error": {"type", "errorText"},
    **{kind: {"type"} for kind in ("start-step", "finish-step", "abort")},
    **{f"{kind}-{what}": {"type", "id"} for kind in ("text", "reasoning") for what in ("start", "end")},
    **{f"{kind}-delta": {"type", "id", "delta"} for kind in ("text", "reasoning")},
}


@pytest.mark.parametrize(
    "behaviour",
    [answer("a", reasoning=["b"]), answer("a", cut=1), answer("a", finish="length"), asks("one", "two")],
    ids=["whole", "cut", "too long", "calls"],
)
def test_no_part_has_a_key_that_some_version_refuses(
    client: httpx.Client, model: ScriptedUpstream, behaviour: Any
) -> None:
    model.script = [behaviour]
    for part in ask(client, said("hi")):
        assert part.keys() <= SAFE_KEYS[part["type"]]


def test_what_fails_in_the_middle_is_an_error_after_the_text(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("some ", "text", cut=2)]
    parts = ask(client, said("hi"))
    assert text_of(parts) == "some text"
    assert kinds(parts)[-4:] == ["text-end", "error", "finish-step", "finish"]
    assert parts[-3]["errorText"].startswith("The model's server")
    assert parts[-1]["messageMetadata"]["status"] == "failed"


def test_what_fails_before_any_text_is_an_error_too(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(400, {"error": {"message": "no such model"}})]
    parts = ask(client, said("hi"))
    assert kinds(parts) == ["start", "start-step", "error", "finish-step", "finish"]
    assert "no such model" in parts[2]["errorText"]


def test_a_stopped_answer_ends_with_what_there_is(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one", "two", gate="g", gate_at=1)]
    with client.stream("POST", PATH, json=body_of(said("hi"))) as response:
        lines = response.iter_lines()
        assert any("text-delta" in line for line in lines)
        client.post(f"/generations/{response.headers['x-generation-id']}/stop").raise_for_status()
        rest = parts_of(lines)
    assert kinds(rest) == ["text-end", "abort", "finish-step", "finish"]
    assert rest[-1]["messageMetadata"]["status"] == "stopped"


def test_line_separators_reach_clients_that_split_at_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a\u2028b\u2029c\u0085d")]
    assert text_of(ask(client, said("hi"))) == "a\u2028b\u2029c\u0085d"


# Named ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chat", ["x", "a b/c?d#e%2F", "三😀", "x" * 128, str(uuid.UUID(int=7))])
def test_a_chat_is_gone_on_with_by_its_name(client: httpx.Client, model: ScriptedUpstream, chat: str) -> None:
    model.script = [answer("one"), answer("two")]
    first = ask(client, said("hi", "u1"), chat=chat)
    forged = [said("hi", "u1"), said("forged", first[0]["messageId"], "assistant")]
    second = ask(client, *forged, said("and?", "u2"), chat=chat)
    assert start_of(first)["session_id"] == start_of(second)["session_id"]
    assert prompts(model)[1][-3:] == [("user", "hi"), ("assistant", "one"), ("user", "and?")]
    conversation = conversation_of(second)
    assert conversation.client_id == chat
    assert list(conversation.messages.order_by("pk").values_list("client_id", flat=True)) == ["u1", None, "u2", None]


@pytest.mark.parametrize("what", ["messages", "stream"])
@pytest.mark.parametrize("name", ["%0A", "a%0Db", "a/b", "%E2%80%A8", "%00"])
def test_whatever_it_is_called_a_chat_that_is_none_has_no_messages(
    client: httpx.Client, model: ScriptedUpstream, name: str, what: str
) -> None:
    refused = client.get(f"{PATH}/{name}/{what}")
    told = {"messages": (200, "application/json"), "stream": (204, None)}
    assert (refused.status_code, refused.headers.get("content-type")) == told[what]


def test_a_session_id_names_its_conversation(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/chat", json={"message": "hi", "stream": False}).json()["session_id"]
    parts = ask(client, said("and?", "u1"), chat=session_id)
    assert start_of(parts)["session_id"] == session_id
    assert conversation_of(parts).client_id is None


def test_names_that_differ_in_case_or_blanks_are_two(client: httpx.Client, model: ScriptedUpstream) -> None:
    sessions = {start_of(ask(client, said("hi", "u"), chat=chat))["session_id"] for chat in ("a", "A", "a ", " a")}
    assert len(sessions) == 4
    parts = ask(client, said("hi", "U"), chat="a")
    assert conversation_of(parts).message_count == 4


def test_an_unknown_name_with_history_makes_a_conversation_of_it(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    history = [said("Be kind.", role="system"), said("one", "u1"), said("uno", "a1", "assistant")]
    parts = ask(client, *history, said("two", "u2"))
    assert prompts(model)[0] == [("system", "Be kind."), ("user", "one"), ("assistant", "uno"), ("user", "two")]
    conversation = conversation_of(parts)
    names = conversation.messages.order_by("pk").values_list("client_id", "content")
    assert list(names)[:3] == [("u1", "one"), ("a1", "uno"), ("u2", "two")]
    assert (conversation.system_prompt, conversation.message_count) == ("Be kind.", 4)


def test_history_may_say_a_name_twice(client: httpx.Client, model: ScriptedUpstream) -> None:
    parts = ask(client, said("one", "u"), said("uno", "u", "assistant"), said("", "x", "assistant"), said("two", "u"))
    names = conversation_of(parts).messages.order_by("pk").values_list("client_id", flat=True)
    assert list(names) == [None, None, "u", None]


def test_two_owners_have_a_name_each(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    mine, theirs = (
        start_of(parts_of(client.post(PATH, json=body_of(said("hi", "u")), headers=key_of(user)).iter_lines()))
        for user in (kim, lee)
    )
    assert mine["session_id"] != theirs["session_id"]
    # One's session id is just a name for another.
    again = client.post(PATH, json=body_of(said("hi", "u"), chat=mine["session_id"]), headers=key_of(lee))
    assert start_of(parts_of(again.iter_lines()))["session_id"] not in (mine["session_id"], theirs["session_id"])


def test_a_deleted_chat_gives_its_name_up(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = start_of(ask(client, said("hi", "u1")))["session_id"]
    client.delete(f"/conversations/{first}?undo=30").raise_for_status()
    second = start_of(ask(client, said("hi", "u1")))["session_id"]
    assert second != first
    client.post(f"/conversations/{first}/restore").raise_for_status()
    assert start_of(ask(client, said("and?", "u2")))["session_id"] == second


def test_the_last_message_alone_will_do(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, said("one", "u1"))
    body = {"id": "chat-1", "message": said("two", "u2")}
    with client.stream("POST", PATH, json=body) as response:
        parts = parts_of(response.iter_lines())
    assert conversation_of(parts).message_count == 4


def test_a_page_says_how_it_is_answered(client: httpx.Client, model: ScriptedUpstream) -> None:
    more = {"model_type": "default", "temperature": 0.25, "max_tokens": 33, "temporary": True, "theme": {"dark": [1]}}
    parts = ask(client, said("hi", "u1"), **more)
    assert (model.requests[0].body["temperature"], model.requests[0].body["max_tokens"]) == (0.25, 33)
    assert conversation_of(parts).is_temporary
    assert conversation_of(ask(client, said("and?", "u2"), **more)) == conversation_of(parts)


def test_a_name_that_counts_is_no_id_of_a_message_that_has_a_name(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    first = Message.objects.get(pk=start_of(ask(client, said("one", "u1")))["parent_id"])
    parts = ask(client, said("two", str(first.pk)))
    assert conversation_of(parts).message_count == 4


# Edited and asked again ----------------------------------------------------------------------------------------------
def test_a_message_is_edited_beside_itself(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, said("one", "u1"))
    second = ask(client, said("two", "u2"))
    edited = ask(client, said("deux", "u2"), messageId="u2")
    question = Message.objects.get(content="deux")
    assert question.parent_id == Message.objects.get(pk=start_of(second)["parent_id"]).parent_id
    assert prompts(model)[-1][-1] == ("user", "deux")
    assert ("user", "two") not in prompts(model)[-1]
    conversation = conversation_of(edited)
    assert (conversation.message_count, conversation.active_leaf_id) == (4, start_of(edited)["message_id"])
    assert list(Message.objects.filter(client_id="u2").values_list("content", flat=True)) == ["deux"]


def test_the_first_message_is_edited_at_the_root(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, said("one", "u1"))
    edited = ask(client, said("uno", "u1"), messageId="u1")
    assert Message.objects.get(content="uno").parent_id is None
    assert conversation_of(edited).message_count == 2


def test_a_message_of_another_door_is_edited_by_our_id(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/chat", json={"message": "one", "stream": False}).json()["session_id"]
    question = Message.objects.get(content="one")
    ask(client, said("uno", str(question.pk)), messageId=str(question.pk), chat=session_id)
    assert prompts(model)[-1][-1] == ("user", "uno")
    again = ask(client, said("ein", str(question.pk)), messageId=str(question.pk), chat=session_id)
    assert conversation_of(again).message_count == 2


def test_something_new_is_said_after_the_answer_that_the_client_has(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    first = ask(client, said("one", "u1"))
    ask(client, said("two", "u2"))
    answered = said("uno", first[0]["messageId"], "assistant")
    third = ask(client, said("one", "u1"), answered, said("three", "u3"))
    assert Message.objects.get(content="three").parent_id == start_of(first)["message_id"]
    assert conversation_of(third).message_count == 4


@pytest.mark.parametrize("named", [True, False], ids=["by id", "the last one"])
@pytest.mark.parametrize("sends", [True, False], ids=["with messages", "without"])
def test_an_answer_is_made_again(client: httpx.Client, model: ScriptedUpstream, named: bool, sends: bool) -> None:
    first = ask(client, said("one", "u1"))
    messages = [said("one", "u1")] if sends else []
    more = {"messageId": first[0]["messageId"]} if named else {}
    again = ask(client, *messages, trigger="regenerate-message", **more)
    assert start_of(again)["parent_id"] == start_of(first)["parent_id"]
    assert start_of(again)["message_id"] != start_of(first)["message_id"]
    assert model.calls == 2


def test_what_was_never_stored_is_asked_when_it_is_asked_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    """As after a refusal: the client has a message that we do not have."""
    first = ask(client, said("one", "u1"))
    again = ask(client, said("one", "u1"), said("two", "u2"), trigger="regenerate-message")
    assert prompts(model)[-1][-1] == ("user", "two")
    assert conversation_of(again) == conversation_of(first)
    fresh = ask(client, said("one", "u1"), chat="chat-2", trigger="regenerate-message")
    assert conversation_of(fresh).client_id == "chat-2"


def test_what_follows_no_answer_is_edited_where_it_is(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, said("one", "u1"), said("two", "u2"))
    ask(client, said("one", "u1"), said("deux", "u2"), messageId="u2")
    assert prompts(model)[-1] == [("user", "one\n\ndeux")]
    model.script = [asks("one", text="")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER], chat="chat-2")[0]["messageId"]
    turn = [said("weather?", "u1"), ran(name, one="rain")]
    ask(client, *turn, said("and?", "u2"), chat="chat-2")
    ask(client, *turn, said("so?", "u2"), messageId="u2", chat="chat-2")
    assert [text for _role, text in prompts(model)[-1]][-2:] == ["rain", "so?"]


def test_a_question_that_was_changed_is_not_answered_again_but_anew(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    first = ask(client, said("one", "u1"))
    more = {"trigger": "regenerate-message", "messageId": first[0]["messageId"]}
    ask(client, said("uno", "u1"), **more)
    assert prompts(model)[-1] == [("user", "uno")]
    assert Message.objects.get(content="uno").parent_id is None


def test_what_is_asked_again_twice_is_answered_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one"), answer("two", " halves", gate="g", gate_at=1)]
    first = ask(client, said("hi", "u1"))
    more = {"trigger": "regenerate-message", "messageId": first[0]["messageId"]}
    with begun(client, said("hi", "u1"), **more):
        pass
    with begun(client, said("hi", "u1"), **more) as lines:
        model.gate("g").open()
        parts_of(lines)
    assert (model.calls, Generation.objects.filter(status="completed").count()) == (2, 2)


def test_a_name_that_an_answer_has_is_no_users_name(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, said("one", "u1"), said("uno", "m", "assistant"), said("two", "u2"))
    parts = ask(client, said("three", "m"))
    assert conversation_of(parts).message_count == 6
    assert Message.objects.get(content="three").client_id is None


# Once ----------------------------------------------------------------------------------------------------------------
def test_a_repeated_call_attaches_while_it_is_answered_and_after(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("begun, ", "and done", gate="g", gate_at=1)]
    with begun(client, said("hi", "u1")):
        pass
    with begun(client, said("hi", "u1")) as lines:
        model.gate("g").open()
        parts_of(lines)
    repeated = ask(client, said("hi", "u1"))
    assert text_of(repeated) == "begun, and done"
    assert (model.calls, Message.objects.count()) == (1, 2)


def test_two_calls_at_once_are_one_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one answer", gate="g")]
    told: list[list[Part]] = []
    threads = [threading.Thread(target=lambda: told.append(ask(client, said("hi", "u1")))) for _ in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: model.calls)
    model.gate("g").open()
    for thread in threads:
        thread.join()
    assert [text_of(parts) for parts in told] == ["one answer"] * 6
    assert (model.calls, Conversation.objects.count(), Generation.objects.count()) == (1, 1, 1)


def test_a_message_that_failed_is_answered_when_it_is_sent_once_more(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [status(400, {"error": {"message": "no"}}), answer("yes")]
    failed = ask(client, said("hi", "u1"))
    assert kinds(ask(client, said("hi", "u1")))[2] == "error", "the same call, the same answer"
    again = ask(client, said("hi", "u1"), messageId="u1")
    assert text_of(again) == "yes"
    assert start_of(again)["parent_id"] == start_of(failed)["parent_id"]


def test_something_new_ends_what_is_being_answered(client: httpx.Client, model: ScriptedUpstream) -> None:
    """The client's `stop()` drops the connection only, and then somebody says the next thing."""
    model.script = [answer("one", "never", gate="g", gate_at=1), answer("two", "never", gate="h", gate_at=1)]
    with begun(client, said("first", "u1")):
        pass
    with begun(client, said("second", "u2")):
        pass
    third = ask(client, said("second", "u2"), trigger="regenerate-message")
    assert text_of(third).startswith("You said: second")
    ended = Generation.objects.order_by("created_at").values_list("status", "message__content")
    assert [(state, text) for state, text in ended][:2] == [("stopped", "one"), ("stopped", "two")]


def test_who_turns_to_something_new_at_once_ends_each_other(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one"), answer("begun", "never", gate="g", gate_at=1)]
    ask(client, said("first", "u1"))
    with begun(client, said("second", "u2")):
        pass
    told: list[list[Part]] = []
    threads = [
        threading.Thread(target=lambda name=f"n{number}": told.append(ask(client, said(name, name))))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [parts[-1]["messageMetadata"]["status"] for parts in told]
    assert len(states) == 6
    assert set(states) <= {"stopped", "completed"}
    assert "completed" in states
    assert list(Generation.objects.exclude(status="completed").exclude(status="stopped")) == []
    model.gate("g").open()


@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
def test_what_is_refused_ends_nothing(client: httpx.Client, model: ScriptedUpstream, trigger: str) -> None:
    model.script = [answer("begun, ", "and done", gate="g", gate_at=1)]
    with begun(client, said("first", "u1")) as lines:
        text = "first" if trigger == "regenerate-message" else "second"
        name = "u1" if trigger == "regenerate-message" else "u2"
        response = refusal(client, said(text, name), model_type="none", trigger=trigger)
        assert response.headers["x-error-code"] == "unknown_model_type"
        assert Generation.objects.get().is_running
        model.gate("g").open()
        assert parts_of(lines)[-1]["messageMetadata"]["status"] == "completed"


# Resumed -------------------------------------------------------------------------------------------------------------
def test_an_answer_goes_on_without_its_client_and_is_resumed_from_its_begin(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("begun, ", "三 😀", " done", reasoning=["hm"], gate="g", gate_at=2)]
    with begun(client, said("hi", "u1"), chat="a/b c"):
        pass
    threading.Timer(0.05, model.gate("g").open).start()
    parts = resumed(client, "a%2Fb%20c")
    assert (text_of(parts, "reasoning"), text_of(parts)) == ("hm", "begun, 三 😀 done")
    stored = Message.objects.get(role="assistant")
    assert (parts[0]["messageId"], text_of(parts)) == (str(stored.pk), stored.content)


def test_where_nothing_is_answered_there_is_nothing_to_resume(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = start_of(ask(client, said("hi", "u1")))["session_id"]
    for chat in ("chat-1", session_id, "unknown", str(uuid.uuid4())):
        response = client.get(f"{PATH}/{chat}/stream")
        assert (response.status_code, response.content) == (204, b"")


def test_the_head_of_a_stream_reads_nothing(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a", "b", gate="g", gate_at=1)]
    with begun(client, said("hi", "u1")):
        head = client.head(f"{PATH}/chat-1/stream")
    assert head.status_code == 200
    assert head.headers["x-generation-id"] == str(Generation.objects.get().pk)
    model.gate("g").open()


def test_a_page_that_is_loaded_again_has_what_was_said(client: httpx.Client, model: ScriptedUpstream) -> None:
    """But for the answer that is being made, which it resumes."""
    model.script = [answer("one", reasoning=["hm"]), answer("two", "more", gate="g", gate_at=1)]
    first = ask(client, said("hi", "u1"))
    with begun(client, said("and?", "u2")):
        listed = client.get(f"{PATH}/chat-1/messages").json()
    assert [(message["id"], message["role"]) for message in listed] == [
        ("u1", "user"),
        (first[0]["messageId"], "assistant"),
        ("u2", "user"),
    ]
    assert listed[1]["parts"] == [
        {"type": "step-start"},
        {"type": "reasoning", "text": "hm", "state": "done"},
        {"type": "text", "text": "one", "state": "done"},
    ]
    begin_and_end = start_of(first) | first[-1]["messageMetadata"]
    assert listed[1]["metadata"].items() <= begin_and_end.items()
    assert client.get(f"{PATH}/unknown/messages").json() == []
    model.gate("g").open()


# Tools ---------------------------------------------------------------------------------------------------------------
def test_tools_come_by_name_as_assistant_ui_sends_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Its transport sends them with each call, also where there are none."""
    model.script = [answer("Hello."), asks("one")]
    beside = {"callSettings": {"temperature": 0.1}, "system": "Be brief.", "config": {}, "metadata": None}
    assert text_of(ask(client, said("hi", "u1"), tools={}, **beside)) == "Hello."
    assert "tools" not in model.requests[-1].body
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = {"weather": {"description": "Tell it", "parameters": schema}, "time": {"parameters": {"type": "object"}}}
    assert "tool-input-available" in kinds(ask(client, said("weather?", "u2"), tools=tools, chat="chat-2", **beside))
    weather, time = (tool["function"] for tool in model.requests[-1].body["tools"])
    assert (weather, time["name"]) == ({"name": "weather", **tools["weather"]}, "time")
    assert refusal(client, said("hi", "u3"), tools={"weather": "it"}).status_code == 400


def test_calls_are_told_and_what_came_of_them_goes_on_in_the_same_message(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [asks("one", "two"), answer("It rains.")]
    first = ask(client, said("weather?", "u1"), tools=[WEATHER])
    assert [kind for kind in kinds(first) if kind != "tool-input-delta"][2:-2] == [
        *("text-start", "text-delta", "text-end"),
        *("tool-input-start", "tool-input-available") * 2,
    ]
    called = [part for part in first if part["type"] == "tool-input-available"]
    assert [(part["toolCallId"], part["toolName"], part["input"]) for part in called] == [
        ("one", "weather", {"city": "北京"}),
        ("two", "weather", {"city": "北京"}),
    ]
    assert model.requests[0].body["tools"][0]["function"]["parameters"] == WEATHER["inputSchema"]
    name = first[0]["messageId"]
    messages = [said("weather?", "u1"), ran(name, one="rain", two={"mm": 5})]
    second = ask(client, *messages, messageId=name, tools=[WEATHER])
    assert (text_of(second), second[0]["messageId"]) == ("It rains.", name)
    assert start_of(second)["message_id"] != start_of(first)["message_id"]
    results = [(m["tool_call_id"], m["content"]) for m in model.requests[1].body["messages"] if m["role"] == "tool"]
    assert results == [("one", "rain"), ("two", '{"mm": 5}')]
    assert conversation_of(second).message_count == 4


def test_results_that_come_once_more_are_answered_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), asks("two"), answer("Done.")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    messages = [said("weather?", "u1"), ran(name, one="rain")]
    second = ask(client, *messages, messageId=name, tools=[WEATHER])
    assert ask(client, *messages, messageId=name, tools=[WEATHER])[:-1] == second[:-1]
    third = [said("weather?", "u1"), ran(name, one="rain", two="sun")]
    assert text_of(ask(client, *third, messageId=name, tools=[WEATHER])) == "Done."
    assert text_of(ask(client, *third, messageId=name, tools=[WEATHER])) == "Done."
    assert (model.calls, Message.objects.filter(role="tool").count()) == (3, 2)
    fourth = ask(client, *third, said("thanks", "u2"))
    assert conversation_of(fourth).message_count == 8, "it is said at the end of the turn"


def test_results_that_were_kept_back_go_before_what_is_said_next(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [asks("one", text="")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    ask(client, said("weather?", "u1"), ran(name, one="rain"), said("and?", "u2"))
    assert [role for role, _text in prompts(model)[-1]] == ["user", "assistant", "tool", "user"]


def test_the_last_message_alone_may_be_what_came_of_calls(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("It rains.")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    body = {"id": "chat-1", "message": ran(name, one="rain"), "messageId": name, "tools": [WEATHER]}
    for _time in range(2):
        with client.stream("POST", PATH, json=body) as response:
            assert text_of(parts_of(response.iter_lines())) == "It rains."
    assert model.calls == 2
    assert client.post(PATH, json={**body, "id": "unknown"}).status_code == 404


def test_a_reason_that_says_what_the_whole_says_is_told_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    unknown = {"type": "file", "mediaType": "image/png", "url": f"/attachments/{uuid.uuid4()}"}
    message = {"id": "u1", "role": "user", "parts": [unknown]}
    refused = client.post(PATH, json={"id": "chat-1", "messages": [message]})
    assert (refused.status_code, refused.headers["x-error-code"]) == (404, "unknown_attachment"), refused.text
    assert refused.text.count("no such attachment") == 1
    assert refused.text.startswith("messages: ")


def test_a_call_that_failed_is_told_to_the_model(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one"), answer("Sorry.")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    part = {"type": "dynamic-tool", "toolCallId": "one", "state": "output-error", "errorText": "no network"}
    ask(client, said("weather?", "u1"), {"id": name, "role": "assistant", "parts": [part]}, messageId=name)
    assert prompts(model)[-1][-1] == ("tool", "no network")


def test_an_answer_that_goes_on_is_replayed_with_what_it_goes_on_from(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [asks("one"), answer("It ", "rains.", gate="g", gate_at=1)]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    messages = [said("weather?", "u1"), ran(name, one={"mm": 5})]
    with begun(client, *messages, messageId=name, tools=[WEATHER]):
        pass
    listed = client.get(f"{PATH}/chat-1/messages").json()
    assert [message["id"] for message in listed] == ["u1", name]
    assert listed[1]["parts"][-1] == {
        "type": "tool-weather",
        "toolCallId": "one",
        "state": "output-available",
        "input": {"city": "北京"},
        "output": {"mm": 5},
    }
    threading.Timer(0.05, model.gate("g").open).start()
    parts = resumed(client, "chat-1")
    assert parts[0]["messageId"] == name
    assert [part["output"] for part in parts if part["type"] == "tool-output-available"] == [{"mm": 5}]
    assert kinds(parts).count("start-step") == kinds(parts).count("finish-step") == 2
    assert text_of(parts) == "Let me look.It rains."
    whole = client.get(f"{PATH}/chat-1/messages").json()
    assert [part["type"] for part in whole[1]["parts"]] == ["step-start", "text", "tool-weather", "step-start", "text"]
    assert whole[1]["metadata"]["status"] == "completed"


def test_a_call_that_is_no_json_comes_as_it_is(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer(deltas=call(0, '{"city', id="x", name="weather"), finish="tool_calls")]
    parts = ask(client, said("weather?"), tools=[WEATHER])
    assert [part["input"] for part in parts if part["type"] == "tool-input-available"] == ['{"city']


@pytest.mark.parametrize("arguments", ['{"a": "\\ud83d"}', '{"a": NaN}', '{"a": 1e999}', '[[["\\ud800"]]]'])
def test_arguments_that_cannot_be_told_as_json_come_as_they_are(
    client: httpx.Client, model: ScriptedUpstream, arguments: str
) -> None:
    model.script = [answer(deltas=call(0, arguments, id="x", name="weather"), finish="tool_calls"), answer("Done.")]
    parts = ask(client, said("weather?", "u1"), tools=[WEATHER])
    assert [part["input"] for part in parts if part["type"] == "tool-input-available"] == [arguments]
    name = parts[0]["messageId"]
    ask(client, said("weather?", "u1"), ran(name, x=arguments), messageId=name, tools=[WEATHER])
    called = client.get(f"{PATH}/chat-1/messages").json()[1]["parts"][1]
    assert (called["input"], called["output"]) == (arguments, arguments)


def test_what_is_said_after_results_is_a_message_of_its_own(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text="")]
    name = ask(client, said("weather?", "u1"), tools=[WEATHER])[0]["messageId"]
    last = ask(client, said("weather?", "u1"), ran(name, one="rain"), said("and?", "u2"))
    listed = client.get(f"{PATH}/chat-1/messages").json()
    assert [(message["id"], message["role"]) for message in listed] == [
        ("u1", "user"),
        (name, "assistant"),
        ("u2", "user"),
        (last[0]["messageId"], "assistant"),
    ]
    assert listed[1]["parts"][-1]["output"] == "rain"


def test_calls_come_in_any_order_and_each_is_told_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    first, second = (call(number, '{"n": ', f"{number}}}", id=f"c{number}", name="weather") for number in (0, 1))
    mixed = [first[0], first[1], second[0], {"content": "so"}, second[1], first[2], second[2], {"content": "far"}]
    model.script = [answer("a", deltas=mixed, finish="tool_calls")]
    parts = ask(client, said("weather?", "u1"), tools=[WEATHER])
    called = [part for part in parts if part["type"] == "tool-input-available"]
    assert sorted((part["toolCallId"], part["input"]["n"]) for part in called) == [("c0", 0), ("c1", 1)]
    for part in called:
        deltas = [
            each["inputTextDelta"]
            for each in parts
            if each.get("toolCallId") == part["toolCallId"] and each["type"] == "tool-input-delta"
        ]
        assert json.loads("".join(deltas)) == part["input"]
    assert text_of(parts) == "asofar"
    assert text_of(ask(client, said("weather?", "u1"))) == text_of(parts)
    listed = client.get(f"{PATH}/chat-1/messages").json()[1]["parts"]
    inputs = [part["input"] for part in listed if part["type"] == "tool-weather"]
    assert inputs == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("arguments", ['{"city', '{"city": 1}'])
def test_a_call_of_a_stopped_answer_is_not_to_be_run(
    client: httpx.Client, model: ScriptedUpstream, arguments: str
) -> None:
    model.script = [answer(deltas=call(0, arguments, "never", id="x", name="weather"), gate="g", gate_at=2)]
    with client.stream("POST", PATH, json=body_of(said("weather?"), tools=[WEATHER])) as response:
        lines = response.iter_lines()
        assert any("tool-input-delta" in line for line in lines)
        client.post(f"/generations/{response.headers['x-generation-id']}/stop").raise_for_status()
        assert kinds(parts_of(lines)) == ["abort", "finish-step", "finish"]
    assert client.get(f"{PATH}/chat-1/messages").json()[1]["parts"] == [{"type": "step-start"}]
    model.gate("g").open()


@pytest.mark.parametrize("state", [[], {"a": 1}, None, 5, "output-streaming"])
def test_a_call_in_a_state_that_is_none_is_passed_over(
    client: httpx.Client, model: ScriptedUpstream, state: Any
) -> None:
    part = {"type": "tool-weather", "toolCallId": "one", "state": state, "input": {}, "output": "rain"}
    ask(client, said("hi", "u1"), {"id": "a1", "role": "assistant", "parts": [part]}, said("And?", "u2"))
    assert model.calls == 1


# Images --------------------------------------------------------------------------------------------------------------
def test_images_are_kept_once_shown_and_sent_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    url = data_url(4, 3)
    first = ask(client, showing(url, text="What is it?", name="u1"))
    sent = model.requests[0].body["messages"][-1]["content"]
    assert [part["type"] for part in sent] == ["image_url", "text"]
    assert sent[0]["image_url"]["url"].startswith("data:image/png;base64,")
    again = ask(client, showing(url, text="What is it?", name="u1"))
    assert (start_of(again), text_of(again)) == (start_of(first), text_of(first))
    assert (model.calls, Attachment.objects.count()) == (1, 1)
    shown = client.get(f"{PATH}/chat-1/messages").json()[0]["parts"]
    assert [part["type"] for part in shown] == ["file", "text"]
    assert shown[0]["mediaType"] == "image/png"
    assert client.get(shown[0]["url"]).headers["content-type"] == "image/png"
    edited = ask(client, showing(shown[0]["url"], text="And now?", name="u1"), messageId="u1")
    assert conversation_of(edited).message_count == 2
    assert model.requests[-1].body["messages"][-1]["content"][0] == sent[0]
    assert Attachment.objects.count() == 1
    ask(client, showing(url, name="u2"))
    assert Attachment.objects.count() == 2, "an image alone will do"


def data_url(width: int, height: int) -> str:
    return pictures.data_url(pictures.picture("PNG", (width, height)))


def test_the_same_words_with_another_image_are_something_new(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, showing(data_url(4, 3), text="What is it?", name="u1"))
    ask(client, showing(data_url(5, 3), text="What is it?", name="u1"), messageId="u1")
    first, second = (request.body["messages"][-1]["content"][0] for request in model.requests)
    assert first != second
    old, new = (f"/attachments/{key}" for key in Attachment.objects.order_by("width").values_list("pk", flat=True))
    ask(client, showing(new, text="What is it?", name="u1"))
    assert model.calls == 2
    ask(client, showing(old, text="What is it?", name="u1"))
    assert model.requests[-1].body["messages"][-1]["content"][0] == first
    assert (model.calls, Attachment.objects.count()) == (3, 2)


def test_what_goes_on_with_results_stores_no_image_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [asks("one", text="")]
    question = showing(data_url(4, 3), text="What is it?", name="u1")
    name = ask(client, question, tools=[WEATHER])[0]["messageId"]
    ask(client, question, ran(name, one="rain"), messageId=name, tools=[WEATHER])
    assert (model.calls, Attachment.objects.count()) == (2, 1)


def test_images_in_what_was_said_before_are_passed_over(client: httpx.Client, model: ScriptedUpstream) -> None:
    ask(client, showing("data:image/png;base64,QUFB", text="one", name="u1"), said("two", "u2"))
    assert [text for _role, text in prompts(model)[0]] == ["one\n\ntwo"]


# Refused -------------------------------------------------------------------------------------------------------------
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"messages": [said("hi")]}, "id: "),
    "an empty id": (body_of(said("hi"), chat=""), "id: "),
    "a long id": (body_of(said("hi"), chat="x" * 129), "id: "),
    "an id that is a number": (body_of(said("hi"), chat=5), "id: "),  # type: ignore[arg-type]
    "an id with NUL": (body_of(said("hi"), chat="a\0"), "id: "),
    "half a character in the id": (body_of(said("hi"), chat="\ud800"), "id: "),
    "no messages": ({"id": "a"}, "messages: "),
    "no list of messages": ({"id": "a", "messages": {"0": said("hi")}}, "messages: "),
    "an empty list": (body_of(), "messages: "),
    "nothing of the user's": (body_of(said("hi", role="assistant")), "messages: "),
    "an empty message": (body_of(said(" ")), "messages[0]: "),
    "a message that is a text": ({"id": "a", "messages": ["hi"]}, "messages[0]: "),
    "a role that is none": (body_of(said("hi", role="tool")), "messages[0]: "),
    "parts that are none": ({"id": "a", "messages": [{"role": "user", "parts": 5}]}, "messages[0].parts: "),
    "a part without a type": ({"id": "a", "messages": [{"role": "user", "parts": [{}]}]}, "messages[0].parts[0]: "),
    "a text that is none": (
        {"id": "a", "messages": [{"role": "user", "parts": [{"type": "text", "text": 5}]}]},
        "messages[0].parts[0]: ",
    ),
    "a file": (body_of(showing("data:application/pdf;base64,x", text="look")), "messages[0].parts[0]: "),
    "an image elsewhere": (body_of(showing("https://example.com/a.png", text="look")), "messages[0].parts[0]: "),
    "an image that is none": (body_of(showing("data:image/png;base64,QUFB", text="look")), ""),
    "too many images": (body_of(showing(*(f"data:image/png;base64,{n}" for n in range(11)))), "messages[0].parts: "),
    "NUL in the history": (body_of(said("a\0", role="assistant"), said("hi")), "messages[0]: "),
    "half a character": (body_of(said("a\ud800")), "messages[0]: "),
    "a long name": (body_of(said("hi", "x" * 129)), "messages[0].id: "),
    "a trigger that is none": (body_of(said("hi"), trigger="resume-stream"), "trigger: "),
    "half a character for a trigger": (body_of(said("hi"), trigger="\ud800"), "trigger: "),
    "half a character for a kind of tool": (body_of(said("hi"), tools=[{"type": "\ud800"}]), "tools: "),
    "a messageId that is none": (body_of(said("hi"), messageId=5), "messageId: "),
    "an unknown model": (body_of(said("hi"), model_type="none"), "model_type: "),
    "a temperature that is none": (body_of(said("hi"), temperature=3), "temperature: "),
    "no count of tokens": (body_of(said("hi"), max_tokens=0), "max_tokens: "),
    "tools that are a word": (body_of(said("hi"), tools="weather"), "tools: "),
    "tools by name that are none": (body_of(said("hi"), tools={"weather": 5}), "tools: "),
    "tools that are lists": (body_of(said("hi"), tools=[[None, None]]), "tools: "),
    "tools that are numbers": (body_of(said("hi"), tools=[0]), "tools: "),
    "a tool without a name": (body_of(said("hi"), tools=[{"description": "x"}]), "tools: "),
    "a tool whose schema is none": (body_of(said("hi"), tools=[{"name": "x", "inputSchema": 5}]), "tools: "),
    "two tools of one name": (body_of(said("hi"), tools=[WEATHER, WEATHER]), "tools: "),
    "a result without an id": (
        body_of(said("hi"), {"role": "assistant", "parts": [{"type": "tool-x", "state": "output-available"}]}),
        "messages[1].parts: ",
    ),
    "temporary by a text": (body_of(said("hi"), temporary="yes"), "temporary: "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_words_and_changes_nothing(
    client: httpx.Client, model: ScriptedUpstream, case: str
) -> None:
    body, where = BAD[case]
    response = client.post(PATH, content=json.dumps(body), headers=JSON)
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-error-code"] in ("invalid", "unknown_model_type", "unsupported_image")
    assert f" {where}" in f" {response.text}"
    assert (model.calls, Conversation.objects.count()) == (0, 0)


def test_more_history_than_can_be_stored_is_refused(client: httpx.Client, model: ScriptedUpstream) -> None:
    history = [said("a", f"m{number}") for number in range(501)]
    response = refusal(client, *history, said("hi", "u"))
    assert (response.status_code, "500" in response.text) == (400, True)
    ask(client, said("hi", "u"))
    assert text_of(ask(client, *history, said("and?", "v"))), "of what is stored, the history does not count"


def test_there_is_nothing_to_answer_again(client: httpx.Client, model: ScriptedUpstream) -> None:
    response = refusal(client, trigger="regenerate-message")
    assert (response.status_code, response.headers["x-error-code"]) == (404, "not_found")
    ask(client, said("hi", "u1"))
    response = refusal(client, trigger="regenerate-message", messageId="unknown")
    assert (response.status_code, response.headers["x-error-code"]) == (404, "not_found")


def test_a_refusal_says_what_its_headers_say_elsewhere(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    require_login(settings)
    response = refusal(client, said("hi"))
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.headers["x-error-code"] == "login_required"
    assert response.text == "Log in first."
    chinese = client.post(PATH, json=body_of(said("hi")), headers={"Accept-Language": "zh-hans"})
    assert chinese.text != response.text
    assert client.put(PATH, json={}, headers=key_of(make_user("kim"))).headers["allow"]

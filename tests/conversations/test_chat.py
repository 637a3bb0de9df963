"""`POST /chat` and what belongs to it, over a real socket: streamed, whole, resumed, stopped, regenerated."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from conversations.models import Conversation, Generation, Message
from tests.upstream import ScriptedUpstream, answer, status

from .helpers import chat, history, stream, streaming, whole_chat

pytestmark = pytest.mark.usefixtures("model")


def test_a_stream_has_the_contracts_headers_ids_and_one_end(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("你", "好", reasoning=["hm"], gate="g", gate_at=2)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        assert result.headers["content-type"].startswith("text/event-stream")
        assert result.headers["cache-control"] == "no-cache, no-transform"
        assert result.headers["x-accel-buffering"] == "no"
        generation_id = result.headers["x-generation-id"]
        while result.text != "你":
            next(blocks)
        model.gate("g").open()
        list(blocks)
    assert (result.reasoning, result.text) == ("hm", "你好")
    assert result.ids == [*(f"{generation_id}:{n}" for n in (2, 3, 4)), f"{generation_id}:end"]
    assert result.done == {
        "done": True,
        "status": "completed",
        "session_id": result.headers["x-session-id"],
        "message_id": int(result.headers["x-message-id"]),
        "generation_id": generation_id,
        "finish_reason": "stop",
        "usage": result.done["usage"],
        "reasoning_chars": 2,
    }
    assert result.done["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_a_stream_says_once_when_to_reconnect(client: httpx.Client) -> None:
    with client.stream("POST", "/chat", json={"message": "hi"}) as response:
        body = response.read()
        assert body.startswith(b"retry: 2000\nid: ")
        assert body.count(b"retry: ") == 1


def test_line_separators_reach_clients_that_split_at_them(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a\u2028b\u2029c\u0085d")]
    assert chat(client, "hi").text == "a\u2028b\u2029c\u0085d"


def test_an_idle_stream_is_kept_open_by_comments(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "PING_INTERVAL": 0.05}
    model.script = [answer("late", gate="g")]
    with client.stream("POST", "/chat", json={"message": "hi"}) as response:
        body = ""
        for text in response.iter_text():
            body += text
            if body.count(": ping\n") >= 2:
                model.gate("g").open()
    assert "late" in body
    # Each block has its data: a block of comments alone would be an empty event to clients in wide use.
    assert all("\ndata: " in block for block in body.removesuffix("\n\n").split("\n\n"))
    assert body.startswith("retry: 2000\n: ping\n: ping\n")


def test_a_whole_answer_has_the_contracts_keys(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("fine", finish="length")]
    response = whole_chat(client, "how are you")
    body = response.json()
    assert body == {
        "session_id": response.headers["x-session-id"],
        "user_message": "how are you",
        "assistant_reply": "fine",
        "message_id": int(response.headers["x-message-id"]),
        "generation_id": response.headers["x-generation-id"],
        "status": "completed",
        "finish_reason": "length",
        "usage": body["usage"],
    }


def test_a_second_turn_shows_that_the_model_saw_the_first(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = chat(client, "my name is Li Wei")
    second = chat(client, "what is my name?", session_id=first.done["session_id"])
    assert second.text == "You said: what is my name? (2 earlier messages)"
    assert [message["content"] for message in model.requests[-1].body["messages"]] == [
        "my name is Li Wei",
        "You said: my name is Li Wei (0 earlier messages)",
        "what is my name?",
    ]


def test_the_system_prompt_and_options_reach_the_model(client: httpx.Client, model: ScriptedUpstream) -> None:
    created = client.post("/conversations", json={"system_prompt": "Answer briefly."}).json()
    chat(client, "hi", session_id=created["session_id"], temperature=1.5, max_tokens=17)
    sent = model.requests[-1].body
    assert sent["messages"][0] == {"role": "system", "content": "Answer briefly."}
    assert (sent["temperature"], sent["max_tokens"], sent["stream"]) == (1.5, 17, True)


def test_a_message_is_kept_exactly_as_sent(client: httpx.Client) -> None:
    text = "  indented\n\ttext \U0001f469\u200d\U0001f4bb 结尾 \n"
    session_id = chat(client, text).done["session_id"]
    assert history(client, session_id)[0]["content"] == text


def test_the_history_carries_status_reason_usage_and_ids(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("yes", reasoning=["let me see"], model="scripted-2026")]
    done = chat(client, "hi").done
    question, reply = history(client, done["session_id"])
    assert (question["status"], question["generation_id"], question["usage"]) == ("completed", None, None)
    assert reply == {
        "role": "assistant",
        "content": "yes",
        "reasoning": "let me see",
        "id": done["message_id"],
        "status": "completed",
        "created_at": reply["created_at"],
        "ended_at": reply["ended_at"],
        "reasoning_ended_at": reply["reasoning_ended_at"],
        "model": "scripted-2026",
        "model_type": "default",
        "finish_reason": "stop",
        "usage": done["usage"],
        "generation_id": done["generation_id"],
        "feedback": None,
        "parts": None,
        "parent_id": question["id"],
        "sibling_ids": [done["message_id"]],
    }
    assert question["ended_at"] is None
    assert reply["created_at"] < reply["reasoning_ended_at"] <= reply["ended_at"]
    assert question["reasoning_ended_at"] is None


@pytest.mark.parametrize("options", [{}, {"reasoning": []}], ids=["no reasoning", "none of it"])
def test_where_nothing_was_thought_no_time_is_told(
    client: httpx.Client, model: ScriptedUpstream, options: dict[str, Any]
) -> None:
    model.script = [answer("yes", **options)]
    assert history(client, chat(client, "hi").done["session_id"])[1]["reasoning_ended_at"] is None


def test_killing_the_reader_leaves_a_complete_answer_and_resume_gives_the_rest(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("one ", "two ", "three ", "four", gate="g", gate_at=2)]
    with streaming(client, "POST", "/chat", json={"message": "count"}) as (seen, blocks):
        while seen.text != "one two ":
            next(blocks)
    generation_id, last = seen.headers["x-generation-id"], seen.ids[-1]
    with streaming(client, "GET", f"/generations/{generation_id}/stream", headers={"Last-Event-ID": last}) as (
        rest,
        blocks,
    ):
        model.gate("g").open()
        list(blocks)
    assert rest.text == "three four"
    assert rest.done["status"] == "completed"
    after_the_end = stream(client, "GET", f"/generations/{generation_id}/stream", headers={"Last-Event-ID": last})
    assert after_the_end.text == "three four"
    assert history(client, rest.done["session_id"])[-1]["content"] == "one two three four"


def test_resume_after_the_end_is_204(client: httpx.Client) -> None:
    result = chat(client, "hi")
    path = f"/generations/{result.done['generation_id']}/stream"
    assert client.get(path, headers={"Last-Event-ID": result.ids[-1]}).status_code == 204


def test_what_is_empty_is_of_no_type_and_of_no_length(client: httpx.Client) -> None:
    done = chat(client, "hi").done
    answers = [
        client.get(
            f"/generations/{done['generation_id']}/stream", headers={"Last-Event-ID": f"{done['generation_id']}:end"}
        ),
        client.delete(f"/messages/{done['message_id']}/feedback"),
        client.get(f"/api/chat/{done['session_id']}/stream"),
    ]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert [name for answer in answers for name in ("content-type", "content-length") if name in answer.headers] == []


def test_the_header_wins_over_after(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("abcdef")]
    generation_id = chat(client, "hi").done["generation_id"]
    path = f"/generations/{generation_id}/stream"
    assert stream(client, "GET", path, params={"after": 4}).text == "ef"
    both = stream(client, "GET", path, params={"after": 4}, headers={"Last-Event-ID": f"{generation_id}:2"})
    assert both.text == "cdef"


def test_stop_keeps_the_text_and_ends_every_reader(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("kept", "never", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        while result.text != "kept":
            next(blocks)
        generation_id = result.headers["x-generation-id"]
        state = client.post(f"/generations/{generation_id}/stop").json()
        list(blocks)
    assert (state["status"], state["position"], state["error"]) == ("stopped", 4, None)
    assert result.done["status"] == "stopped"
    assert client.post(f"/generations/{generation_id}/stop").json() == state
    model.wait_until(lambda: model.requests[-1].closed_by_client)


def test_the_state_of_a_running_answer(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("so far", "rest", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        while result.text != "so far":
            next(blocks)
        generation_id, session_id = result.headers["x-generation-id"], result.headers["x-session-id"]
        state = client.get(f"/generations/{generation_id}").json()
        assert state == {
            "generation_id": generation_id,
            "session_id": session_id,
            "message_id": int(result.headers["x-message-id"]),
            "status": "running",
            "position": 6,
            "finish_reason": None,
            "usage": None,
            "error": None,
        }
        assert client.get(f"/conversations/{session_id}").json()["generation_id"] == generation_id
        assert history(client, session_id)[-1]["status"] == "running"
        model.gate("g").open()
        list(blocks)
    assert client.get(f"/conversations/{session_id}").json()["generation_id"] is None


def test_a_second_message_while_it_answers_is_a_409(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a", gate="g")]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        session_id = result.headers["x-session-id"]
        refused = whole_chat(client, "and?", session_id=session_id)
        assert (refused.status_code, refused.json()["code"]) == (409, "reply_in_progress")
        model.gate("g").open()
        list(blocks)
    assert Message.objects.count() == 2


def test_deleting_a_conversation_stops_its_answer_first(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        while not result.text:
            next(blocks)
        session_id = result.headers["x-session-id"]
        deleted = client.delete(f"/conversations/{session_id}")
        assert deleted.json().keys() == {"session_id", "message"}
        list(blocks)
    assert result.done["status"] == "stopped"
    assert not Conversation.objects.exists()
    model.wait_until(lambda: model.requests[-1].closed_by_client)


def test_regenerating_an_answer_makes_a_sibling_the_active_branch(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("first"), answer("second"), answer("third")]
    done = chat(client, "question").done
    again = stream(client, "POST", f"/messages/{done['message_id']}/regenerate")
    assert again.text == "second"
    assert [message["content"] for message in history(client, done["session_id"])] == ["question", "second"]
    question = history(client, done["session_id"])[0]
    third = client.post(f"/messages/{question['id']}/regenerate", json={"stream": False}).json()
    assert (third["assistant_reply"], third["user_message"]) == ("third", "question")
    assert [message["content"] for message in history(client, done["session_id"])] == ["question", "third"]
    assert client.get(f"/conversations/{done['session_id']}").json()["message_count"] == 2
    assert Message.objects.count() == 4


def test_regenerating_in_the_middle_shortens_the_branch(client: httpx.Client, model: ScriptedUpstream) -> None:
    first = chat(client, "one").done
    chat(client, "two", session_id=first["session_id"])
    stream(client, "POST", f"/messages/{first['message_id']}/regenerate", json={})
    assert model.requests[-1].body["messages"] == [{"role": "user", "content": "one"}]
    assert len(history(client, first["session_id"])) == 2
    assert client.get(f"/conversations/{first['session_id']}").json()["message_count"] == 2


UPSTREAM_FAULTS = {
    "401": (status(401, {"error": {"message": "bad key"}}), 502, "upstream_authentication"),
    "429": (status(429, {"error": {"message": "slow down"}}, {"Retry-After": "33"}), 503, "upstream_rate_limit"),
    "500": (status(500, "<html>oops</html>"), 502, "upstream_unavailable"),
    "html": (status(200, "<html>login</html>"), 502, "upstream_protocol"),
    "cut": (answer("part", "never", cut=1), 502, "upstream_protocol"),
    "no word": (answer(), 502, "empty_answer"),
    "only thoughts": (answer(reasoning=["hm"], finish="length"), 502, "empty_answer"),
    "given up": (answer("part", finish="network_error"), 502, "upstream_protocol"),
    "too long": (
        status(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        400,
        "context_length",
    ),
}


@pytest.fixture
def no_retries(settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "MAX_RETRIES": 0}


@pytest.mark.parametrize("fault", UPSTREAM_FAULTS)
def test_an_upstreams_fault_is_typed_in_a_whole_answer(
    client: httpx.Client, model: ScriptedUpstream, no_retries: None, fault: str
) -> None:
    behaviour, status_code, code = UPSTREAM_FAULTS[fault]
    model.script = [behaviour]
    response = whole_chat(client, "hi")
    assert (response.status_code, response.json()["code"]) == (status_code, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert {"session_id", "message_id", "generation_id"} <= response.json().keys()
    if fault == "429":
        assert (response.json()["retry_after"], response.headers["retry-after"]) == (33, "33")


@pytest.mark.parametrize("fault", UPSTREAM_FAULTS)
def test_an_upstreams_fault_is_an_event_and_the_text_is_kept(
    client: httpx.Client, model: ScriptedUpstream, no_retries: None, fault: str
) -> None:
    behaviour, _status, code = UPSTREAM_FAULTS[fault]
    model.script = [behaviour]
    result = chat(client, "hi")
    assert (result.status, result.error["code"]) == (200, code)
    reply = history(client, result.done["session_id"])[-1]
    assert (reply["content"], reply["status"]) == (result.text, "failed")
    state = client.get(f"/generations/{result.done['generation_id']}").json()
    assert (state["status"], state["error"]) == ("failed", {k: result.error[k] for k in ("code", "message")})


def test_an_unreachable_upstream_is_typed(client: httpx.Client, settings: Any) -> None:
    unreachable = {"API_URL": "http://127.0.0.1:9/v1/chat/completions", "MAX_RETRIES": 0}
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, **unreachable}
    response = whole_chat(client, "hi")
    assert (response.status_code, response.json()["code"]) == (502, "upstream_unavailable")


def test_a_prompt_that_cannot_fit_is_refused_and_nothing_is_stored(client: httpx.Client) -> None:
    response = whole_chat(client, "语" * 50_000)
    assert (response.status_code, response.json()["code"]) == (400, "context_length")
    assert not Conversation.objects.exists()
    assert not Generation.objects.exists()


def test_a_failed_turn_can_be_followed_by_another(
    client: httpx.Client, model: ScriptedUpstream, no_retries: None
) -> None:
    """An empty answer is left out of the prompt, and the two questions become one message."""
    model.script = [status(500)]
    failed = chat(client, "first").done
    assert chat(client, "second", session_id=failed["session_id"]).done["status"] == "completed"
    assert model.requests[-1].body["messages"] == [{"role": "user", "content": "first\n\nsecond"}]


def test_unknown_answers_and_messages_are_not_found(client: httpx.Client) -> None:
    for path in (f"/generations/{uuid.uuid4()}", "/generations/nonsense", f"/generations/{uuid.uuid4()}/stream"):
        assert client.get(path).json()["code"] == "not_found", path
    assert client.post(f"/generations/{uuid.uuid4()}/stop").status_code == 404
    assert client.post("/messages/999/regenerate").status_code == 404
    assert client.post(f"/messages/{10**30}/regenerate").status_code == 404


LOADING = status(503, {"error": {"code": 503, "message": "Loading model"}})


def test_a_stream_says_that_the_model_loads(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [LOADING, LOADING, LOADING, LOADING, answer("here")]
    with client.stream("POST", "/chat", json={"message": "hi"}) as response:
        lines = response.read().decode().splitlines()
    assert ": loading" in lines
    assert any(line == 'data: {"chunk": "here"}' for line in lines)


def test_a_whole_answer_that_met_a_rate_limit_says_when_to_ask_again(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [status(429, {"error": {"message": "slow down"}})] * 3
    response = client.post("/chat", json={"message": "hi", "stream": False})
    assert (response.status_code, response.json()["code"]) == (503, "upstream_rate_limit")
    assert int(response.headers["Retry-After"]) == response.json()["retry_after"] == 10


def test_an_unpaid_account_is_asked_once(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(429, {"error": {"code": "insufficient_quota", "message": "check your billing"}})]
    response = client.post("/chat", json={"message": "hi", "stream": False})
    assert (response.status_code, response.json()["code"]) == (502, "upstream_unpaid")
    assert "check your billing" in response.json()["detail"]
    assert "Retry-After" not in response.headers
    assert model.calls == 1


def test_a_server_that_answered_is_not_called_unreachable(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.default = status(500, {"error": {"message": "out of luck"}})
    detail = client.post("/chat", json={"message": "hi", "stream": False}).json()["detail"]
    assert "cannot be reached" not in detail
    assert "answered with an error" in detail


@pytest.mark.parametrize(("refusal", "seconds"), [(status(429, {}), 10), (status(429, {}, {"Retry-After": "33"}), 33)])
def test_a_stream_says_when_to_ask_again_as_a_whole_answer_does(
    client: httpx.Client, model: ScriptedUpstream, settings: Any, refusal: Any, seconds: int
) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "MAX_RETRIES": 0}
    model.script = [refusal, refusal]
    assert chat(client, "hi").error["retry_after"] == seconds
    response = whole_chat(client, "hi")
    assert (response.json()["retry_after"], response.headers["Retry-After"]) == (seconds, str(seconds))

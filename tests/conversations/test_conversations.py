"""Conversations over HTTP: created, shown, changed, deleted."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from conversations import services
from conversations.access.rules import Caller
from conversations.database.transactions import replayed
from conversations.models import Conversation, Generation, Message
from tests.upstream import ScriptedUpstream

from .helpers import chat, whole_chat

LONG_AGO = datetime(2020, 2, 29, 12, tzinfo=UTC)


def create(api: APIClient, **body: Any) -> str:
    response = api.post("/conversations", body)
    assert response.status_code == 201, response.content
    session_id: str = response.json()["session_id"]
    return session_id


def show(api: APIClient, session_id: str) -> dict[str, Any]:
    body: dict[str, Any] = api.get(f"/conversations/{session_id}").json()
    return body


def change(api: APIClient, session_id: str, **body: Any) -> dict[str, Any]:
    response = api.patch(f"/conversations/{session_id}", body)
    assert response.status_code == 200, response.content
    shown: dict[str, Any] = response.json()
    return shown


def speaks_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


# Created --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [b"", b"{}"])
def test_creation_needs_no_body(client: httpx.Client, content: bytes) -> None:
    response = client.post("/conversations", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 201
    assert response.json().keys() == {"session_id", "message"}
    assert uuid.UUID(response.json()["session_id"])


def test_location_leads_to_what_was_created(client: httpx.Client) -> None:
    response = client.post("/conversations")
    location = response.headers["location"]
    assert location == f"/conversations/{response.json()['session_id']}"
    assert client.get(location).json()["session_id"] == response.json()["session_id"]


def test_the_message_is_in_the_callers_language(client: httpx.Client) -> None:
    def messages(language: str) -> list[str]:
        headers = {"Accept-Language": language}
        created = client.post("/conversations", headers=headers).json()
        deleted = client.delete(f"/conversations/{created['session_id']}", headers=headers).json()
        return [created["message"], deleted["message"]]

    assert messages("en") == messages("fr") == ["Conversation created.", "Conversation deleted."]
    assert all(speaks_chinese(message) for message in messages("zh-CN,zh;q=0.9,en;q=0.1"))


def test_a_new_conversation_is_as_asked_for(api: APIClient) -> None:
    session_id = create(api, title="计划", system_prompt="  Be brief.\n", model_type="glm4", user_id="kim")
    shown = show(api, session_id)
    assert shown == {
        "session_id": session_id,
        "title": "计划",
        "system_prompt": "  Be brief.\n",
        "model_type": "glm4",
        "is_pinned": False,
        "is_archived": False,
        "created_at": shown["created_at"],
        "updated_at": shown["updated_at"],
        "message_count": 0,
        "active_leaf": None,
        "generation_id": None,
    }
    conversation = Conversation.objects.get()
    assert (conversation.user_identifier, conversation.title_source) == ("kim", "person")


def test_a_new_conversation_has_no_title_and_belongs_to_nobody(api: APIClient) -> None:
    create(api)
    conversation = Conversation.objects.get()
    assert (conversation.title, conversation.title_source, conversation.user_identifier) == ("", "", "")
    assert conversation.owner is None


def test_texts_of_the_full_length_are_taken(api: APIClient) -> None:
    session_id = create(api, title="计" * 200, system_prompt="提" * 20_000, user_id="用" * 255)
    shown = show(api, session_id)
    assert (len(shown["title"]), len(shown["system_prompt"])) == (200, 20_000)


def test_creation_keeps_the_newest_conversations_of_that_owner(api: APIClient, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 2}
    other = create(api, user_id="lee")
    mine = [create(api, user_id="kim") for _number in range(4)]
    assert [api.get(f"/conversations/{session_id}").status_code for session_id in mine] == [404, 404, 200, 200]
    assert show(api, other)["session_id"] == other


# Shown ----------------------------------------------------------------------------------------------------------
def test_an_id_may_be_written_in_capitals(api: APIClient) -> None:
    session_id = create(api)
    assert show(api, session_id.upper())["session_id"] == session_id


def test_a_conversation_is_shown_at_the_same_cost_however_long(api: APIClient) -> None:
    session_id = create(api)
    conversation = Conversation.objects.get()

    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            show(api, session_id)
        return [query["sql"] for query in captured.captured_queries]

    before = queries()
    for _number in range(20):
        Message.objects.create(conversation=conversation, role="user", content="text")
    assert len(queries()) == len(before)
    assert not [sql for sql in queries() if '"content"' in sql]


def test_the_history_of_a_long_conversation_is_three_queries(api: APIClient) -> None:
    """One for the conversation, one for its messages with their generations, one for what is beside them."""
    session_id = create(api)
    conversation, leaf = Conversation.objects.get(), None
    for number in range(60):
        leaf = Message.objects.create(
            conversation=conversation, parent=leaf, role=("user", "assistant")[number % 2], content=f"{number}"
        )
        if number % 2:
            Generation.objects.create(message=leaf, status="completed")
    conversation.active_leaf = leaf
    conversation.save()
    with CaptureQueriesContext(connection) as queries:
        body = api.get(f"/conversations/{session_id}/history").json()
    assert [message["content"] for message in body["messages"]] == [str(number) for number in range(60)]
    assert len(queries) == 3


def test_a_new_conversations_history_is_empty(api: APIClient) -> None:
    session_id = create(api)
    assert api.get(f"/conversations/{session_id}/history").json() == {"session_id": session_id, "messages": []}


# Changed --------------------------------------------------------------------------------------------------------
CHANGES = {
    "title": "A new name",
    "system_prompt": "Answer in verse.\n",
    "model_type": "glm4",
    "is_pinned": True,
    "is_archived": True,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_changes_alone(api: APIClient, name: str) -> None:
    session_id = create(api, title="t", system_prompt="s", model_type="codegeex")
    before = show(api, session_id)
    assert change(api, session_id, **{name: CHANGES[name]}) == {**before, name: CHANGES[name]}
    assert show(api, session_id) == {**before, name: CHANGES[name]}


def test_all_fields_change_together_and_back(api: APIClient) -> None:
    session_id = create(api, title="t", system_prompt="s", model_type="codegeex")
    before = show(api, session_id)
    assert change(api, session_id, **CHANGES) == {**before, **CHANGES}
    assert change(api, session_id, **{name: before[name] for name in CHANGES}) == before


@pytest.mark.parametrize("name", ["title", "system_prompt", "model_type"])
def test_texts_can_be_emptied(api: APIClient, name: str) -> None:
    session_id = create(api, title="t", system_prompt="s", model_type="codegeex")
    assert change(api, session_id, **{name: ""})[name] == ""


def test_a_change_is_no_activity(api: APIClient) -> None:
    session_id = create(api)
    newer = create(api)
    Conversation.objects.filter(session_id=session_id).update(updated_at=LONG_AGO)
    assert change(api, session_id, **{**CHANGES, "is_archived": False})["updated_at"] == "2020-02-29T12:00:00Z"
    listed = api.get("/conversations").json()["conversations"]
    assert [item["session_id"] for item in listed] == [newer, session_id]


def test_a_change_of_nothing_writes_nothing(api: APIClient) -> None:
    session_id = create(api, title="t")
    before = show(api, session_id)
    with CaptureQueriesContext(connection) as queries:
        assert change(api, session_id) == before
    assert not [query["sql"] for query in queries.captured_queries if query["sql"].startswith("UPDATE")]


@pytest.mark.parametrize("name", ["session_id", "message_count", "updated_at", "user_id", "title_source", "owner"])
def test_other_fields_cannot_be_changed(api: APIClient, name: str) -> None:
    session_id = create(api)
    before = show(api, session_id)
    response = api.patch(f"/conversations/{session_id}", {"title": "x", name: "1"})
    assert (response.status_code, response.json()["errors"].keys()) == (400, {name})
    assert show(api, session_id) == before


def test_an_archived_conversation_leaves_the_list_and_can_be_shown_and_answered(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    session_id = chat(client, "hi").done["session_id"]
    client.patch(f"/conversations/{session_id}", json={"is_archived": True})
    assert client.get("/conversations").json()["conversations"] == []
    assert len(client.get("/conversations?archived=true").json()["conversations"]) == 1
    assert client.get(f"/conversations/{session_id}").json()["is_archived"] is True
    assert chat(client, "still there?", session_id=session_id).done["status"] == "completed"


def test_a_pinned_conversation_outlives_pruning(api: APIClient, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 1}
    session_id = create(api)
    change(api, session_id, is_pinned=True)
    for _number in range(3):
        create(api)
    assert show(api, session_id)["is_pinned"] is True
    assert Conversation.objects.count() == 2


def test_a_person_names_a_conversation_for_good(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/conversations", json={"title": "Mine"}).json()["session_id"]
    chat(client, "hi", session_id=session_id)
    assert client.get(f"/conversations/{session_id}").json()["title"] == "Mine"


def test_an_emptied_title_hands_naming_back_to_the_next_message(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/conversations", json={"title": "Mine"}).json()["session_id"]
    path = f"/conversations/{session_id}"
    chat(client, "first words", session_id=session_id)
    assert client.patch(path, json={"title": ""}).json()["title"] == ""
    chat(client, "later words", session_id=session_id)
    assert client.get(path).json()["title"] == "later words"


def test_the_models_instructions_hold_from_the_next_message_on(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = client.post("/conversations", json={"system_prompt": "Be brief."}).json()["session_id"]
    chat(client, "one", session_id=session_id)
    client.patch(f"/conversations/{session_id}", json={"system_prompt": "Answer in verse."})
    chat(client, "two", session_id=session_id)
    client.patch(f"/conversations/{session_id}", json={"system_prompt": ""})
    chat(client, "three", session_id=session_id)
    first = [request.body["messages"][0]["content"] for request in model.completions]
    assert first == ["Be brief.", "Answer in verse.", "one"]


# Deleted --------------------------------------------------------------------------------------------------------
def test_a_deleted_conversation_is_gone_with_all_in_it(client: httpx.Client, model: ScriptedUpstream) -> None:
    kept = whole_chat(client, "keep me").json()
    session_id = whole_chat(client, "hi").json()["session_id"]
    response = client.delete(f"/conversations/{session_id}")
    assert (response.status_code, response.json()["session_id"]) == (200, session_id)
    for path in ("", "/history"):
        assert client.get(f"/conversations/{session_id}{path}").status_code == 404
    assert client.delete(f"/conversations/{session_id}").status_code == 404
    assert whole_chat(client, "and?", session_id=session_id).status_code == 404
    assert (
        list(Message.objects.values_list("conversation__session_id", flat=True)) == [uuid.UUID(kept["session_id"])] * 2
    )
    assert Generation.objects.count() == 1


def test_a_deleted_answer_cannot_be_read(client: httpx.Client, model: ScriptedUpstream) -> None:
    reply = whole_chat(client, "hi").json()
    client.delete(f"/conversations/{reply['session_id']}")
    for path in (f"/generations/{reply['generation_id']}", f"/generations/{reply['generation_id']}/stream"):
        assert client.get(path).status_code == 404


# Times ----------------------------------------------------------------------------------------------------------
def test_times_are_iso_8601_in_utc(api: APIClient) -> None:
    shown = show(api, create(api))
    for name in ("created_at", "updated_at"):
        moment = datetime.fromisoformat(shown[name])
        assert shown[name].endswith("Z")
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_answers_are_json_whatever_is_accepted(client: httpx.Client) -> None:
    for accept in ("text/html", "application/xml", "nonsense"):
        response = client.get("/conversations", headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"
        assert json.loads(response.content) == {"conversations": [], "next": None}


@pytest.mark.django_db(transaction=True)
def test_a_name_that_is_taken_within_a_transaction_is_told_as_such() -> None:
    """After a refusal PostgreSQL answers nothing more in that transaction: nothing may be asked about it there."""
    caller = Caller(user_identifier="user:1", user=User.objects.create_user("kim"))

    @replayed
    def twice() -> None:
        for _time in range(2):
            services.create_conversation(caller=caller, client_id="chat-1")

    with pytest.raises(IntegrityError):
        twice()
    assert not Conversation.objects.exists()

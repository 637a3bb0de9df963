"""Feedback, conversations for a time only, deletions that can be undone, and endpoints that are tried first."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from django.utils import timezone
from rest_framework.test import APIClient

from conversations.access.rules import Caller
from conversations.engine import pruning
from conversations.exceptions import ServerBusy
from conversations.models import Conversation, Feedback, Message, SearchText
from conversations.services import endpoints
from tests.upstream import ScriptedUpstream, answer, status

from .accounts import belongings_of, key_of, make_user, require_login
from .helpers import chat, streaming, whole_chat


@pytest.fixture
def answered(in_transaction: None) -> Message:
    conversation = Conversation.objects.create()
    question = Message.objects.create(conversation=conversation, role="user", content="Q")
    reply = Message.objects.create(conversation=conversation, role="assistant", parent=question, content="A")
    Conversation.objects.filter(pk=conversation.pk).update(active_leaf=reply)
    return reply


# Feedback ---------------------------------------------------------------------------------------------------------
def test_an_answer_is_rated_rated_anew_and_not_at_all(api: APIClient, answered: Message) -> None:
    url = f"/messages/{answered.pk}/feedback"
    history = f"/conversations/{answered.conversation.session_id}/history"
    assert [message["feedback"] for message in api.get(history).json()["messages"]] == [None, None]
    given = {"rating": 1, "text": "很好", "tags": ["helpful", "简短"]}
    assert api.put(url, given).json() == given
    assert api.get(history).json()["messages"][1]["feedback"] == given
    assert api.put(url, {"rating": -1}).json() == {"rating": -1, "text": "", "tags": []}
    assert Feedback.objects.get().rating == -1
    assert api.delete(url).status_code == api.delete(url).status_code == 204
    assert api.get(history).json()["messages"][1]["feedback"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rating": 2}, "rating"),
        ({"rating": 0}, "rating"),
        ({"rating": "1"}, "rating"),
        ({"rating": True}, "rating"),
        ({}, "rating"),
        ({"rating": 1, "text": "x" * 2001}, "text"),
        ({"rating": 1, "text": "\x00"}, "text"),
        ({"rating": 1, "tags": ["x"] * 11}, "tags"),
        ({"rating": 1, "tags": ["x" * 51]}, "tags"),
        ({"rating": 1, "tags": [""]}, "tags"),
        ({"rating": 1, "tags": "x"}, "tags"),
        ({"rating": 1, "stars": 5}, "stars"),
    ],
)
def test_feedback_that_is_none_is_refused(api: APIClient, answered: Message, body: Any, field: str) -> None:
    response = api.put(f"/messages/{answered.pk}/feedback", body)
    assert (response.status_code, list(response.json()["errors"])) == (400, [field])
    assert not Feedback.objects.exists()


def test_questions_are_not_rated(api: APIClient, answered: Message) -> None:
    response = api.put(f"/messages/{answered.parent_id}/feedback", {"rating": 1})
    assert (response.status_code, response.json()["detail"]) == (404, "Only answers can be rated.")


# Temporary conversations ------------------------------------------------------------------------------------------
def test_a_temporary_chat_is_never_listed_found_or_named(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("a secret"), answer("another secret")]
    done = chat(client, "tell me a secret", temporary=True).done
    chat(client, "and another", session_id=done["session_id"])
    assert client.get("/conversations").json()["conversations"] == []
    assert client.get("/search", params={"q": "secret"}).json()["conversations"] == []
    assert not SearchText.objects.exists()
    state = client.get(f"/conversations/{done['session_id']}").json()
    assert (state["title"], state["message_count"]) == ("", 4)
    assert len(client.get(f"/conversations/{done['session_id']}/history").json()["messages"]) == 4
    created = client.post("/conversations", json={"temporary": True}).json()
    assert client.get(f"/conversations/{created['session_id']}").status_code == 200
    assert client.get("/conversations").json()["conversations"] == []
    refused = whole_chat(client, "x", session_id=done["session_id"], temporary=True)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["temporary"])


def test_a_temporary_chat_goes_after_its_last_activity(in_transaction: None, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_TEMPORARY_SECONDS": 3600.0}
    now = timezone.now()
    past = now - timedelta(minutes=1)
    used = Conversation.objects.create(is_temporary=True, expires_at=past, updated_at=now)
    Conversation.objects.create(is_temporary=True, expires_at=past, updated_at=now - timedelta(hours=2))
    Conversation.objects.create(updated_at=now - timedelta(days=900))
    assert sum(pruning.delete_expired(batch) for batch in pruning.expired()) == 1
    used.refresh_from_db()
    assert used.expires_at == used.updated_at + timedelta(hours=1)
    assert Conversation.objects.count() == 2


def test_one_that_is_in_use_again_stays(in_transaction: None) -> None:
    past = timezone.now() - timedelta(days=2)
    conversation = Conversation.objects.create(is_temporary=True, expires_at=past, updated_at=past)
    doomed = pruning.expired()
    assert doomed == [[conversation.pk]]
    Conversation.objects.update(updated_at=timezone.now())
    assert [pruning.delete_expired(batch) for batch in doomed] == [0]


def test_they_take_no_place_of_those_that_are_kept(in_transaction: None) -> None:
    for _number in range(3):
        Conversation.objects.create(is_temporary=True, expires_at=timezone.now() + timedelta(hours=1))
    Conversation.objects.create()
    assert pruning.prune_owner(user_identifier="", keep=1) == 0


# Undo of a deletion -----------------------------------------------------------------------------------------------
def test_a_deletion_is_undone(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("needle"), answer("more")]
    done = chat(client, "hay").done
    session_id, url = done["session_id"], f"/conversations/{done['session_id']}"
    gone = client.delete(url, params={"undo": 30}).json()
    assert gone["restorable_until"] > timezone.now().isoformat()[:19]
    for method, path in (
        ("GET", url),
        ("GET", f"{url}/history"),
        ("GET", f"{url}/messages"),
        ("PATCH", url),
        ("DELETE", url),
        ("GET", f"/generations/{done['generation_id']}"),
        ("GET", f"/generations/{done['generation_id']}/stream"),
        ("POST", f"/generations/{done['generation_id']}/stop"),
        ("POST", f"/messages/{done['message_id']}/regenerate"),
        ("DELETE", f"/messages/{done['message_id']}"),
        ("PUT", f"/messages/{done['message_id']}/feedback"),
    ):
        body = {"rating": 1} if path.endswith("feedback") else {}
        assert (
            client.request(method, path, json=body if method in ("PATCH", "POST", "PUT") else None).status_code == 404
        ), path
    assert whole_chat(client, "x", session_id=session_id).status_code == 404
    assert client.get("/conversations").json()["conversations"] == []
    assert client.get("/search", params={"q": "needle"}).json()["conversations"] == []
    restored = client.post(f"{url}/restore")
    assert (restored.status_code, restored.json()["session_id"]) == (200, session_id)
    assert len(client.get("/conversations").json()["conversations"]) == 1
    assert len(client.get("/search", params={"q": "needle"}).json()["conversations"]) == 1
    assert client.post(f"{url}/restore").status_code == 404
    assert chat(client, "go on", session_id=session_id).done["status"] == "completed"


def test_an_answer_that_runs_is_stopped_and_its_text_comes_back(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("half", " whole", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "one"}) as (stream, blocks):
        next(blocks)
        url = f"/conversations/{stream.headers['x-session-id']}"
        assert client.delete(url, params={"undo": 30}).status_code == 200
        for _block in blocks:
            pass
    assert stream.done["status"] == "stopped"
    client.post(f"{url}/restore")
    assert client.get(f"{url}/history").json()["messages"][1]["content"] == "half"


def test_time_runs_out(in_transaction: None, api: APIClient) -> None:
    conversation = Conversation.objects.create()
    url = f"/conversations/{conversation.session_id}"
    api.delete(f"{url}?undo=30")
    Conversation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert api.post(f"{url}/restore").status_code == 404
    assert sum(pruning.delete_expired(batch) for batch in pruning.expired()) == 1
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("undo", ["0", "-1", "86401", "soon", "1.5"])
def test_undo_takes_seconds(api: APIClient, answered: Message, undo: str) -> None:
    response = api.delete(f"/conversations/{answered.conversation.session_id}?undo={undo}")
    assert (response.status_code, list(response.json()["errors"])) == (400, ["undo"])
    assert not Conversation.objects.filter(is_hidden=True).exists()


def test_a_key_is_free_again_after_a_deletion(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("first"), answer("second")]
    headers = {"Idempotency-Key": "k"}
    body = {"message": "one", "stream": False}
    first = client.post("/chat", json=body, headers=headers).json()
    client.delete(f"/conversations/{first['session_id']}", params={"undo": 30})
    assert client.post("/chat", json=body, headers=headers).json()["assistant_reply"] == "second"


def test_nobody_restores_anothers(api: APIClient, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    theirs = belongings_of(kim)
    api.credentials(HTTP_AUTHORIZATION=key_of(kim)["Authorization"])
    assert api.delete(f"/conversations/{theirs.session_id}?undo=60").status_code == 200
    api.credentials(HTTP_AUTHORIZATION=key_of(lee)["Authorization"])
    assert api.post(f"/conversations/{theirs.session_id}/restore").status_code == 404
    api.credentials(HTTP_AUTHORIZATION=key_of(kim, ["read"])["Authorization"])
    assert api.post(f"/conversations/{theirs.session_id}/restore").json()["code"] == "scope_missing"
    api.credentials(HTTP_AUTHORIZATION=key_of(kim)["Authorization"])
    assert api.post(f"/conversations/{theirs.session_id}/restore").status_code == 200


# Endpoints --------------------------------------------------------------------------------------------------------
def test_an_endpoint_lists_its_models(client: httpx.Client, model: ScriptedUpstream) -> None:
    response = client.post("/api/config/models", json={"custom_api_url": model.url})
    assert response.status_code == 200, response.text
    assert response.json() == {"models": sorted(response.json()["models"])}
    assert response.json()["models"]


def test_an_endpoint_is_tried(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [
        answer("Hello", " there"),
        status(401, {"error": {"message": "bad key"}}),
        answer(reasoning=["hm"]),
    ]
    asked = {"custom_api_url": model.url, "custom_model": "m", "custom_api_key": "sk-1"}
    tried = client.post("/api/config/test", json=asked).json()
    assert tried["reply"] == "Hello there"
    assert model.requests[-1].headers["authorization"] == "Bearer sk-1"
    refused = client.post("/api/config/test", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (502, "upstream_authentication")
    assert "sk-1" not in refused.text


def test_what_is_left_out_is_as_saved_and_the_key_goes_to_its_own_url_only(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.script = [answer("Hello"), answer("Hello")]
    saved = {"model_type": "custom", "custom_api_url": model.url, "custom_model": "m", "custom_api_key": "sk-saved"}
    assert client.post("/api/config", json=saved).status_code == 200
    assert client.post("/api/config/test", json={}).status_code == 200
    assert model.requests[-1].headers["authorization"] == "Bearer sk-saved"
    other = f"{model.url}?x=1"
    assert client.post("/api/config/test", json={"custom_api_url": other}).status_code == 200
    assert "authorization" not in model.requests[-1].headers


def test_what_is_missing_is_said(client: httpx.Client) -> None:
    refused = client.post("/api/config/test", json={})
    assert (refused.status_code, sorted(refused.json()["errors"])) == (400, ["custom_api_url", "custom_model"])


@pytest.mark.parametrize("call", ["models", "test"])
def test_a_user_reaches_no_private_address(
    client: httpx.Client, model: ScriptedUpstream, settings: Any, call: str
) -> None:
    require_login(settings)
    client.headers.update(key_of(make_user("kim")))
    body = {"custom_api_url": model.url, "custom_model": "m"}
    refused = client.post(f"/api/config/{call}", json=body)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["custom_api_url"])
    assert model.calls == 0


def test_not_too_many_at_once(client: httpx.Client, model: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MOST_AT_ONCE", 0)
    refused = client.post("/api/config/models", json={"custom_api_url": model.url})
    assert (refused.status_code, refused.json()["code"]) == (503, "server_busy")


def test_one_account_leaves_room_for_others(
    client: httpx.Client, model: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    kim = Caller(user_identifier="user:1")
    monkeypatch.setattr(Caller, "subject", "user:1")
    with endpoints._place("user:1"), endpoints._place("user:1"):
        with pytest.raises(ServerBusy), endpoints._place(kim.subject):
            pass
        with endpoints._place("user:2"), endpoints._place(""):
            pass


def test_a_saved_key_that_opens_no_more_is_needed_for_its_url_only(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    saved = {"model_type": "custom", "custom_api_url": model.url, "custom_model": "m", "custom_api_key": "sk-saved"}
    assert client.post("/api/config", json=saved).status_code == 200
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    refused = client.post("/api/config/models", json={})
    assert (refused.status_code, refused.json()["code"]) == (400, "unknown_model_type")
    whole = {"custom_api_url": model.url, "custom_api_key": "sk-new"}
    assert client.post("/api/config/models", json=whole).status_code == 200


def test_the_scope_is_that_of_settings(api: APIClient, settings: Any) -> None:
    require_login(settings)
    api.credentials(HTTP_AUTHORIZATION=key_of(make_user("kim"), ["read", "chat"])["Authorization"])
    for call in ("models", "test"):
        assert api.post(f"/api/config/{call}", {}).json()["code"] == "scope_missing"


def test_names_that_cannot_be_sent_are_left_out() -> None:
    from llmproviders.backends.model_list import _names

    body = {
        "data": [
            {"id": "b"},
            {"id": "a"},
            {"id": "a"},
            {"id": ""},
            {"id": "x\ny"},
            {"id": 5},
            {"name": "c"},
            "d",
            None,
        ]
    }
    assert _names(json.dumps(body).encode(), "") == ["a", "b", "c", "d"]

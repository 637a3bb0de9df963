"""API keys in Django admin: shown once, revoked, never changed; and who may make one for whom."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations.access import api_keys
from conversations.exceptions import NotAuthenticated
from conversations.models import ApiKey

pytestmark = pytest.mark.django_db

LIST = reverse("admin:conversations_apikey_changelist")
ADD = reverse("admin:conversations_apikey_add")


def url(key: ApiKey, name: str = "change") -> str:
    return reverse(f"admin:conversations_apikey_{name}", args=[key.pk])


def staff(*codenames: str) -> tuple[Client, User]:
    """A member of the staff with these permissions, logged in."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client, user


def make(client: Client, user: User, *, user_id: int = 0, **fields: Any) -> Any:
    data = {
        "user": user_id or user.pk,
        "name": "laptop",
        "scopes": ["read", "chat"],
        "expires_at_0": "",
        "expires_at_1": "",
    }
    return client.post(ADD, {**data, **fields})


@pytest.fixture
def kim() -> User:
    return User.objects.create_user("kim")


@pytest.fixture
def key(kim: User) -> ApiKey:
    return api_keys.make(user=kim, name="laptop")[0]


def test_a_key_is_shown_once_and_let_in(admin_client: Client, kim: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "conversations.audit"):
        answer = make(admin_client, kim)
    assert answer.status_code == 200
    token = answer.context["token"]
    assert token in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    assert token not in str(answer.cookies)
    assert "messages" not in answer.cookies
    key = api_keys.find(token)
    assert (key.user, key.name, key.scopes, key.expires_at) == (kim, "laptop", "chat read", None)
    assert f"API key {key.pk} of user {kim.pk} made" in caplog.text
    for page in (LIST, url(key), url(key, "history"), url(key, "delete")):
        html = admin_client.get(page).content.decode()
        assert key.hint in html
        assert token not in html
        assert key.hash not in html
    history = LogEntry.objects.get()
    assert token not in f"{history.object_repr} {history.change_message}"
    assert token not in caplog.text


def test_a_key_may_end_by_itself(admin_client: Client, kim: User) -> None:
    make(admin_client, kim, expires_at_0="2999-01-31", expires_at_1="12:00")
    assert str(ApiKey.objects.get().expires_at) == "2999-01-31 12:00:00+00:00"


@pytest.mark.parametrize(
    "fields",
    [{"name": ""}, {"scopes": []}, {"scopes": ["all"]}, {"user_id": 999}, {"expires_at_0": "2020-01-01"}],
)
def test_a_key_that_is_not_right_is_not_made(admin_client: Client, kim: User, fields: dict[str, Any]) -> None:
    answer = make(admin_client, kim, **fields, expires_at_1="12:00" if "expires_at_0" in fields else "")
    assert answer.status_code == 200
    assert answer.context["errors"]
    assert not ApiKey.objects.exists()


def test_who_is_no_superuser_makes_keys_for_nobody_else(kim: User) -> None:
    client, user = staff("add_apikey", "view_apikey")
    assert make(client, kim).context["errors"]
    assert not ApiKey.objects.exists()
    assert make(client, user).context["token"]
    assert ApiKey.objects.get().user == user


def test_a_key_is_renamed_and_nothing_else(admin_client: Client, key: ApiKey) -> None:
    ApiKey.objects.update(last_used_at=(used := timezone.now()))
    before = ApiKey.objects.values().get()
    other = User.objects.create_user("lee")
    fields = {"name": "desktop", "user": other.pk, "hash": "0" * 64, "scopes": "keys", "expires_at_0": "2999-01-01"}
    assert admin_client.post(url(key), fields).status_code == 302
    assert ApiKey.objects.values().get() == {**before, "name": "desktop", "last_used_at": used}


def test_a_key_is_revoked_by_its_button(admin_client: Client, kim: User, caplog: pytest.LogCaptureFixture) -> None:
    key, token = api_keys.make(user=kim, name="laptop")
    assert 'name="_revoke"' in admin_client.get(url(key)).content.decode()
    with caplog.at_level(logging.INFO, "conversations.audit"):
        assert admin_client.post(url(key), {"name": "laptop", "_revoke": "1"}).status_code == 302
    with pytest.raises(NotAuthenticated):
        api_keys.find(token)
    assert f"API key {key.pk} of user {kim.pk} revoked" in caplog.text
    assert "Revoked." in admin_client.get(url(key, "history")).content.decode()
    assert 'name="_revoke"' not in admin_client.get(url(key)).content.decode()


def test_keys_are_revoked_together(admin_client: Client, kim: User) -> None:
    keys = [api_keys.make(user=kim, name=f"key {number}")[0] for number in range(3)]
    api_keys.revoke(keys[0])
    before = ApiKey.objects.get(pk=keys[0].pk).revoked_at
    data = {"action": "revoke_selected", "_selected_action": [item.pk for item in keys]}
    page = admin_client.post(LIST, data, follow=True).content.decode()
    assert "API keys revoked: 2" in page
    assert not ApiKey.objects.filter(revoked_at=None).exists()
    assert ApiKey.objects.get(pk=keys[0].pk).revoked_at == before
    assert LogEntry.objects.count() == 2


def test_who_may_only_look_revokes_nothing(key: ApiKey) -> None:
    client, _user = staff("view_apikey")
    assert 'name="_revoke"' not in client.get(url(key)).content.decode()
    assert client.post(url(key), {"name": "laptop", "_revoke": "1"}).status_code == 403
    client.post(LIST, {"action": "revoke_selected", "_selected_action": [key.pk]})
    assert client.post(ADD, {}).status_code == 403
    assert client.post(url(key, "delete"), {"post": "yes"}).status_code == 403
    assert ApiKey.objects.get().revoked_at is None


@pytest.mark.parametrize("together", [True, False])
def test_a_deleted_key_was_revoked(
    admin_client: Client, key: ApiKey, caplog: pytest.LogCaptureFixture, together: bool
) -> None:
    with caplog.at_level(logging.INFO, "conversations.audit"):
        if together:
            data = {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"}
            admin_client.post(LIST, data)
        else:
            admin_client.post(url(key, "delete"), {"post": "yes"})
    assert not ApiKey.objects.exists()
    assert f"API key {key.pk} of user {key.user_id} revoked" in caplog.text


@pytest.mark.parametrize("word", ["desk", "chatkey_", "lee"])
def test_keys_are_found(admin_client: Client, key: ApiKey, word: str) -> None:
    other = User.objects.create_user("lee")
    api_keys.make(user=other, name="desktop", expires_at=timezone.now() + timedelta(days=1))
    assert admin_client.get(LIST, {"q": word}).context["cl"].result_count == (2 if word == "chatkey_" else 1)

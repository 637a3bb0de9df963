"""API keys: made, listed and revoked, over the API and by `manage.py create_api_key`."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from conversations.access import api_keys
from conversations.models import ApiKey, Scope

from .accounts import bearer, make_key, make_user, require_login, session_of

TOKEN = re.compile(r"chatkey_[A-Za-z0-9_-]{43}")
SHOWN = {"id", "name", "hint", "scopes", "created_at", "expires_at", "last_used_at"}


@pytest.fixture
def kim(in_transaction: None, settings: Any) -> User:
    """An account, on a server that asks for login."""
    require_login(settings)
    return make_user("kim")


class Api:
    """Calls with one credential."""

    def __init__(self, api: APIClient, headers: dict[str, str]) -> None:
        self._api, self._headers = api, headers

    def call(self, method: str, path: str = "", body: Any = None) -> tuple[int, Any]:
        response = self._api.generic(method, f"/api/keys{path}", "", headers=self._headers)
        if body is not None:
            send = getattr(self._api, method.lower())
            response = send(f"/api/keys{path}", body, headers=self._headers)
        return response.status_code, response.json()

    def make(self, **body: Any) -> Any:
        status, made = self.call("POST", body=body)
        assert status == 201, made
        return made

    def refused(self, **body: Any) -> tuple[int, str]:
        status, problem = self.call("POST", body=body)
        return status, problem["code"]

    def listed(self) -> list[Any]:
        keys: list[Any] = self.call("GET")[1]["keys"]
        return keys


@pytest.fixture
def page(api: APIClient, kim: User) -> Api:
    """Calls from a page where kim is logged in: a session may do everything."""
    return Api(api, session_of(kim))


def with_key(api: APIClient, kim: User, *scopes: Scope, **fields: Any) -> Api:
    return Api(api, bearer(make_key(kim, scopes, **fields)))


# Making ---------------------------------------------------------------------------------------------------------
def test_a_key_is_shown_once_and_stored_as_its_hash(page: Api, kim: User) -> None:
    made = page.make(name="  laptop ")
    token = made["key"]
    assert TOKEN.fullmatch(token)
    assert made.keys() == SHOWN | {"key"}
    assert (made["name"], made["scopes"]) == ("laptop", ["chat", "config", "read"])
    assert (made["hint"], made["expires_at"], made["last_used_at"]) == (token[:12], None, None)
    row = ApiKey.objects.values().get()
    assert row["hash"] == hashlib.sha256(token.encode()).hexdigest()
    assert row["user_id"] == kim.pk
    assert token not in str(row)
    assert token not in str(page.call("GET"))
    assert row["hash"] not in str(page.call("GET"))
    assert page.listed() == [{name: value for name, value in made.items() if name != "key"}]


def test_two_keys_are_never_the_same(page: Api) -> None:
    assert len({page.make(name="same")["key"] for _ in range(20)}) == 20


def test_a_key_may_end(page: Api) -> None:
    made = page.make(name="short", expires_in_days=2)
    left = datetime.fromisoformat(made["expires_at"]) - timezone.now()
    assert timedelta(days=2) - timedelta(minutes=1) < left <= timedelta(days=2)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " \t"},
        {"name": "x" * 101},
        {"name": 5},
        {"name": None},
        {"name": "a\0b"},
        {"name": "n", "scopes": []},
        {"name": "n", "scopes": ["admin"]},
        {"name": "n", "scopes": "read"},
        {"name": "n", "scopes": ["read"] * 5},
        {"name": "n", "scopes": None},
        {"name": "n", "expires_in_days": 0},
        {"name": "n", "expires_in_days": -1},
        {"name": "n", "expires_in_days": 3651},
        {"name": "n", "expires_in_days": "7"},
        {"name": "n", "expires_in_days": True},
        {"name": "n", "expires_at": "2030-01-01"},
        {"name": "n", "key": "chatkey_mine"},
        {"name": "n", "user": "lee"},
    ],
)
def test_what_is_no_key_is_refused(page: Api, body: dict[str, Any]) -> None:
    assert page.refused(**body) == (400, "invalid")
    assert not ApiKey.objects.exists()


def test_an_account_has_at_most_100(page: Api, kim: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked ones and those of others do not count."""
    assert api_keys.MAX_KEYS == 100
    monkeypatch.setattr(api_keys, "MAX_KEYS", 3)
    for _ in range(3):
        make_key(
            make_user("lee") if not User.objects.filter(username="lee").exists() else User.objects.get(username="lee")
        )
        make_key(kim, revoked_at=timezone.now())
    made = [page.make(name="n") for _ in range(3)]
    assert page.refused(name="n") == (409, "too_many_keys")
    assert page.call("DELETE", f"/{made[0]['id']}")[0] == 200
    page.make(name="n")
    assert page.refused(name="n") == (409, "too_many_keys")


# Keys made by keys ------------------------------------------------------------------------------------------------
def test_a_key_makes_no_key_that_may_do_more(api: APIClient, kim: User) -> None:
    maker = with_key(api, kim, Scope.KEYS, Scope.READ)
    assert maker.make(name="n", scopes=["read"])["scopes"] == ["read"]
    assert maker.make(name="n", scopes=["keys", "read"])["scopes"] == ["keys", "read"]
    for scopes in (["chat"], ["read", "chat"], ["config"], list(Scope.values)):
        assert maker.refused(name="n", scopes=scopes) == (403, "scope_missing"), scopes
    assert maker.refused(name="the default may more") == (403, "scope_missing")


def test_nor_one_that_lives_longer(api: APIClient, kim: User) -> None:
    end = timezone.now() + timedelta(days=5)
    maker = with_key(api, kim, *Scope, expires_at=end)
    for body in ({}, {"expires_in_days": None}, {"expires_in_days": 6}, {"expires_in_days": 3650}):
        made = maker.make(name="n", **body)
        assert datetime.fromisoformat(made["expires_at"]) == end, body
    assert datetime.fromisoformat(maker.make(name="n", expires_in_days=4)["expires_at"]) < end
    again = Api(api, bearer(maker.make(name="n", scopes=list(Scope.values))["key"]))
    assert datetime.fromisoformat(again.make(name="n")["expires_at"]) == end


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope != Scope.KEYS])
def test_a_key_without_the_scope_touches_no_keys(api: APIClient, kim: User, scope: Scope) -> None:
    maker = with_key(api, kim, scope)
    calls = [("GET", "", None), ("POST", "", {"name": "n"}), ("DELETE", f"/{ApiKey.objects.get().pk}", None)]
    for method, path, body in calls:
        status, problem = maker.call(method, path, body)
        assert (status, problem["code"]) == (403, "scope_missing")
    assert ApiKey.objects.get().revoked_at is None


# Listing and revoking ---------------------------------------------------------------------------------------------
def test_only_ones_own_that_hold_are_listed_newest_first(page: Api, kim: User) -> None:
    make_key(make_user("lee"))
    make_key(kim, revoked_at=timezone.now())
    expired = ApiKey.objects.get(hash=hashlib.sha256(make_key(kim, expires_at=timezone.now()).encode()).hexdigest())
    made = [page.make(name=name)["id"] for name in ("a", "b")]
    assert [item["id"] for item in page.listed()] == [*made[::-1], expired.pk]


def test_a_revoked_key_lets_in_nobody_and_cannot_be_revoked_again(page: Api, api: APIClient) -> None:
    made = page.make(name="n", scopes=["keys"])
    by_key = Api(api, bearer(made["key"]))
    assert by_key.call("GET")[0] == 200
    assert page.call("DELETE", f"/{made['id']}") == (200, {"id": made["id"], "message": "API key revoked."})
    status, problem = by_key.call("GET")
    assert (status, problem["code"]) == (401, "invalid_key")
    when = ApiKey.objects.get(pk=made["id"]).revoked_at
    assert page.call("DELETE", f"/{made['id']}")[0] == 404
    assert ApiKey.objects.get(pk=made["id"]).revoked_at == when
    assert page.listed() == []


def test_a_key_may_revoke_itself(api: APIClient, kim: User) -> None:
    own = with_key(api, kim, Scope.KEYS)
    assert own.call("DELETE", f"/{ApiKey.objects.get().pk}")[0] == 200
    assert own.call("GET")[0] == 401


def test_anothers_key_is_not_there(page: Api) -> None:
    make_key(make_user("lee"))
    key = ApiKey.objects.get()
    foreign, unknown = page.call("DELETE", f"/{key.pk}"), page.call("DELETE", "/999999")
    assert foreign[0] == unknown[0] == 404
    assert foreign[1] | {"request_id": ""} == unknown[1] | {"request_id": ""}
    assert ApiKey.objects.get().revoked_at is None


@pytest.mark.parametrize("key_id", ["0", "x", "-1", "1.0", "%D9%A1", "9" * 18, "9" * 19, "1%2F2"])
def test_an_id_that_is_none_is_unknown(page: Api, key_id: str) -> None:
    status, problem = page.call("DELETE", f"/{key_id}")
    assert (status, problem["code"]) == (404, "not_found")


def test_an_open_server_has_none(api: APIClient) -> None:
    nobody = Api(api, {})
    for method, path, body in (("GET", "", None), ("POST", "", {"name": "n"}), ("DELETE", "/1", None)):
        status, problem = nobody.call(method, path, body)
        assert (status, problem["code"]) == (403, "forbidden")
    assert not ApiKey.objects.exists()


# manage.py create_api_key -------------------------------------------------------------------------------------------
def create_api_key(*arguments: str) -> tuple[str, str]:
    """What the command wrote to standard output, and to standard error."""
    out, err = StringIO(), StringIO()
    call_command("create_api_key", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_prints_the_key_alone(kim: User, api: APIClient) -> None:
    out, err = create_api_key("kim", "--name", " laptop ")
    assert TOKEN.fullmatch(out.removesuffix("\n"))
    assert err == ""
    assert api.get("/conversations", headers=bearer(out.strip())).status_code == 200
    key = ApiKey.objects.get()
    assert (key.user, key.name, key.scopes, key.expires_at) == (kim, "laptop", "chat config read", None)


def test_the_command_takes_scopes_and_an_end(kim: User) -> None:
    create_api_key("kim", "--name", "n", "--scopes", "keys", "read", "--expires", "7")
    key = ApiKey.objects.get()
    assert key.scope_set == {Scope.KEYS, Scope.READ}
    assert key.expires_at is not None
    assert timedelta(days=6, hours=23) < key.expires_at - timezone.now() <= timedelta(days=7)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nobody", "--name", "n"],
        ["gone", "--name", "n"],
        ["kim", "--name", " "],
        ["kim", "--name", "x" * 101],
        ["kim", "--name", "a\nb"],
        ["kim", "--name", "a\x1b[2Jb"],
        ["kim"],
        ["kim", "--name", "n", "--expires", "0"],
        ["kim", "--name", "n", "--expires", "3651"],
        ["kim", "--name", "n", "--scopes", "admin"],
    ],
)
def test_the_command_refuses(kim: User, arguments: list[str]) -> None:
    User.objects.create(username="gone", is_active=False)
    with pytest.raises(CommandError):
        create_api_key(*arguments)
    assert not ApiKey.objects.exists()

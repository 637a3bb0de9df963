"""Every call and every socket action, by everybody: a route, method or action that stands in no table here fails."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx
import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from conversations.access import api_keys
from conversations.models import (
    Allowance,
    Attachment,
    Conversation,
    DailyUsage,
    Feedback,
    Generation,
    Message,
    Scope,
    TokenBudget,
    UserConfig,
    Worker,
)
from conversations.socket.consumers import ACTIONS
from llmproviders.models import Preset
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from .accounts import (
    CANARY,
    CSRF,
    Belongings,
    Headers,
    bearer,
    belongings_of,
    cookie_of,
    ended_session_of,
    expired_key_of,
    key_of,
    make_session,
    make_user,
    require_login,
    revoked_key_of,
    rows_of,
    session_of,
)
from .helpers import stream
from .pictures import picture

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PRIVATE_URL = "http://127.0.0.1:1/v1"
UNKNOWN = Belongings(uuid.UUID(int=7), 2**62, uuid.UUID(int=8), 2**62)


# The tables -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Call:
    """What a call needs, sends and answers. ``mine``: it names an object, and another's is a 404."""

    needs: Scope
    status: int = 200
    mine: bool = False
    body: Callable[[Belongings], dict[str, Any] | None] = lambda _rows: None
    headers: Mapping[str, str] | None = None
    query: str = ""
    upload: bytes | None = None
    # Of a stream without an end only the beginning is read.
    endless: bool = False


def say(**more: Any) -> Callable[[Belongings], dict[str, Any]]:
    return lambda _rows: {"message": "hi", **more}


def say_there(**more: Any) -> Callable[[Belongings], dict[str, Any]]:
    return lambda rows: {"message": "hi", "session_id": str(rows.session_id), **more}


def complete(model: str = "default", **more: Any) -> Callable[[Belongings], dict[str, Any]]:
    return lambda _rows: {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def items(role: str = "user") -> Callable[[Belongings], dict[str, Any]]:
    return lambda _rows: {"items": [{"type": "message", "role": role, "content": "hi"}]}


def run_in(thread_of: Callable[[Belongings], object]) -> Callable[[Belongings], dict[str, Any]]:
    """A run of AG-UI; another's thread is a new one of the caller's."""
    said = [{"id": "u", "role": "user", "content": "hi"}]
    return lambda rows: {"threadId": str(thread_of(rows)), "runId": uuid.uuid4().hex, "messages": said}


def ui_chat(name: str) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]}


AGAIN = {"trigger": "regenerate-message"}


# By route and method: HEAD is as GET, OPTIONS answers whoever is somebody, what is not listed has to be a 405.
CALLS: dict[str, dict[str, list[Call]]] = {
    "conversations": {
        "GET": [Call(Scope.READ), Call(Scope.READ, query="?archived=true"), Call(Scope.READ, query="?search=canary")],
        "POST": [Call(Scope.CHAT, 201), Call(Scope.CHAT, 201, body=lambda _rows: {"title": "new"})],
    },
    "conversations/<str:session_id>": {
        "GET": [Call(Scope.READ, mine=True)],
        "PATCH": [
            Call(Scope.CHAT, mine=True, body=lambda _rows: {"title": "changed"}),
            Call(Scope.CHAT, mine=True, body=lambda rows: {"active_leaf": rows.message_id}),
        ],
        "DELETE": [Call(Scope.CHAT, mine=True)],
    },
    "conversations/<str:session_id>/restore": {"POST": [Call(Scope.CHAT, 404, mine=True)]},
    "attachments": {"POST": [Call(Scope.CHAT, 201, upload=picture())]},
    "attachments/<str:attachment_id>": {
        "GET": [Call(Scope.READ, mine=True)],
        "DELETE": [Call(Scope.CHAT, 204, mine=True)],
    },
    "search": {
        "GET": [
            Call(Scope.READ, query="?q=canary"),
            Call(Scope.READ, query="?q=question&in=messages"),
        ]
    },
    "events": {"GET": [Call(Scope.READ, endless=True)]},
    "messages/<int:message_id>/feedback": {
        "PUT": [
            Call(Scope.CHAT, mine=True, body=lambda _rows: {"rating": 1, "text": "canary"}),
        ],
        "DELETE": [Call(Scope.CHAT, 204, mine=True)],
    },
    "conversations/<str:session_id>/history": {"GET": [Call(Scope.READ, mine=True)]},
    "conversations/<str:session_id>/messages": {
        "GET": [Call(Scope.READ, mine=True), Call(Scope.READ, 400, mine=True, query="?limit=0")]
    },
    "messages/<int:message_id>": {"DELETE": [Call(Scope.CHAT, mine=True)]},
    "generations/<str:generation_id>": {"GET": [Call(Scope.READ, mine=True)]},
    "generations/<str:generation_id>/stop": {"POST": [Call(Scope.CHAT, mine=True)]},
    "generations/<str:generation_id>/stream": {
        "GET": [
            Call(Scope.READ, mine=True),
            Call(Scope.READ, mine=True, query="?after=3"),
            Call(Scope.READ, mine=True, headers={"Last-Event-ID": "{generation_id}:3"}),
            Call(Scope.READ, 204, mine=True, headers={"Last-Event-ID": "{generation_id}:end"}),
            Call(Scope.READ, 400, mine=True, headers={"Last-Event-ID": "{generation_id}:999999"}),
        ]
    },
    "messages/<int:message_id>/regenerate": {
        "POST": [
            Call(Scope.CHAT, mine=True),
            Call(Scope.CHAT, mine=True, body=lambda _rows: {"stream": False}),
            Call(Scope.CHAT, mine=True, headers={"Idempotency-Key": "key-again-{generation_id}"}),
            Call(Scope.CHAT, 400, mine=True, body=lambda _rows: {"model_type": "unknown"}),
        ]
    },
    "chat": {
        "POST": [
            Call(Scope.CHAT, body=say()),
            Call(Scope.CHAT, body=say(stream=False)),
            Call(Scope.CHAT, mine=True, body=say_there()),
            Call(Scope.CHAT, mine=True, body=say_there(stream=False)),
            Call(Scope.CHAT, mine=True, body=lambda rows: {**say_there()(rows), "parent_id": rows.message_id}),
            Call(Scope.CHAT, 400, mine=True, body=say_there(model_type="unknown")),
            Call(Scope.CHAT, mine=True, body=say_there(), headers={"Idempotency-Key": "key-{generation_id}"}),
        ]
    },
    "api/agui": {
        "POST": [
            Call(Scope.CHAT, body=run_in(lambda _rows: uuid.uuid4())),
            Call(Scope.CHAT, body=run_in(lambda rows: rows.session_id)),
        ]
    },
    "api/chat": {
        "POST": [
            Call(Scope.CHAT, body=lambda _rows: ui_chat("a name")),
            # Another's is not there: it is a name like any other.
            Call(Scope.CHAT, body=lambda rows: ui_chat(str(rows.session_id))),
            Call(Scope.CHAT, 404, body=lambda _rows: {**ui_chat("none"), "messages": [], **AGAIN}),
        ]
    },
    "api/chat/<chat_name:chat_id>/messages": {"GET": [Call(Scope.READ)]},
    "api/chat/<chat_name:chat_id>/stream": {"GET": [Call(Scope.READ, 204)]},
    "api/config": {
        "GET": [Call(Scope.CONFIG)],
        "POST": [Call(Scope.CONFIG, body=lambda _rows: {"model_type": "default", "max_tokens": 77})],
    },
    "api/config/models": {"POST": [Call(Scope.CONFIG, 400, body=lambda _rows: {"custom_api_url": PRIVATE_URL})]},
    "api/config/test": {"POST": [Call(Scope.CONFIG, 400, body=lambda _rows: {"custom_api_url": PRIVATE_URL})]},
    "api/usage": {"GET": [Call(Scope.READ), Call(Scope.READ, query="?by=model")]},
    "api/limits": {"GET": [Call(Scope.READ)]},
    "v1/models": {"GET": [Call(Scope.READ)]},
    "v1/models/<str:model>": {"GET": [Call(Scope.READ)]},
    "v1/chat/completions": {
        "POST": [
            Call(Scope.CHAT, body=complete()),
            Call(Scope.CHAT, body=complete(stream=True)),
            Call(Scope.CHAT, 404, body=complete(model="unknown")),
        ]
    },
    "v1/responses": {
        "POST": [
            Call(Scope.CHAT, body=lambda _rows: {"input": "hi"}),
            Call(Scope.CHAT, body=lambda _rows: {"input": "hi", "stream": True}),
            Call(Scope.CHAT, body=lambda _rows: {"input": "hi", "store": False}),
            Call(Scope.CHAT, mine=True, body=lambda rows: {"input": "hi", "conversation": f"conv_{rows.session_id}"}),
        ]
    },
    "v1/responses/<str:response_id>": {
        "GET": [
            Call(Scope.READ, mine=True),
            Call(Scope.READ, mine=True, query="?stream=true"),
            Call(Scope.READ, mine=True, query="?stream=true&starting_after=20"),
        ],
        "DELETE": [Call(Scope.CHAT, mine=True)],
    },
    "v1/responses/<str:response_id>/cancel": {"POST": [Call(Scope.CHAT, mine=True)]},
    "v1/responses/<str:response_id>/input_items": {"GET": [Call(Scope.READ, mine=True)]},
    "v1/conversations": {
        "POST": [
            Call(Scope.CHAT),
            Call(Scope.CHAT, body=items()),
            Call(Scope.CHAT, 400, body=items("robot")),
        ]
    },
    "v1/conversations/<str:conversation_id>": {
        "GET": [Call(Scope.READ, mine=True)],
        "POST": [Call(Scope.CHAT, mine=True)],
        "DELETE": [Call(Scope.CHAT, mine=True)],
    },
    "v1/conversations/<str:conversation_id>/items": {
        "GET": [Call(Scope.READ, mine=True), Call(Scope.READ, mine=True, query="?order=asc&limit=1")],
        "POST": [Call(Scope.CHAT, mine=True, body=items())],
    },
    "v1/conversations/<str:conversation_id>/items/<str:item_id>": {
        "GET": [Call(Scope.READ, mine=True)],
        "DELETE": [Call(Scope.CHAT, mine=True)],
    },
    "api/keys": {
        "GET": [Call(Scope.KEYS)],
        "POST": [Call(Scope.KEYS, 201, body=lambda _rows: {"name": "new"})],
    },
    "api/keys/<str:key_id>": {"DELETE": [Call(Scope.KEYS, mine=True)]},
}
# Routes that ask nobody who they are, and their methods.
PUBLIC = {
    "favicon.ico": {"GET", "HEAD"},
    "api/health": {"GET", "HEAD"},
    "api/health/ready": {"GET", "HEAD"},
    "schema": {"GET", "HEAD", "OPTIONS"},
    "openapi.json": {"GET", "HEAD", "OPTIONS"},
    "docs": {"GET", "HEAD", "OPTIONS"},
}
# Pages of the account whose session it is: whoever has none, a program with a key too, is sent to log in. The first is
# the chat page.
PAGES = {"", "accounts", "accounts/password", "accounts/password/done", "accounts/keys/<int:key_id>/revoke"}
# The last ones answer what no other took. How one logs in and out: test_accounts.py.
OTHERS = {"admin", "redoc", "accounts/login", "accounts/logout", "v1", "v1/<path:rest>", "(anything else)"}
# What stands in a path and is nobody's.
ANYBODYS = {"<str:model>": "default"}
# What stands in a path and is one of its owner's, by what it is called there.
NAMED = {
    "response_id": "generation_id",
    "chat_name:chat_id": "str:session_id",
    "conversation_id": "session_id",
    "<str:item_id>": "msg_<int:message_id>",
}


@dataclass(frozen=True)
class Frame:
    """A socket's frame, and what its owner gets: the last of ``until`` (None: nothing)."""

    needs: Scope
    fields: Callable[[Belongings], dict[str, Any]]
    mine: bool = True
    until: str | None = "done"


FRAMES: dict[str, list[Frame]] = {
    "chat": [Frame(Scope.CHAT, say(), mine=False), Frame(Scope.CHAT, say_there())],
    "regenerate": [Frame(Scope.CHAT, lambda rows: {"message_id": rows.message_id})],
    "attach": [
        Frame(Scope.READ, lambda rows: {"generation_id": str(rows.generation_id)}),
        Frame(Scope.READ, lambda rows: {"generation_id": str(rows.generation_id), "after": 3}),
        Frame(Scope.READ, lambda rows: {"generation_id": str(rows.generation_id), "after": 999_999}, until="refused"),
    ],
    "stop": [Frame(Scope.CHAT, lambda rows: {"generation_id": str(rows.generation_id)}, until=None)],
    "select": [Frame(Scope.CHAT, lambda rows: {"message_id": rows.message_id}, until="selected")],
    "delete": [Frame(Scope.CHAT, lambda rows: {"message_id": rows.message_id}, until="deleted")],
    "watch": [Frame(Scope.READ, lambda _rows: {}, mine=False, until="event")],
}


# Everybody ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Everybody:
    """Headers of each way in, by who it is. What is refused is refused before anything is looked at."""

    owner: User
    refused: dict[str, Headers]
    without_csrf: Headers
    others: dict[str, Headers]
    owners: dict[str, Headers]

    def without(self, scope: Scope) -> Headers:
        return key_of(self.owner, set(Scope.values) - {scope.value})


@pytest.fixture
def everybody(presets: None, settings: Any) -> Everybody:
    require_login(settings)
    kim, lee, gone = make_user("kim"), make_user("lee"), make_user("gone")
    staff = make_user("staff", is_staff=True)
    trusted = make_user("trusted", is_staff=True)
    trusted.user_permissions.set(Permission.objects.all())
    root = make_user("root", is_staff=True, is_superuser=True)
    gone_key, gone_session = key_of(gone), session_of(gone)
    User.objects.filter(pk=gone.pk).update(is_active=False)
    return Everybody(
        owner=kim,
        refused={
            "anonymous": {},
            "unknown key": bearer("chatkey_" + "x" * 43),
            "revoked key": revoked_key_of(kim),
            "expired key": expired_key_of(kim),
            "key of a deactivated account": gone_key,
            "session of a deactivated account": gone_session,
            "session that was logged out": ended_session_of(kim),
            "unknown session": cookie_of("x" * 32),
        },
        without_csrf=cookie_of(make_session(kim).session_key),
        others={
            "other": key_of(lee),
            "other's session": session_of(lee),
            "staff": key_of(staff),
            "staff with every permission": key_of(trusted),
            "superuser": key_of(root),
            "superuser's session": session_of(root),
        },
        owners={"owner's key": key_of(kim), "owner's session": session_of(kim)},
    )


# The URLconf ----------------------------------------------------------------------------------------------------
def routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Every route of the project but the admin's own."""
    for item in (resolver or get_resolver()).url_patterns:
        route = prefix + str(item.pattern)
        if isinstance(item, URLPattern):
            yield route if route or item.name else "(anything else)"
        elif route != "admin/":
            yield from routes(item, route)


def test_every_route_is_in_the_table() -> None:
    assert sorted(routes()) == sorted([*CALLS, *PUBLIC, *PAGES, *OTHERS])


def path_of(route: str, rows: Belongings) -> str:
    path = "/" + route
    for name, value in NAMED.items():
        path = path.replace(name, value)
    for name, value in vars(rows).items():
        path = path.replace(f"<str:{name}>", str(value)).replace(f"<int:{name}>", str(value))
    for name, value in ANYBODYS.items():
        path = path.replace(name, value)
    assert "<" not in path, "a new kind of id: add it to Belongings"
    return path


def send(client: httpx.Client, route: str, method: str, call: Call, who: Headers, rows: Belongings) -> httpx.Response:
    body = call.body(rows)
    headers = {name: value.format(**vars(rows)) for name, value in (call.headers or {}).items()}
    if body is not None:
        headers["Content-Type"] = "application/json"
    content = None if body is None else json.dumps(body)
    url = path_of(route, rows) + call.query
    if call.upload is not None:
        return client.request(method, url, headers=who, files={"file": call.upload})
    if not call.endless or method != "GET":
        return client.request(method, url, headers={**who, **headers}, content=content)
    with client.stream(method, url, headers={**who, **headers}) as response:
        begin = next(response.iter_raw(), b"")
        return httpx.Response(response.status_code, headers=response.headers, content=begin, request=response.request)


def code_of(response: httpx.Response) -> str:
    if response.request.url.path.startswith("/v1/") and response.status_code >= 400 and response.content:
        return str(response.json()["error"]["code"])
    if "X-Error-Code" in response.headers:
        return response.headers["X-Error-Code"]
    if response.headers.get("Content-Type") != "application/problem+json" or not response.content:
        return ""
    return str(response.json()["code"])


def without_request_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


# REST and SSE ---------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("model", "unpaced")
class TestCalls:
    @pytest.mark.parametrize("route", CALLS)
    def test_who_shows_nothing_that_holds_gets_401(
        self, client: httpx.Client, everybody: Everybody, route: str
    ) -> None:
        """For every method, known or not."""
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        cells = {}
        for method in METHODS:
            for call in CALLS[route].get(method, [Call(Scope.READ)]):
                for name, who in everybody.refused.items():
                    response = send(client, route, method, call, who, rows)
                    code = "invalid_key" if "key" in name else "login_required"
                    if route.startswith("v1/"):
                        code = "invalid_api_key"
                    assert method == "HEAD" or CANARY not in response.text
                    if response.status_code != 401 or (method != "HEAD" and code_of(response) != code):
                        cells[method, name] = response.status_code, code_of(response)
                    assert response.headers.get("WWW-Authenticate") == "Bearer", (method, name)
        assert cells == {}
        assert rows_of(everybody.owner) == before

    @pytest.mark.parametrize("route", CALLS)
    def test_a_key_needs_the_scope_and_a_session_its_csrf_token(
        self, client: httpx.Client, everybody: Everybody, route: str
    ) -> None:
        rows = belongings_of(everybody.owner)
        keys = {scope: everybody.without(scope) for scope in Scope}
        before = rows_of(everybody.owner)
        for method, calls in CALLS[route].items():
            for call in calls:
                response = send(client, route, method, call, keys[call.needs], rows)
                assert (response.status_code, code_of(response)) == (403, "scope_missing"), (method, call)
                if method not in SAFE:
                    response = send(client, route, method, call, everybody.without_csrf, rows)
                    assert (response.status_code, code_of(response)) == (403, "csrf_failed"), (method, call)
        assert rows_of(everybody.owner) == before

    @pytest.mark.parametrize("route", CALLS)
    def test_a_key_needs_no_other_scope(self, client: httpx.Client, everybody: Everybody, route: str) -> None:
        keys = {scope: key_of(everybody.owner, [scope]) for scope in Scope}
        for method, calls in CALLS[route].items():
            for call in calls:
                if (route, method) == ("api/keys", "POST"):
                    continue  # what a key may give on is a test of its own: test_credentials.py
                response = send(client, route, method, call, keys[call.needs], belongings_of(everybody.owner))
                assert response.status_code == call.status, (method, call, response.text)

    @pytest.mark.parametrize("route", CALLS)
    def test_anothers_is_not_there_and_stays_as_it_was(
        self, client: httpx.Client, everybody: Everybody, route: str
    ) -> None:
        """Staff and superusers are just others here. What is another's looks like what is not there at all."""
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        for method, calls in CALLS[route].items():
            for call in calls:
                for name, who in everybody.others.items():
                    response = send(client, route, method, call, who, rows)
                    assert CANARY not in response.text, (method, name)
                    if not call.mine:
                        assert response.status_code == call.status, (method, name, response.text)
                        continue
                    assert (response.status_code, code_of(response)) == (404, "not_found"), (method, name)
                    unknown = send(client, route, method, call, who, UNKNOWN)
                    assert without_request_id(unknown.json()) == without_request_id(response.json())
                    assert unknown.status_code == 404
                    assert _comparable(unknown) == _comparable(response)
        assert rows_of(everybody.owner) == before

    @pytest.mark.parametrize("route", CALLS)
    def test_the_owner_gets_what_was_asked_for(self, client: httpx.Client, everybody: Everybody, route: str) -> None:
        for method, calls in CALLS[route].items():
            for call in calls:
                for name, who in everybody.owners.items():
                    response = send(client, route, method, call, who, belongings_of(everybody.owner))
                    assert response.status_code == call.status, (method, name, response.text)
                    if method == "GET":
                        head = send(client, route, "HEAD", call, who, belongings_of(everybody.owner))
                        assert (head.status_code, head.content) == (call.status, b""), name

    @pytest.mark.parametrize("route", CALLS)
    def test_a_method_that_is_not_listed_is_not_allowed(
        self, client: httpx.Client, everybody: Everybody, route: str
    ) -> None:
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        listed = set(CALLS[route]) | ({"HEAD"} if "GET" in CALLS[route] else set())
        for method in set(METHODS) - listed:
            for name, who in {**everybody.others, **everybody.owners}.items():
                response = send(client, route, method, Call(Scope.READ), who, rows)
                expected = 200 if method == "OPTIONS" else 405
                assert response.status_code == expected, (method, name)
                assert set(response.headers["Allow"].split(", ")) == listed | {"OPTIONS"}
                assert CANARY not in response.text
        assert rows_of(everybody.owner) == before

    @pytest.mark.parametrize("route", PUBLIC)
    def test_public_pages_are_the_same_for_all(self, client: httpx.Client, everybody: Everybody, route: str) -> None:
        belongings_of(everybody.owner)
        everyone = {**everybody.refused, **everybody.others, **everybody.owners}
        for method in METHODS:
            expected = 200 if method in PUBLIC[route] else 405
            answers = {name: client.request(method, f"/{route}", headers=who) for name, who in everyone.items()}
            assert {name: response.status_code for name, response in answers.items()} == dict.fromkeys(
                everyone, expected
            ), method
            assert all(CANARY not in response.text for response in answers.values())

    @pytest.mark.parametrize("route", sorted(PAGES))
    def test_account_pages_are_their_accounts_only(
        self, client: httpx.Client, everybody: Everybody, route: str
    ) -> None:
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        path = path_of(route, rows)
        sessions = {name for name in everybody.others if "session" in name} | {"owner's session"}
        for name, who in {**everybody.refused, **everybody.others, **everybody.owners}.items():
            page = client.get(path, headers=who)
            if name not in sessions:
                assert (page.status_code, page.headers["Location"].partition("?")[0]) == (302, "/accounts/login"), name
            elif name != "owner's session":
                assert CANARY not in page.text, name
        if "key_id" in route:
            for name, who in everybody.others.items():
                form = {"csrfmiddlewaretoken": CSRF}
                tried = client.post(path, headers=who, data=form)
                assert tried.status_code == (404 if name in sessions else 403), name
        assert rows_of(everybody.owner) == before

    @pytest.mark.parametrize("route", [route for route in CALLS if route in ("conversations", "chat", "api/config")])
    @pytest.mark.parametrize("user_id", ["kim", "KIM", "root", "7", "nobody"])
    def test_the_user_id_of_another_is_refused(
        self, client: httpx.Client, everybody: Everybody, route: str, user_id: str
    ) -> None:
        belongings_of(everybody.owner)
        before, conversations = rows_of(everybody.owner), Conversation.objects.count()
        who = everybody.others["other"]
        for method, calls in CALLS[route].items():
            body = {**(calls[0].body(UNKNOWN) or {}), "user_id": user_id}
            options: dict[str, Any] = {"params": {"user_id": user_id}} if method == "GET" else {"json": body}
            response = client.request(method, f"/{route}", headers=who, **options)
            assert (response.status_code, code_of(response)) == (403, "forbidden"), method
            assert CANARY not in response.text
        assert (rows_of(everybody.owner), Conversation.objects.count()) == (before, conversations)

    def test_lists_show_ones_own_only(self, client: httpx.Client, everybody: Everybody) -> None:
        rows = belongings_of(everybody.owner)
        for who in everybody.others.values():
            assert client.get("/conversations", headers=who).json()["conversations"] == []
            own = client.post("/conversations", headers=who, json={}).json()["session_id"]
            listed = client.get("/conversations", headers=who).json()["conversations"]
            assert own in [item["session_id"] for item in listed]
            assert str(rows.session_id) not in [item["session_id"] for item in listed]
            client.delete(f"/conversations/{own}", headers=who)
            assert rows.key_id not in [item["id"] for item in client.get("/api/keys", headers=who).json()["keys"]]
        owner = everybody.owners["owner's key"]
        listed = client.get("/conversations", headers=owner).json()["conversations"]
        assert [item["session_id"] for item in listed] == [str(rows.session_id)]

    def test_anothers_idempotency_key_is_no_oracle(
        self, client: httpx.Client, everybody: Everybody, model: ScriptedUpstream
    ) -> None:
        """Neither that it was used, nor for what, nor what came of it."""
        headers = {"Idempotency-Key": "once"}
        owner, other = everybody.owners["owner's key"], everybody.others["other"]
        body = {"message": f"{CANARY} question", "stream": False}
        model.script = [answer(f"{CANARY} answer"), answer("another"), answer("and another")]
        first = client.post("/chat", headers={**owner, **headers}, json=body)
        same = client.post("/chat", headers={**other, **headers}, json=body)
        assert (same.status_code, same.json()["assistant_reply"]) == (200, "another")
        assert same.json()["generation_id"] != first.json()["generation_id"]
        third = everybody.others["staff"]
        differs = client.post("/chat", headers={**third, **headers}, json={**body, "message": "something else"})
        assert (differs.status_code, differs.json()["assistant_reply"]) == (200, "and another")
        there = {**body, "session_id": first.json()["session_id"]}
        assert client.post("/chat", headers={**other, **headers}, json=there).status_code == 404

    def test_an_idempotency_key_does_not_stand_for_a_scope(self, client: httpx.Client, everybody: Everybody) -> None:
        headers = {"Idempotency-Key": "once"}
        owner = {**everybody.owners["owner's key"], **headers}
        first = client.post("/chat", headers=owner, json={"message": "hi"})
        assert first.status_code == 200
        regenerate = f"/messages/{first.headers['X-Message-Id']}/regenerate"
        once = {"Idempotency-Key": "again"}
        assert client.post(regenerate, headers={**owner, **once}, json={}).status_code == 200
        for scope in (Scope.READ, Scope.CONFIG, Scope.KEYS):
            who = key_of(everybody.owner, [scope])
            again = client.post("/chat", headers={**who, **headers}, json={"message": "hi"})
            assert (again.status_code, code_of(again)) == (403, "scope_missing"), scope
            again = client.post(regenerate, headers={**who, **once}, json={})
            assert (again.status_code, code_of(again)) == (403, "scope_missing"), scope

    def test_a_running_answer_of_another_goes_on(
        self, client: httpx.Client, server: Server, everybody: Everybody, model: ScriptedUpstream
    ) -> None:
        model.script = [answer("one ", "two", gate="g", gate_at=1)]
        owner = everybody.owners["owner's key"]
        with client.stream("POST", "/chat", headers=owner, json={"message": "hi"}) as running:
            ids = {name: running.headers[f"X-{name}-Id"] for name in ("Session", "Message", "Generation")}
            rows = Belongings(uuid.UUID(ids["Session"]), int(ids["Message"]), uuid.UUID(ids["Generation"]), 2**62)
            for who in everybody.others.values():
                for route, methods in CALLS.items():
                    for method, calls in methods.items():
                        for call in calls:
                            if call.mine:
                                assert send(client, route, method, call, who, rows).status_code == 404
            with opened(server, everybody.others["other"]) as socket:
                for kind, frames in FRAMES.items():
                    for frame in frames:
                        if frame.mine:
                            assert exchange(socket, kind, frame, rows)["error"]["code"] == "not_found"
            assert Generation.objects.get(pk=rows.generation_id).is_running
            model.gate("g").open()
        done = stream(client, "GET", f"/generations/{rows.generation_id}/stream", headers=owner)
        assert (done.text, done.done["status"]) == ("one two", "completed")


def _comparable(response: httpx.Response) -> dict[str, str]:
    """The headers but for what differs between any two requests."""
    own = {"x-request-id", "date", "content-length", "ratelimit-remaining", "ratelimit-reset"}
    return {name: value for name, value in response.headers.items() if name not in own}


# The socket -----------------------------------------------------------------------------------------------------
def opened(server: Server, who: Headers, **options: Any) -> ClientConnection:
    """A socket with what a browser or a program shows; a browser's has an Origin."""
    headers = {name: value for name, value in who.items() if name != "X-CSRFToken"}
    if "Cookie" in headers:
        options.setdefault("origin", server.url)
    return connect(server.ws_url, additional_headers=headers, proxy=None, **options)


def tell(socket: ClientConnection, kind: str, frame: Frame, rows: Belongings) -> None:
    socket.send(json.dumps({"type": kind, "id": "x", **frame.fields(rows)}))


def get(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(socket.recv(timeout=10))
    return frame


def exchange(socket: ClientConnection, kind: str, frame: Frame, rows: Belongings) -> dict[str, Any]:
    tell(socket, kind, frame, rows)
    return get(socket)


def closed_at(socket: ClientConnection, kind: str, frame: Frame, rows: Belongings) -> tuple[int, str]:
    """Code and reason with which the server closes, without a frame before it."""
    with pytest.raises(ConnectionClosed) as closed:
        exchange(socket, kind, frame, rows)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def is_open(socket: ClientConnection) -> bool:
    socket.send('{"type": "ping"}')
    return get(socket) == {"type": "pong"}


CELLS = [(kind, index) for kind, frames in FRAMES.items() for index in range(len(frames))]


def test_every_socket_action_is_in_the_table() -> None:
    assert FRAMES.keys() == ACTIONS.keys()


@pytest.mark.usefixtures("model", "unpaced")
@pytest.mark.parametrize(("kind", "index"), CELLS)
class TestFrames:
    def test_who_shows_nothing_that_holds_is_closed_out(
        self, server: Server, everybody: Everybody, kind: str, index: int
    ) -> None:
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        for name, who in everybody.refused.items():
            reason = "invalid_key" if "key" in name else "login_required"
            with opened(server, who) as socket:
                assert closed_at(socket, kind, FRAMES[kind][index], rows) == (4401, reason), name
        assert rows_of(everybody.owner) == before

    def test_a_session_from_no_page_or_a_foreign_one_is_closed_out(
        self, server: Server, everybody: Everybody, kind: str, index: int
    ) -> None:
        rows = belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        for origin in (None, "https://elsewhere.example", "null"):
            with opened(server, everybody.without_csrf, origin=origin) as socket:
                assert closed_at(socket, kind, FRAMES[kind][index], rows) == (4403, "origin_not_allowed")
        assert rows_of(everybody.owner) == before

    def test_a_key_needs_the_scope(self, server: Server, everybody: Everybody, kind: str, index: int) -> None:
        frame, rows = FRAMES[kind][index], belongings_of(everybody.owner)
        who = everybody.without(frame.needs)
        before = rows_of(everybody.owner)
        with opened(server, who) as socket:
            assert exchange(socket, kind, frame, rows)["error"]["code"] == "scope_missing"
            assert is_open(socket)
        assert rows_of(everybody.owner) == before

    def test_anothers_is_not_there_and_stays_as_it_was(
        self, server: Server, everybody: Everybody, kind: str, index: int
    ) -> None:
        frame, rows = FRAMES[kind][index], belongings_of(everybody.owner)
        before = rows_of(everybody.owner)
        for name, who in everybody.others.items():
            with opened(server, who) as socket:
                tell(socket, kind, frame, rows)
                if not frame.mine:
                    assert ended(socket)[-1]["done"] if frame.until == "done" else get(socket)["type"] == frame.until
                    continue
                refused = get(socket)
                assert (refused["type"], refused["error"]["code"]) == ("refused", "not_found"), name
                unknown = exchange(socket, kind, frame, UNKNOWN)
                assert without_request_id(unknown["error"]) == without_request_id(refused["error"])
                assert is_open(socket)
        assert rows_of(everybody.owner) == before

    def test_the_owner_gets_what_was_asked_for(
        self, server: Server, everybody: Everybody, kind: str, index: int
    ) -> None:
        frame = FRAMES[kind][index]
        for who in (*everybody.owners.values(), key_of(everybody.owner, [frame.needs])):
            with opened(server, who) as socket:
                tell(socket, kind, frame, belongings_of(everybody.owner))
                if frame.until == "done":
                    frames = ended(socket)
                    assert (frames[0]["type"], frames[-1]["status"]) == ("accepted", "completed")
                elif frame.until == "refused":
                    assert get(socket)["error"]["code"] == "invalid_position"
                elif frame.until:
                    assert get(socket)["type"] == frame.until
                assert is_open(socket)


def ended(socket: ClientConnection) -> list[dict[str, Any]]:
    """The frames of a reply, up to the last."""
    frames = [get(socket)]
    while "done" not in frames[-1]:
        assert frames[-1].get("type") != "refused", frames
        frames.append(get(socket))
    return frames


@pytest.mark.usefixtures("model", "unpaced")
def test_the_user_id_of_another_is_refused_on_a_socket(server: Server, everybody: Everybody) -> None:
    with opened(server, everybody.others["other"]) as socket:
        for user_id in ("kim", "root", "nobody"):
            socket.send(json.dumps({"type": "chat", "id": "x", "message": "hi", "user_id": user_id}))
            assert get(socket)["error"]["code"] == "forbidden"
    assert not Message.objects.exists()


# Admin ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class AdminPages:
    """How to make a row, and which pages a superuser, or staff with every permission, gets."""

    make: Callable[[], Model]
    add: int = 200
    delete: int = 200


def a_conversation() -> Conversation:
    return Conversation.objects.get(session_id=belongings_of(make_user("somebody")).session_id)


def a_message() -> Message:
    return Message.objects.filter(conversation=a_conversation()).latest("pk")


def an_attachment() -> Attachment:
    return Attachment.objects.get(pk=belongings_of(make_user("somebody")).attachment_id)


# One page, in the place of a list: test_admin_overview.py.
OF_NO_ROWS = "conversations.overview"
ADMIN: dict[str, AdminPages] = {
    "auth.group": AdminPages(lambda: Group.objects.create(name="group")),
    "auth.user": AdminPages(lambda: make_user("somebody")),
    "llmproviders.preset": AdminPages(
        lambda: Preset.objects.create(type="new", name="New", api_url="https://models.example.com/v1", model="m")
    ),
    "conversations.attachment": AdminPages(an_attachment, add=403, delete=403),
    "conversations.conversation": AdminPages(a_conversation, add=403),
    "conversations.message": AdminPages(a_message, add=403, delete=403),
    "conversations.generation": AdminPages(lambda: a_message().generation, add=403, delete=403),
    "conversations.worker": AdminPages(lambda: Worker.objects.create(host="host", pid=1), add=403, delete=403),
    "conversations.userconfig": AdminPages(lambda: UserConfig.objects.create(user_identifier="kim")),
    "conversations.apikey": AdminPages(lambda: api_keys.make(user=make_user("somebody"), name="a key")[0]),
    "conversations.allowance": AdminPages(lambda: Allowance.objects.create(user=make_user("somebody"), max_answers=1)),
    "conversations.tokenbudget": AdminPages(
        lambda: TokenBudget.objects.create(subject="user:7", day=date(2026, 1, 31)), add=403, delete=403
    ),
    "conversations.dailyusage": AdminPages(
        lambda: DailyUsage.objects.create(day=date(2026, 1, 31)), add=403, delete=403
    ),
    "conversations.feedback": AdminPages(
        lambda: Feedback.objects.create(message=a_message(), rating=1), add=403, delete=403
    ),
    "axes.accessattempt": AdminPages(
        lambda: AccessAttempt.objects.create(username="kim", ip_address="192.0.2.7", failures_since_start=1),
        add=403,
    ),
}


def test_every_model_of_the_admin_is_in_the_table() -> None:
    assert {model._meta.label_lower for model in admin.site._registry} == {*ADMIN, OF_NO_ROWS}


def admin_statuses(user: User | None, item: Model) -> dict[str, int]:
    """What each admin page of a model answers to ``user``."""
    client = Client()
    if user:
        client.force_login(user)
    name = f"admin:{item._meta.app_label}_{item._meta.model_name}"
    urls = {page: reverse(f"{name}_{page}", args=[item.pk]) for page in ("change", "delete", "history")}
    urls |= {page: reverse(f"{name}_{page}") for page in ("changelist", "add")}
    return {page: client.get(url).status_code for page, url in urls.items()}


@pytest.mark.django_db
@pytest.mark.parametrize("label", ADMIN)
def test_admin_pages_are_for_staff_with_the_permission(label: str) -> None:
    pages, item = ADMIN[label], ADMIN[label].make()
    app, model = label.split(".")
    staff, viewer = make_user("staff", is_staff=True), make_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=f"view_{model}"))
    trusted = make_user("trusted", is_staff=True)
    trusted.user_permissions.set(Permission.objects.all())
    not_staff = make_user("kim")
    not_staff.user_permissions.set(Permission.objects.all())
    all_pages = ("change", "delete", "history", "changelist", "add")
    everything = {**dict.fromkeys(all_pages, 200), "add": pages.add, "delete": pages.delete}
    assert admin_statuses(None, item) == dict.fromkeys(all_pages, 302)
    assert admin_statuses(not_staff, item) == dict.fromkeys(all_pages, 302)
    assert admin_statuses(staff, item) == dict.fromkeys(all_pages, 403)
    assert admin_statuses(viewer, item) == {**dict.fromkeys(all_pages, 200), "add": 403, "delete": 403}
    assert admin_statuses(trusted, item) == everything
    assert admin_statuses(make_user("root", is_staff=True, is_superuser=True), item) == everything


@pytest.mark.django_db
def test_staff_who_may_not_read_messages_do_not_see_their_text() -> None:
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.exclude(codename__in=["view_message", "change_message"]))
    message = a_message()
    client = Client()
    client.force_login(staff)
    for model in (Conversation, Generation, Message, User):
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        item = {Conversation: message.conversation, Generation: message.generation, Message: message}.get(
            model, message.conversation.owner
        )
        assert isinstance(item, Model)
        for page in ("change", "delete", "history"):
            text = client.get(reverse(f"{name}_{page}", args=[item.pk])).content.decode()
            assert message.content not in text, (name, page)
        assert message.content not in client.get(reverse(f"{name}_changelist"), {"q": CANARY}).content.decode()
    staff.user_permissions.add(Permission.objects.get(codename="view_message"))
    page = client.get(reverse("admin:conversations_message_change", args=[message.pk]))
    assert message.content in page.content.decode(), "with the permission they do"

"""Who is calling, and what they may do."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from hypothesis import given
from hypothesis import strategies as st

from conversations.access import Action, Caller, authorize
from conversations.credentials import Connection, check_origin, identify
from conversations.exceptions import NotAuthenticated, NotFound, PermissionRefused
from conversations.models import Conversation

OPEN = Caller(sees_all=True)
LOCAL = "127.0.0.1"


def local(**headers: str) -> Connection:
    """A connection from this machine; ``_`` stands for a hyphen."""
    return Connection(LOCAL, {name.replace("_", "-"): value for name, value in headers.items()})


# Connections ----------------------------------------------------------------------------------------------------
def test_a_connection_is_the_same_from_a_request_and_from_a_scope() -> None:
    meta = {
        "REMOTE_ADDR": "10.0.0.7",
        "HTTP_HOST": "example.com",
        "HTTP_X_FORWARDED_FOR": "203.0.113.9",
        "CONTENT_TYPE": "text/plain",
        "wsgi.input": object(),
    }
    scope = {
        "client": ("10.0.0.7", 4711),
        "headers": [(b"Host", b"example.com"), (b"x-forwarded-for", b"203.0.113.9")],
    }
    expected = Connection("10.0.0.7", {"host": "example.com", "x-forwarded-for": "203.0.113.9"})
    assert Connection.from_meta(meta) == Connection.from_scope(scope) == expected


@pytest.mark.parametrize(
    "scope", [{"headers": []}, {"headers": [], "client": None}, {"headers": [], "client": ("", 0)}]
)
def test_a_peer_without_an_address_is_not_local(scope: dict[str, Any]) -> None:
    """As over a Unix socket, where a proxy sits in front."""
    assert not Connection.from_scope(scope).is_local
    assert not Connection.from_meta({"REMOTE_ADDR": ""}).is_local


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9))))
def test_any_bytes_of_a_header_are_read(headers: list[tuple[bytes, bytes]]) -> None:
    assert isinstance(Connection.from_scope({"headers": headers, "client": (LOCAL, 1)}).is_local, bool)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "::FFFF:7f00:1", "0:0:0:0:0:0:0:1"]
)
def test_loopback_is_local(peer: str) -> None:
    assert Connection(peer, {}).is_local


@pytest.mark.parametrize(
    "peer",
    [
        "10.0.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "0.0.0.0",
        "128.0.0.1",
        "::",
        "::2",
        "fe80::1",
        "::ffff:10.0.0.1",
        "::ffff:128.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "localhost",
        "127.1",
        "2130706433",
        "testclient",
        "",
    ],
)
def test_everything_else_is_not(peer: str) -> None:
    assert not Connection(peer, {}).is_local


@pytest.mark.parametrize(
    "name", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-x"]
)
@pytest.mark.parametrize("value", ["127.0.0.1", "for=127.0.0.1", ""])
def test_what_came_through_a_proxy_is_not_local_whatever_the_proxy_says(name: str, value: str) -> None:
    assert not Connection(LOCAL, {name: value}).is_local
    assert not Connection.from_meta({"REMOTE_ADDR": LOCAL, f"HTTP_{name.upper().replace('-', '_')}": value}).is_local
    assert not Connection.from_scope(
        {"client": (LOCAL, 1), "headers": [(name.title().encode(), value.encode())]}
    ).is_local


def test_headers_that_came_twice_are_the_same_from_a_request_and_from_a_scope() -> None:
    """The client's address is read from the right: of two lines the first must not be lost, nor win."""
    lines = [("host", "example.com"), ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "client": ("10.0.0.7", 4711),
        "headers": [(name.encode(), value.encode()) for name, value in lines],
    }
    request = ASGIRequest(scope, BytesIO())
    assert Connection.from_meta(request.META) == Connection.from_scope(scope)


# Who is calling -------------------------------------------------------------------------------------------------
def test_on_an_open_server_whoever_is_local_sees_all(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": False}
    assert identify(local()) == OPEN


@pytest.mark.parametrize("connection", [Connection("10.0.0.1", {}), local(x_forwarded_for="127.0.0.1")])
def test_an_open_server_answers_its_own_machine_only(settings: Any, connection: Connection) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": False}
    with pytest.raises(PermissionRefused) as refusal:
        identify(connection)
    assert refusal.value.code == "login_required"


def test_where_login_is_required_being_local_does_not_help(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True}
    with pytest.raises(NotAuthenticated):
        identify(local())


def test_login_is_required_where_nobody_said_otherwise(settings: Any) -> None:
    settings.CONVERSATIONS = {}
    with pytest.raises(NotAuthenticated):
        identify(local())


# user_id --------------------------------------------------------------------------------------------------------
KIM = User(pk=7, username="kim")
ACCOUNT = Caller(user_identifier="user:7", user=KIM)


@pytest.mark.parametrize("caller", [OPEN, ACCOUNT, Caller(user_identifier="kim")])
@pytest.mark.parametrize("user_id", ["", None])
def test_without_user_id_a_caller_stays_as_they_are(caller: Caller, user_id: str | None) -> None:
    assert caller.labelled(user_id) is caller


def test_on_an_open_server_a_user_id_is_a_label() -> None:
    labelled = OPEN.labelled("kim")
    assert labelled == Caller(user_identifier="kim")
    assert labelled.is_authenticated
    assert not labelled.sees_all


def test_an_account_may_give_its_own_name_only() -> None:
    assert ACCOUNT.labelled("kim") is ACCOUNT
    for other in ("lee", "Kim", "user:7", "7"):
        with pytest.raises(PermissionRefused):
            ACCOUNT.labelled(other)


def test_a_label_cannot_become_another() -> None:
    with pytest.raises(PermissionRefused):
        OPEN.labelled("kim").labelled("lee")


# What they may do -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("action", Action)
def test_nobody_in_particular_may_nothing(action: Action) -> None:
    with pytest.raises(NotAuthenticated):
        authorize(Caller(), action)
    with pytest.raises(NotAuthenticated):
        authorize(Caller(), action, Conversation())


@pytest.mark.parametrize("action", Action)
def test_ones_own_may_be_touched_and_anothers_is_not_there(action: Action) -> None:
    mine = Conversation(user_identifier="user:7")
    for item in (None, mine):
        authorize(ACCOUNT, action, item)
    for other in ("user:8", "", "user:77", "kim"):
        with pytest.raises(NotFound):
            authorize(ACCOUNT, action, Conversation(user_identifier=other))


@pytest.mark.parametrize("action", Action)
def test_the_one_person_of_an_open_server_may_touch_everything(action: Action) -> None:
    for identifier in ("", "kim", "user:8"):
        authorize(OPEN, action, Conversation(user_identifier=identifier))


@pytest.mark.django_db
def test_queries_show_what_authorize_allows() -> None:
    rows = [Conversation.objects.create(user_identifier=name) for name in ("", "kim", "user:7")]
    for caller in (OPEN, OPEN.labelled("kim"), OPEN.labelled("lee"), ACCOUNT):
        allowed = []
        for row in rows:
            try:
                authorize(caller, Action.READ, row)
            except NotFound:
                continue
            allowed.append(row)
        assert list(Conversation.objects.for_owner(caller).order_by("pk")) == allowed


# Sockets of foreign pages ---------------------------------------------------------------------------------------
@pytest.fixture
def hosts(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", ".example.com"]
    settings.CORS_ALLOWED_ORIGINS = ["https://friend.example"]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", None),
        ("localhost:8000", "http://localhost:8000"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("chat.example.com", "https://chat.example.com"),
        ("localhost:8000", "https://friend.example"),
    ],
)
def test_own_pages_friends_and_programs_get_in(hosts: None, host: str, origin: str | None) -> None:
    check_origin(local(host=host, **({"origin": origin} if origin else {})))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8001",
        "http://localhost",
        "http://localhost:8000.evil.example",
        "http://evil.example/localhost:8000",
        "http://user@localhost:8000",
        "http://friend.example",
        "https://friend.example.evil.example",
        "https://FRIEND.example",
        "null",
        "file://",
        "",
        "localhost:8000",
        "http://[::1",
    ],
)
def test_other_pages_do_not(hosts: None, origin: str) -> None:
    with pytest.raises(PermissionRefused) as refusal:
        check_origin(local(host="localhost:8000", origin=origin))
    assert refusal.value.code == "origin_not_allowed"


@pytest.mark.parametrize("host", ["evil.example", "", "localhost.evil.example", "[::1", "local host", "@localhost"])
def test_a_name_that_only_resolves_here_does_not_get_in(hosts: None, host: str) -> None:
    """Neither with its own page, nor without one."""
    for headers in ({"host": host}, {"host": host, "origin": f"http://{host}"}):
        with pytest.raises(PermissionRefused) as refusal:
            check_origin(local(**headers))
        assert refusal.value.code == "host_not_allowed"


@given(host=st.text(max_size=20), origin=st.text(max_size=30))
def test_any_headers_are_judged(host: str, origin: str) -> None:
    with suppress(PermissionRefused):
        check_origin(local(host=host, origin=origin))

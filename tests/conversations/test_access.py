"""Who is calling, and what they may do."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from hypothesis import given
from hypothesis import strategies as st

from conversations.access.credentials import Connection, check_origin, identify
from conversations.access.rules import Action, Caller, authorize
from conversations.exceptions import NotAuthenticated, NotFound, PermissionRefused
from conversations.models import Conversation

OPEN = Caller(sees_all=True)
LOCAL = "127.0.0.1"


def local(**headers: str) -> Connection:
    """A connection from this machine; ``_`` stands for a hyphen."""
    return Connection(LOCAL, {name.replace("_", "-"): value for name, value in headers.items()})


# Connections ----------------------------------------------------------------------------------------------------
def request_of(meta: dict[str, Any]) -> HttpRequest:
    """A request that came over WSGI."""
    request = HttpRequest()
    request.META = meta
    return request


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_is_the_same_from_a_request_and_from_a_scope(version: str, scheme: str) -> None:
    meta = {
        "REMOTE_ADDR": "10.0.0.7",
        "HTTP_HOST": "example.com",
        "HTTP_X_FORWARDED_FOR": "203.0.113.9",
        "CONTENT_TYPE": "text/plain",
        "SERVER_PROTOCOL": f"HTTP/{version}",
        "wsgi.input": object(),
        "wsgi.url_scheme": scheme,
    }
    scope = {
        "client": ("10.0.0.7", 4711),
        "scheme": scheme,
        "http_version": version,
        "headers": [(b"Host", b"example.com"), (b"x-forwarded-for", b"203.0.113.9")],
    }
    expected = Connection("10.0.0.7", {"host": "example.com", "x-forwarded-for": "203.0.113.9"}, scheme, version)
    assert Connection.from_request(request_of(meta)) == Connection.from_scope(scope) == expected


@pytest.mark.parametrize(
    "scope", [{"headers": []}, {"headers": [], "client": None}, {"headers": [], "client": ("", 0)}]
)
def test_a_peer_without_an_address_is_not_local(scope: dict[str, Any]) -> None:
    """As over a Unix socket, where a proxy sits in front."""
    assert not Connection.from_scope(scope).is_local
    assert not Connection.from_request(request_of({"REMOTE_ADDR": ""})).is_local


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


def words(text: str) -> list[str]:
    return text.split()


# What proxies are known to add, each by one of its names.
OF_PROXIES = words("""
    forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-x x-forwarded x-forward-for forwarded-for
    via x-real-ip x-client-ip client-ip true-client-ip x-cluster-client-ip x-remote-ip x-remote-addr x-proxyuser-ip
    x-originating-ip x-original-uri x-original-forwarded-for x-original-host x-original-url x-rewrite-url x-host
    proxy-connection proxy-authorization x-proxy-user wl-proxy-client-ip max-forwards x-scheme x-url-scheme
    front-end-https x-https x-ssl-cipher x-client-cert x-request-start x-queue-start x-coming-from x-bluecoat-via
    cf-connecting-ip cf-ray cdn-loop fly-client-ip fly-region fastly-client-ip fastly-ssl akamai-origin-hop
    x-azure-clientip x-arr-ssl x-appengine-user-ip x-amzn-trace-id x-amz-cf-id cloudfront-viewer-address
    x-envoy-external-address x-envoy-original-path x-cloud-trace-context x-varnish x-traefik-id x-nginx-proxy
    x-kong-request-id tailscale-user-login x-vercel-id x-nf-client-connection-ip incap-client-ip x-sucuri-clientip
    ali-cdn-real-ip eagleid x-ms-forwarded-client-cert x-auth-request-user remote-user
""")
# What browsers, curl and the libraries of programs send by themselves.
OF_PROGRAMS = words("""
    host user-agent accept accept-encoding accept-language accept-charset connection keep-alive content-type
    content-length content-encoding transfer-encoding te trailer expect cookie origin referer dnt sec-gpc
    sec-fetch-site sec-fetch-mode sec-fetch-dest sec-fetch-user sec-ch-ua sec-ch-ua-platform sec-ch-ua-mobile
    sec-websocket-key sec-websocket-version sec-websocket-extensions sec-websocket-protocol upgrade
    upgrade-insecure-requests authorization x-request-id x-correlation-id idempotency-key last-event-id x-csrftoken
    x-requested-with x-api-key cache-control pragma if-none-match if-modified-since range priority date from
    traceparent tracestate baggage x-b3-traceid sentry-trace x-stainless-lang x-stainless-os x-stainless-retry-count
    openai-organization openai-beta http-referer x-title access-control-request-method
    access-control-request-private-network save-data device-memory x-http-method-override
""")


def with_header(name: str, value: str) -> list[Connection]:
    """A connection with this header, from everywhere where connections come from."""
    scope = {"client": (LOCAL, 1), "headers": [(name.title().encode(), value.encode())]}
    meta = {"REMOTE_ADDR": LOCAL, f"HTTP_{name.upper().replace('-', '_')}": value}
    return [Connection(LOCAL, {name: value}), Connection.from_request(request_of(meta)), Connection.from_scope(scope)]


@pytest.mark.parametrize("name", [*OF_PROXIES, "x_real_ip"])
@pytest.mark.parametrize("value", ["127.0.0.1", "for=127.0.0.1", ""])
def test_what_came_through_a_proxy_is_not_local_whatever_the_proxy_says(name: str, value: str) -> None:
    for connection in with_header(name, value):
        assert not connection.is_local
        assert name.replace("_", "-") in str(connection.why_not_local()).replace("_", "-")


@pytest.mark.parametrize("name", OF_PROGRAMS)
def test_what_programs_send_by_themselves_is_no_sign_of_a_proxy(name: str) -> None:
    for connection in with_header(name, LOCAL):
        assert connection.is_local


@pytest.mark.parametrize(("version", "expected"), [("0.9", False), ("1.0", False), ("1.1", True), ("2", True)])
def test_what_speaks_as_proxies_do_is_not_local(version: str, expected: bool) -> None:
    """nginx speaks HTTP/1.0 to what is behind it, unless it is told otherwise."""
    connection = Connection.from_scope({"client": (LOCAL, 1), "headers": [], "http_version": version})
    assert connection.is_local is expected
    assert ("HTTP/1.0" in str(connection.why_not_local())) is not expected


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
    assert Connection.from_request(request) == Connection.from_scope(scope)


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
        ("chat.example.com", "http://chat.example.com"),
        ("chat.example.com:80", "http://chat.example.com"),
        ("chat.example.com", "http://chat.example.com:80"),
        ("localhost:8000", "https://friend.example"),
    ],
)
def test_own_pages_friends_and_programs_get_in(hosts: None, host: str, origin: str | None) -> None:
    check_origin(local(host=host, **({"origin": origin} if origin else {})))


@pytest.mark.parametrize("how", ["tls", "proxy"])
@pytest.mark.parametrize("scheme", ["https", "wss"])
@pytest.mark.parametrize("said", ["https", "HTTPS", " https , http"])
def test_over_tls_a_page_without_it_is_another_one(
    hosts: None, settings: Any, how: str, scheme: str, said: str
) -> None:
    """And the other way round."""
    secure = Connection(LOCAL, {"host": "chat.example.com"}, scheme)
    plain = Connection(LOCAL, {"host": "chat.example.com"})
    if how == "proxy":
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        secure = Connection(LOCAL, {"host": "chat.example.com", "x-forwarded-proto": said})
        plain = Connection(LOCAL, {"host": "chat.example.com", "x-forwarded-proto": "http"}, scheme)
    for connection, own, other in ((secure, "https", "http"), (plain, "http", "https")):
        for origin in (f"{own}://chat.example.com", f"{own}://CHAT.example.com"):
            check_origin(replace(connection, headers={**connection.headers, "origin": origin}))
        for origin in (f"{other}://chat.example.com", f"{own}://chat.example.com:{8443}", "ws://chat.example.com"):
            with pytest.raises(PermissionRefused):
                check_origin(replace(connection, headers={**connection.headers, "origin": origin}))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8001",
        "https://localhost:8000",
        "ws://localhost:8000",
        "http://localhost:8000/",
        "http://localhost:8000?",
        "http://localhost:8000#",
        "http://localhost:99999",
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

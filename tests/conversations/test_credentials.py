"""The ways in, over real sockets: keys and sessions, what they are worth, and until when."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.utils import timezone
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conversations.access import api_keys
from conversations.models import ApiKey, Conversation, Generation
from conversations.socket.consumers import ACTIONS
from tests.conftest import Server
from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, answer

from .accounts import (
    CSRF,
    Headers,
    bearer,
    cookie_of,
    key_of,
    make_key,
    make_session,
    make_user,
    require_login,
    session_of,
)
from .helpers import JSON, Socket, Stream, blocks, streaming

WAIT_SECONDS = 10.0
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def kim(presets: None, settings: Any) -> User:
    """An account, on a server that asks for login."""
    require_login(settings)
    return make_user("kim")


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "")


def eventually(predicate: Callable[[], object]) -> None:
    """Wait for what another thread writes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What ends a credential: by whose it is, the session that it may be, the key that it may be ------------------------
Ending = Callable[[User], object]


def log_out(user: User) -> None:
    for row in import_module("django.contrib.sessions.models").Session.objects.all():
        if row.get_decoded()["_auth_user_id"] == str(user.pk):
            import_module(django_settings.SESSION_ENGINE).SessionStore(row.session_key).flush()


def change_password(user: User) -> None:
    user.set_password("another password than before")
    user.save()


def expire_session(_user: User) -> None:
    sessions = import_module("django.contrib.sessions.models").Session.objects
    assert sessions.update(expire_date=timezone.now() - timedelta(seconds=1))


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def revoke(user: User) -> None:
    for key in ApiKey.objects.filter(user=user):
        api_keys.revoke(key)


def expire_key(user: User) -> None:
    assert ApiKey.objects.filter(user=user).update(expires_at=timezone.now())


def delete_key(user: User) -> None:
    assert ApiKey.objects.filter(user=user).delete()


SESSION_ENDS: dict[str, tuple[Callable[[User], Headers], Ending, str]] = {
    "session: logout": (session_of, log_out, "login_required"),
    "session: password": (session_of, change_password, "login_required"),
    "session: expired": (session_of, expire_session, "login_required"),
    "session: deactivated": (session_of, deactivate, "login_required"),
}
KEY_ENDS: dict[str, tuple[Callable[[User], Headers], Ending, str]] = {
    "key: revoked": (key_of, revoke, "invalid_key"),
    "key: expired": (key_of, expire_key, "invalid_key"),
    "key: deleted": (key_of, delete_key, "invalid_key"),
    "key: deactivated": (key_of, deactivate, "invalid_key"),
}
ENDS = {**SESSION_ENDS, **KEY_ENDS}


# Calls ----------------------------------------------------------------------------------------------------------
class TestKeysInCalls:
    def test_a_key_in_the_header_lets_in(self, client: httpx.Client, kim: User) -> None:
        for scheme in ("Bearer ", "bearer ", "BEARER ", "Bearer   "):
            headers = {"Authorization": f"{scheme}{make_key(kim)}"}
            assert client.get("/conversations", headers=headers).status_code == 200, scheme

    def test_another_scheme_does_not(self, client: httpx.Client, kim: User) -> None:
        for header in ("{key}", "Basic {key}", "Token {key}", "Key {key}", "Bearer", "Bearer: {key}"):
            headers = {"Authorization": header.format(key=make_key(kim))}
            assert outcome(client.get("/conversations", headers=headers)) == (401, "login_required"), header

    def test_a_key_in_the_query_does_not(self, client: httpx.Client, kim: User) -> None:
        for name in ("key", "api_key", "apikey", "token", "access_token", "authorization"):
            for value in ((key := make_key(kim)), f"Bearer {key}"):
                assert outcome(client.get("/conversations", params={name: value})) == (401, "login_required"), name

    def test_a_key_in_the_body_or_a_cookie_does_not(self, client: httpx.Client, kim: User) -> None:
        key = make_key(kim)
        assert outcome(client.post("/conversations", json={"key": key})) == (401, "login_required")
        assert outcome(client.get("/conversations", headers={"Cookie": f"key={key}"})) == (401, "login_required")

    def test_nearly_a_key_is_none(self, client: httpx.Client, kim: User) -> None:
        changes: list[Callable[[str], str]] = [
            lambda key: key[:-1],
            lambda key: key + "A",
            lambda key: key.swapcase(),
            lambda key: key.removeprefix(api_keys.PREFIX),
            lambda key: key[: api_keys.HINT_LENGTH],
            lambda key: hashlib.sha256(key.encode()).hexdigest(),
            lambda key: f"{key}, {key}",
            lambda key: f"%{key}",
            lambda _key: "é" * 40,
            lambda _key: "x" * 20_000,
            lambda key: key + "x" * 20_000,
            lambda _key: "' OR 1=1 --",
        ]
        for change in changes:
            shown = change(make_key(kim))
            headers = {"Authorization": f"Bearer {shown}".encode("latin-1")}
            response = client.get("/conversations", headers=headers)  # type: ignore[arg-type]
            assert outcome(response) == (401, "invalid_key"), shown[:300]

    def test_a_key_that_is_none_is_not_made_good_by_a_session(self, client: httpx.Client, kim: User) -> None:
        assert client.get("/conversations", headers=session_of(kim)).status_code == 200
        response = client.get("/conversations", headers={**session_of(kim), **bearer("chatkey_nonsense")})
        assert outcome(response) == (401, "invalid_key")

    @pytest.mark.parametrize("case", ENDS)
    def test_the_next_call_after_its_end_is_refused(self, client: httpx.Client, kim: User, case: str) -> None:
        begin, end, code = ENDS[case]
        headers = begin(kim)
        assert client.post("/conversations", headers=headers, json={}).status_code == 201
        end(kim)
        assert outcome(client.post("/conversations", headers=headers, json={})) == (401, code)
        assert Conversation.objects.count() == 1

    def test_a_password_change_does_not_end_keys(self, client: httpx.Client, kim: User) -> None:
        headers = key_of(kim)
        change_password(kim)
        assert client.get("/conversations", headers=headers).status_code == 200


class TestSessionsInCalls:
    def test_reading_needs_no_token(self, client: httpx.Client, kim: User) -> None:
        cookie = cookie_of(make_session(kim).session_key)
        assert client.get("/conversations", headers=cookie).status_code == 200
        assert client.get("/api/config", headers=cookie).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-CSRFToken": ""},
            {"X-CSRFToken": "d" * 32},
            {"X-CSRFToken": CSRF, "Origin": "https://evil.example"},
            {"X-CSRFToken": CSRF, "Origin": "null"},
        ],
    )
    def test_changing_needs_the_token_and_a_page_of_ours(
        self, client: httpx.Client, kim: User, headers: Headers
    ) -> None:
        cookie = cookie_of(make_session(kim).session_key)
        for method in UNSAFE:
            response = client.request(method, "/conversations", headers={**cookie, **headers, **JSON}, content="{}")
            assert outcome(response) == (403, "csrf_failed"), method
        assert not Conversation.objects.exists()

    def test_a_page_of_ours_may_change(self, client: httpx.Client, kim: User) -> None:
        headers = {**session_of(kim), "Origin": str(client.base_url).rstrip("/")}
        assert client.post("/conversations", headers=headers, json={}).status_code == 201

    def test_a_token_without_its_cookie_is_none(self, client: httpx.Client, kim: User) -> None:
        cookie = {"Cookie": f"{django_settings.SESSION_COOKIE_NAME}={make_session(kim).session_key}"}
        response = client.post("/conversations", headers={**cookie, "X-CSRFToken": CSRF}, json={})
        assert outcome(response) == (403, "csrf_failed")

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("application/x-www-form-urlencoded", "&".join(f"a{number}=1" for number in range(1500))),
            ("multipart/form-data", "--x"),
            ("multipart/form-data; boundary=x", "--x\r\nbad"),
            ("application/x-www-form-urlencoded; charset=nope", "a=1"),
        ],
    )
    def test_a_form_that_cannot_be_read_carries_none(
        self, client: httpx.Client, kim: User, kind: str, body: str
    ) -> None:
        headers = {**cookie_of(make_session(kim).session_key), "Content-Type": kind}
        response = client.post("/conversations", headers=headers, content=body)
        assert outcome(response) == (403, "csrf_failed")

    def test_a_key_needs_no_token_wherever_the_page_is(self, client: httpx.Client, kim: User) -> None:
        """No browser adds it by itself."""
        headers = {**key_of(kim), "Origin": "https://evil.example"}
        assert client.post("/conversations", headers=headers, json={}).status_code == 201

    def test_an_anonymous_session_lets_nobody_in(self, client: httpx.Client, kim: User) -> None:
        session = import_module(django_settings.SESSION_ENGINE).SessionStore()
        session["cart"] = "full"
        session.save()
        response = client.get("/conversations", headers=cookie_of(session.session_key))
        assert outcome(response) == (401, "login_required")


class TestOpenServer:
    """No login: what protects it is that only this machine, and no foreign page on it, gets in."""

    def test_a_foreign_page_changes_nothing(self, client: httpx.Client) -> None:
        for origin in ("https://evil.example", "http://127.0.0.1:1", "null", "file://", ""):
            for method in UNSAFE:
                response = client.request(method, "/conversations", headers={"Origin": origin, **JSON}, content="{}")
                assert outcome(response) == (403, "origin_not_allowed"), (origin, method)
                assert "CORS_ALLOWED_ORIGINS" in response.json()["detail"]
        assert not Conversation.objects.exists()

    def test_nor_does_it_read(self, client: httpx.Client) -> None:
        """The browser keeps the answer from it: no header lets it have one."""
        response = client.get("/conversations", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in response.headers

    def test_ones_own_page_and_programs_get_in(self, client: httpx.Client) -> None:
        own = str(client.base_url).rstrip("/")
        for headers in ({"Origin": own}, {}):
            assert client.post("/conversations", headers=headers, json={}).status_code == 201

    def test_a_host_that_is_not_loopback_is_refused(self, client: httpx.Client, settings: Any) -> None:
        """A page whose name points here, or a proxy on this machine; even where ALLOWED_HOSTS would have it."""
        hosts = ("rebound.example", "192.168.1.7", "localhost.evil.example", "10.0.0.1:80")
        for host in hosts:
            assert outcome(client.get("/conversations", headers={"Host": host})) == (400, "invalid_host"), host
        settings.ALLOWED_HOSTS = ["*"]
        for host in hosts:
            assert outcome(client.get("/conversations", headers={"Host": host})) == (403, "login_required"), host
            response = client.post("/conversations", headers={"Host": host, "Origin": f"http://{host}"}, json={})
            assert outcome(response) == (403, "login_required"), host
        assert not Conversation.objects.exists()

    def test_a_key_does_not_help_from_elsewhere(self, client: httpx.Client) -> None:
        headers = {**key_of(make_user("kim")), "X-Forwarded-For": "203.0.113.9"}
        assert outcome(client.get("/conversations", headers=headers)) == (403, "login_required")


# Sockets --------------------------------------------------------------------------------------------------------
class End(Socket):
    """A client's end of a socket, of which it is asked whether it is let in."""

    def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame and take the next that comes."""
        self.send(**frame)
        return self.get()

    def is_in(self) -> bool:
        return self.ask(type="ping") == {"type": "pong"}

    def closed(self) -> tuple[int, str]:
        """The code and reason of the server's close, which has to be what comes next."""
        with pytest.raises(ConnectionClosed) as closed:
            self.get()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason

    def closed_after(self, **frame: Any) -> tuple[int, str]:
        self.send(**frame)
        return self.closed()


@contextmanager
def opened(server: Server, who: Headers | None = None, path: str = "", **options: Any) -> Iterator[End]:
    """A socket; one with a cookie comes from a page of the server's."""
    headers = {name: value for name, value in (who or {}).items() if name != "X-CSRFToken"}
    if "Cookie" in headers:
        options.setdefault("origin", server.url)
    with connect(server.ws_url + path, additional_headers=headers, proxy=None, **options) as connection:
        yield End(connection)


class TestKeysOnSockets:
    def test_by_header(self, server: Server, kim: User) -> None:
        with opened(server, key_of(kim)) as socket:
            assert socket.is_in()

    def test_by_sub_protocol_which_is_never_chosen(self, server: Server, kim: User) -> None:
        key = f"key.{make_key(kim)}"
        for offered, chosen in (([key], None), ([key, "chat"], "chat"), (["chat", key], "chat")):
            with opened(server, subprotocols=offered) as socket:
                assert socket.is_in()
                assert socket.connection.subprotocol == chosen
                assert socket.connection.response is not None
                assert key not in str(socket.connection.response.headers)

    def test_a_wrong_one_by_sub_protocol(self, server: Server, kim: User) -> None:
        with opened(server, subprotocols=["key.chatkey_nonsense", "chat"]) as socket:
            assert socket.closed() == (4401, "invalid_key")

    def test_by_the_first_frame(self, server: Server, kim: User, model: ScriptedUpstream) -> None:
        with opened(server) as socket:
            assert socket.ask(type="authenticate", id=1, key=make_key(kim)) == {"type": "authenticated", "id": 1}
            assert socket.ask(type="chat", id=2, message="hi")["type"] == "accepted"
        assert Conversation.objects.get().owner == kim

    def test_a_wrong_one_in_the_first_frame(self, server: Server, kim: User) -> None:
        with opened(server) as socket:
            assert socket.ask(type="authenticate", id=1, key="chatkey_nonsense")["error"]["code"] == "invalid_key"
            assert socket.closed() == (4401, "invalid_key")

    def test_a_frame_that_shows_none_may_be_tried_again(self, server: Server, kim: User) -> None:
        with opened(server) as socket:
            for frame in ({}, {"key": 5}, {"key": ""}, {"key": "x" * 201}, {"token": "x"}):
                assert socket.ask(type="authenticate", **frame)["error"]["code"] == "invalid", frame
            assert socket.ask(type="authenticate", key=make_key(kim))["type"] == "authenticated"

    def test_nothing_else_may_come_first(self, server: Server, kim: User) -> None:
        for kind in ("ping", *ACTIONS, "nonsense"):
            with opened(server) as socket:
                assert socket.closed_after(type=kind, message="hi") == (4401, "login_required"), kind
        assert not Conversation.objects.exists()

    def test_who_is_in_stays_who_they_are(self, server: Server, kim: User, model: ScriptedUpstream) -> None:
        other = make_key(make_user("lee"))
        for who in (key_of(kim), session_of(kim)):
            with opened(server, who) as socket:
                assert socket.ask(type="authenticate", key=other)["error"]["code"] == "invalid"
                assert socket.ask(type="chat", message="hi")["type"] == "accepted"
        assert {conversation.owner for conversation in Conversation.objects.all()} == {kim}

    def test_a_key_in_the_query_is_not_looked_at(self, server: Server, kim: User) -> None:
        for name in ("key", "token", "access_token", "authorization"):
            with opened(server, path=f"?{name}={make_key(kim)}") as socket:
                assert socket.closed_after(type="ping") == (4401, "login_required"), name

    def test_a_key_does_not_bring_in_a_foreign_page(self, server: Server, kim: User) -> None:
        with opened(server, key_of(kim), origin="https://evil.example") as socket:
            assert socket.closed() == (4403, "origin_not_allowed")
        with opened(server, origin="https://evil.example") as socket:
            assert socket.closed() == (4403, "origin_not_allowed")

    def test_who_shows_nothing_is_closed_out_in_time(self, server: Server, kim: User, settings: Any) -> None:
        settings.CONVERSATIONS = {**settings.CONVERSATIONS, "AUTHENTICATE_TIMEOUT": 2.0}
        key = make_key(kim)
        began = time.monotonic()
        with opened(server) as silent, opened(server) as prompt:
            assert prompt.ask(type="authenticate", key=key)["type"] == "authenticated"
            assert silent.closed() == (4401, "login_required")
            assert time.monotonic() - began >= 2.0
            assert prompt.is_in()


class TestSessionsOnSockets:
    def test_a_listed_page_does_not_come_in_with_the_cookie(
        self, server: Server, kim: User, model: ScriptedUpstream, settings: Any
    ) -> None:
        """A browser adds it to whatever page asks, and no token says which. REST does not let it act either."""
        friend = "https://friend.example"
        settings.CORS_ALLOWED_ORIGINS = [friend]
        for kind in ("ping", *ACTIONS):
            with opened(server, session_of(kim), origin=friend) as socket:
                assert socket.closed_after(type=kind, message="hi") == (4401, "login_required"), kind
        assert not Conversation.objects.exists()

    def test_a_listed_page_comes_in_with_a_key_whatever_the_cookie(
        self, server: Server, kim: User, model: ScriptedUpstream, settings: Any
    ) -> None:
        friend = "https://friend.example"
        settings.CORS_ALLOWED_ORIGINS = [friend]
        cookie, lee = session_of(kim), make_user("lee")
        with opened(server, cookie, origin=friend) as socket:
            assert socket.ask(type="authenticate", key=make_key(lee))["type"] == "authenticated"
            assert socket.ask(type="chat", message="hi")["type"] == "accepted"
        with opened(server, {**cookie, **key_of(lee)}, origin=friend) as socket:
            assert socket.is_in()
        assert {conversation.owner for conversation in Conversation.objects.all()} == {lee}

    def test_the_origin_of_a_page_is_compared_with_its_scheme_and_port(self, server: Server, kim: User) -> None:
        own = server.url
        for origin in (own.replace("http", "https"), own.rpartition(":")[0], f"{own}0", own.replace("http", "ws")):
            with opened(server, session_of(kim), origin=origin) as socket:
                assert socket.closed() == (4403, "origin_not_allowed"), origin

    def test_from_a_page_of_ours_only(self, server: Server, kim: User) -> None:
        with opened(server, session_of(kim)) as socket:
            assert socket.is_in()
        for origin in (None, "https://evil.example", "null"):
            with opened(server, session_of(kim), origin=origin) as socket:
                assert socket.closed() == (4403, "origin_not_allowed")

    def test_one_that_has_ended(self, server: Server, kim: User) -> None:
        headers = session_of(kim)
        log_out(kim)
        with opened(server, headers) as socket:
            assert socket.closed() == (4401, "login_required")


# Ends while something runs ----------------------------------------------------------------------------------------
# Every end before one action, and every action after one end.
ENDED_ACTIONS = [*((case, "chat") for case in ENDS), *(("key: revoked", kind) for kind in ACTIONS if kind != "chat")]


class TestEndsWhileItRuns:
    @pytest.mark.parametrize(("case", "kind"), ENDED_ACTIONS)
    def test_the_next_action_closes_the_socket(
        self, server: Server, kim: User, model: ScriptedUpstream, case: str, kind: str
    ) -> None:
        """And ends the streams on it; the answers go on."""
        begin, end, code = ENDS[case]
        model.script = [answer("one ", "two", gate="g", gate_at=1)]
        with opened(server, begin(kim)) as socket:
            accepted = socket.ask(type="chat", id="a", message="hi")
            assert socket.get()["chunk"] == "one "
            end(kim)
            ids = {"generation_id": accepted["generation_id"]}
            fields = {
                "chat": {"message": "more"},
                "attach": ids,
                "stop": ids,
                "watch": {},
            }
            message = {"message_id": accepted["message_id"]}
            fields |= {"regenerate": message, "select": message, "delete": message}
            refused = socket.ask(type=kind, id="b", **fields[kind])
            assert (refused["id"], refused["error"]["code"]) == ("b", code)
            assert socket.closed() == (4401, code)
        model.gate("g").open()
        eventually(lambda: not Generation.objects.get().is_running)
        generation = Generation.objects.get()
        assert (generation.status, generation.message.content) == ("completed", "one two")

    @pytest.mark.parametrize("case", ENDS)
    def test_a_socket_that_only_listens_is_closed(
        self, server: Server, kim: User, model: ScriptedUpstream, settings: Any, case: str
    ) -> None:
        begin, end, code = ENDS[case]
        require_login(settings, CREDENTIAL_INTERVAL=0.05, PING_INTERVAL=0.05)
        model.script = [answer("one ", "two", gate="g", gate_at=1)]
        with opened(server, begin(kim)) as socket:
            socket.send(type="chat", id="a", message="hi")
            assert [socket.get().get("chunk") for _ in range(2)] == [None, "one "]
            end(kim)
            assert socket.get()["error"]["code"] == code
            assert socket.closed() == (4401, code)

    @pytest.mark.parametrize("case", ENDS)
    def test_an_sse_stream_ends_with_the_error_and_the_answer_goes_on(
        self, client: httpx.Client, kim: User, model: ScriptedUpstream, settings: Any, case: str
    ) -> None:
        begin, end, code = ENDS[case]
        require_login(settings, CREDENTIAL_INTERVAL=0.05, PING_INTERVAL=0.05)
        model.script = [answer("one ", "two", gate="g", gate_at=1)]
        with streaming(client, "POST", "/chat", headers=begin(kim), json={"message": "hi"}) as (seen, taken):
            while seen.text != "one ":
                next(taken)
            end(kim)
            for _block in taken:
                pass
        assert [next(iter(event)) for event in seen.events] == ["chunk", "error"]
        assert seen.events[-1]["error"]["code"] == code
        model.gate("g").open()
        eventually(lambda: not Generation.objects.get().is_running)
        generation = Generation.objects.get()
        assert (generation.status, generation.message.content) == ("completed", "one two")


def test_a_stream_whose_credential_holds_goes_on(
    client: httpx.Client, kim: User, model: ScriptedUpstream, settings: Any
) -> None:
    """However often it is judged: it sees many pings here."""
    require_login(settings, CREDENTIAL_INTERVAL=0.01, PING_INTERVAL=0.01)
    model.script = [answer("one ", "two", gate="g", gate_at=1)]
    seen = Stream(200, httpx.Headers())
    with client.stream("POST", "/chat", headers=session_of(kim), json={"message": "hi"}) as response:
        body = ""
        for text in response.iter_text():
            body += text
            if body.count(": ping\n") >= 10:
                model.gate("g").open()
    for block in blocks([body]):
        seen.add(block)
    assert (seen.text, seen.done["status"]) == ("one two", "completed")


# Bookkeeping ------------------------------------------------------------------------------------------------------
class TestLastUsed:
    def test_it_is_written_with_the_next_beat(
        self, server: Server, client: httpx.Client, kim: User, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of many calls once."""
        headers, unused = key_of(kim), make_key(kim)
        written = threading.Event()
        write = api_keys.write_last_used
        calls: list[int] = []

        def counted() -> None:
            calls.append(1)
            write()
            if ApiKey.objects.exclude(last_used_at=None).exists():
                written.set()

        monkeypatch.setattr(api_keys, "write_last_used", counted)
        began = timezone.now()
        for _ in range(20):
            assert client.get("/conversations", headers=headers).status_code == 200
        assert written.wait(WAIT_SECONDS)
        used = ApiKey.objects.exclude(last_used_at=None).get()
        assert used.last_used_at is not None
        assert used.last_used_at >= began
        assert ApiKey.objects.get(hash=hashlib.sha256(unused.encode()).hexdigest()).last_used_at is None
        assert len(calls) < 10

    @pytest.mark.django_db
    def test_many_uses_are_one_write(self, django_assert_num_queries: Any) -> None:
        api_keys.write_last_used()  # what an earlier test used
        token = make_key(make_user("kim"))
        for _ in range(10):
            with django_assert_num_queries(1):
                api_keys.find(token)
        with django_assert_num_queries(1):
            api_keys.write_last_used()
        with django_assert_num_queries(0):
            api_keys.write_last_used()

    @pytest.mark.django_db
    def test_it_never_goes_back(self) -> None:
        token = make_key(make_user("kim"))
        api_keys.find(token)
        later = timezone.now() + timedelta(minutes=1)
        ApiKey.objects.update(last_used_at=later)
        api_keys.write_last_used()
        assert ApiKey.objects.get().last_used_at == later


@pytest.mark.server
def test_no_log_has_a_key_or_its_hash(tmp_path: Path) -> None:
    """Nor a session's key; with everything logged that can be."""
    env = environment(tmp_path, REQUIRE_LOGIN="true", DEBUG="true", LOG_LEVEL="DEBUG", DB_THREADS="1")
    env |= {"DJANGO_SUPERUSER_EMAIL": "k@example.com", "DJANGO_SUPERUSER_PASSWORD": "a password of kim's"}
    manage(env, "migrate", "--verbosity=0")
    manage(env, "createsuperuser", "--no-input", "--username=kim")
    token = manage(env, "create_api_key", "kim", "--name=n", "--scopes", "read", "keys").strip()
    wrong = "chatkey_" + "w" * 43
    session = "s" * 32
    log = tmp_path / "server.log"
    with ServerProcess("uvicorn", env, log) as server, server.client() as client:
        made = client.post("/api/keys", headers=bearer(token), json={"name": "n", "scopes": ["read"]}).json()
        assert client.get("/conversations", headers=bearer(made["key"])).status_code == 200
        assert client.delete(f"/api/keys/{made['id']}", headers=bearer(token)).status_code == 200
        for refused in (wrong, made["key"]):
            assert client.get("/conversations", headers=bearer(refused)).status_code == 401
        assert client.get("/conversations", headers=cookie_of(session)).status_code == 401
        assert client.get("/conversations", params={"key": token}).status_code == 401
        for offered in (token, wrong):
            with connect(server.ws_url, proxy=None, subprotocols=[f"key.{offered}"]):  # type: ignore[list-item]
                pass
            with connect(server.ws_url, proxy=None) as connection:
                connection.send(json.dumps({"type": "authenticate", "key": offered}))
                connection.recv(timeout=WAIT_SECONDS)
        server.stop()
    text = log.read_text()
    assert f"API key {made['id']} of user 1 made" in text
    assert f"API key {made['id']} of user 1 revoked" in text
    for secret in (token, wrong, made["key"]):
        assert secret not in text
        assert secret.removeprefix(api_keys.PREFIX) not in text
        assert hashlib.sha256(secret.encode()).hexdigest() not in text
    assert session not in text

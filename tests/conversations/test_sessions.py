"""Sessions as the API sees them: cookies that can name none, and reading that never writes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test.utils import CaptureQueriesContext

from conversations.access.credentials import Connection, identify
from conversations.limits import rates

from .accounts import cookie_of, make_session, make_user, require_login, session_of

# As a cookie has them: in quotes, an octal number stands for a character.
ODD = {
    "nul": r'"abc\000defghijk"',
    "control": r'"abc\001\033defghijk"',
    "not text": r'"abc\377\376defghijk"',
    "latin": "abcdéfghijk",
    "overlong": "a" * 8000,
    "short": "a",
    "quote": "abc'defghijk",
    "path": "../../../etc/passwd",
}
odd = pytest.mark.parametrize("value", ODD.values(), ids=ODD)


@pytest.fixture
def kim(presets: None, settings: Any) -> User:
    require_login(settings, RATE_LIMIT="300/minute")
    settings.ALLOWED_HOSTS = ["*"]
    return make_user("kim")


@odd
def test_a_cookie_that_names_no_session_lets_nobody_in_and_is_counted(
    kim: User, client: httpx.Client, value: str
) -> None:
    rates.forget()
    answer = client.get("/conversations", headers={"Cookie": f"sessionid={value}".encode()})
    assert answer.status_code == 401
    assert answer.headers["RateLimit-Remaining"] == "299"


@pytest.mark.parametrize("name", ["sessionid", "csrftoken", "messages", "django_language", "nothing"])
def test_no_cookie_is_a_fault_of_a_page(kim: User, client: httpx.Client, name: str) -> None:
    for value in ODD.values():
        for path in ("/accounts", "/accounts/login", "/admin/", "/docs"):
            answer = client.get(path, headers={"Cookie": f"{name}={value}".encode()})
            assert answer.status_code in (200, 302), (path, value)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Idempotency-Key", "X-Request-Id", "Accept-Language", "Origin", "Last-Event-ID", "X-CSRFToken"],
)
def test_no_header_is_a_fault_of_ours(kim: User, client: httpx.Client, name: str) -> None:
    for value in (b"Bearer \xff\xfe", b"\xff", b"Bearer " + b"a" * 8000, b"Bearer", b"Basic Og==", b"\xc3\xa9"):
        given: list[tuple[bytes, bytes]] = [(name.encode(), value), (b"Content-Type", b"application/json")]
        for method, path in (
            ("GET", "/conversations"),
            ("POST", "/chat"),
            ("GET", "/accounts/login"),
            ("GET", "/schema"),
        ):
            assert client.request(method, path, headers=given).status_code < 500, (path, value)


# Reading never writes ---------------------------------------------------------------------------------------------


def rows() -> list[dict[str, Any]]:
    return list(Session.objects.order_by("pk").values())


def test_a_session_of_an_older_secret_key_stays_as_it_is(kim: User, client: httpx.Client, settings: Any) -> None:
    """Renewed where no cookie goes back, it would log the browser out."""
    headers = session_of(kim)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key of the same length, made for this one test only"
    before = rows()
    for _again in range(2):
        assert client.get("/conversations", headers=headers).status_code == 200
    assert rows() == before


def test_a_session_of_an_older_password_gets_nobody_in_and_stays_as_it_is(kim: User, client: httpx.Client) -> None:
    session = make_session(kim)
    session[HASH_SESSION_KEY] = "older"
    session.save()
    before = rows()
    assert client.get("/conversations", headers=cookie_of(session.session_key)).status_code == 401
    assert rows() == before


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "signed_cookies", "file"])
def test_every_kind_of_session_is_read_without_a_write(kim: User, settings: Any, tmp_path: Any, engine: str) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    key = make_session(kim).session_key
    connection = Connection("127.0.0.1", {"cookie": f"sessionid={key}", "host": "localhost"})
    with CaptureQueriesContext(connections["default"]) as queries:
        assert identify(connection).user == kim
    assert [query["sql"] for query in queries if not query["sql"].startswith("SELECT")] == []

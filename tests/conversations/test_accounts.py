"""The pages of an account, as a browser uses them: over a real socket, with cookies and CSRF tokens."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.contrib.sessions.backends.db import SessionStore
from django.core import signing
from django.test import Client

from chatproject.logs import TextFormatter
from conversations.access import api_keys
from conversations.models import ApiKey
from tests.conftest import Server

from .helpers import JSON

PASSWORD = "analytical engine 1843"
PAGES = ("/accounts", "/accounts/password", "/accounts/password/done")
KEY = re.compile(r"chatkey_[\w-]{43}")


@pytest.fixture(autouse=True)
def _login(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True}
    settings.REQUIRE_LOGIN = True


@pytest.fixture
def kim(transactional_db: None) -> User:
    return User.objects.create_user("kim", password=PASSWORD)


def send(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    """Send a form as its page would, with the CSRF token."""
    if "csrftoken" not in client.cookies:
        client.get("/accounts/login")
    return client.post(path, data={"csrfmiddlewaretoken": client.cookies["csrftoken"], **fields})


def log_in(client: httpx.Client, username: str = "kim", password: str = PASSWORD, **fields: str) -> httpx.Response:
    return send(client, "/accounts/login", username=username, password=password, **fields)


@pytest.fixture
def browser(client: httpx.Client, kim: User) -> httpx.Client:
    """A browser in which kim is logged in."""
    assert log_in(client).status_code == 302
    return client


# Login and logout -----------------------------------------------------------------------------------------------


def test_a_person_logs_in_and_out(client: httpx.Client, kim: User) -> None:
    assert client.get("/accounts").headers["Location"] == "/accounts/login?next=/accounts"
    answer = log_in(client)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts")
    assert "<strong>kim</strong>" in client.get("/accounts").text
    answer = send(client, "/accounts/logout")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/login")
    assert client.get("/accounts").status_code == 302


@pytest.mark.parametrize(("username", "password"), [("kim", "wrong"), ("nobody", PASSWORD), ("kim", "")])
def test_a_wrong_password_and_an_unknown_name_get_the_same_page(
    client: httpx.Client, kim: User, username: str, password: str
) -> None:
    answer = log_in(client, username, password)
    assert answer.status_code == 200
    assert "errorlist" in answer.text
    assert "sessionid" not in client.cookies
    if password:
        assert "Please enter a correct username and password" in answer.text


def test_an_account_that_is_not_active_gets_no_session(client: httpx.Client, kim: User) -> None:
    User.objects.update(is_active=False)
    assert log_in(client).status_code == 200
    assert "sessionid" not in client.cookies


def test_a_session_key_from_before_the_login_is_worth_nothing(client: httpx.Client, kim: User) -> None:
    planted = SessionStore()
    planted["anything"] = 1
    planted.create()
    client.cookies.set("sessionid", str(planted.session_key), domain="127.0.0.1")
    log_in(client)
    assert client.cookies["sessionid"] != planted.session_key
    assert client.get("/accounts").status_code == 200
    client.cookies.set("sessionid", str(planted.session_key), domain="127.0.0.1")
    assert client.get("/accounts").status_code == 302


def test_the_login_page_leads_home_where_that_does_not_lead_back(client: httpx.Client, settings: Any) -> None:
    home = '<a href="/">chatproject</a>'
    assert home not in client.get("/accounts/login").text
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": False}
    assert home in client.get("/accounts/login").text


def test_pages_have_the_colours_and_the_theme_of_the_chat_page(browser: httpx.Client) -> None:
    for path in ("/accounts/login", *PAGES, "/accounts/nothing"):
        html = browser.get(path, headers={"Accept": "text/html"}).text
        assert "conversations/page/colours.css" in html
        assert "conversations/page/theme.js" in html


def test_a_logout_needs_a_form(browser: httpx.Client) -> None:
    assert browser.get("/accounts/logout").status_code == 405
    assert browser.post("/accounts/logout").status_code == 403
    assert browser.get("/accounts").status_code == 200


def test_the_session_of_a_deactivated_account_ends(browser: httpx.Client) -> None:
    User.objects.update(is_active=False)
    assert browser.get("/accounts").status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_an_account_ask_for_login(client: httpx.Client, path: str) -> None:
    assert client.get(path).headers["Location"] == f"/accounts/login?next={path}"


@pytest.mark.parametrize("path", [*PAGES, "/accounts/login"])
def test_a_slash_more_is_the_same_page(browser: httpx.Client, path: str) -> None:
    assert browser.get(f"{path}/").status_code == browser.get(path).status_code == 200


@pytest.mark.parametrize("wanted", ["/docs", "/accounts/password", "http://{host}/admin/"])
def test_a_login_leads_on_to_where_it_was_asked_for(client: httpx.Client, kim: User, wanted: str) -> None:
    wanted = wanted.format(host=client.base_url.netloc.decode())
    assert log_in(client, next=wanted).headers["Location"] == wanted


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "http:///evil.example",
        "javascript:alert(1)",
        "http:evil.example",
        " //evil.example",
        "https://127.0.0.1@evil.example/",
    ],
)
def test_but_never_to_another_site(client: httpx.Client, kim: User, elsewhere: str) -> None:
    assert log_in(client, next=elsewhere).headers["Location"] == "/accounts"
    answer = client.post(
        "/accounts/logout", data={"csrfmiddlewaretoken": client.cookies["csrftoken"], "next": elsewhere}
    )
    assert answer.headers["Location"] == "/accounts/login"


def test_a_form_without_its_token_is_refused_with_a_page(client: httpx.Client, kim: User) -> None:
    answer = client.post("/accounts/login", data={"username": "kim", "password": PASSWORD})
    assert answer.status_code == 403
    assert "cookies are blocked" in answer.text
    assert "sessionid" not in client.cookies


def test_a_form_of_another_site_is_refused(client: httpx.Client, kim: User) -> None:
    client.get("/accounts/login")
    fields = {"username": "kim", "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    answer = client.post("/accounts/login", data=fields, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


# The password ---------------------------------------------------------------------------------------------------


def test_a_changed_password_ends_the_other_sessions(browser: httpx.Client, server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as other:
        log_in(other)
        new = "difference engine 1822"
        fields = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
        answer = send(browser, "/accounts/password", **fields)
        assert answer.headers["Location"] == "/accounts/password/done"
        assert browser.get("/accounts/password/done").status_code == 200
        assert other.get("/accounts").status_code == 302
        assert log_in(other).status_code == 200
        assert log_in(other, password=new).status_code == 302


def test_the_old_password_is_needed_and_a_weak_one_refused(browser: httpx.Client) -> None:
    for old, new in (("wrong", "difference engine 1822"), (PASSWORD, "12345")):
        fields = {"old_password": old, "new_password1": new, "new_password2": new}
        assert "errorlist" in send(browser, "/accounts/password", **fields).text
    assert User.objects.get().check_password(PASSWORD)


def test_admin_keeps_its_own_pages(admin_client: Client) -> None:
    for path in ("/admin/password_change/", "/admin/password_change/done/"):
        page = admin_client.get(path).content.decode()
        assert 'id="site-name"' in page
        assert "/accounts" not in page
    assert b'id="login-form"' in Client().get("/admin/login/").content
    assert b'id="site-name"' in admin_client.post("/admin/logout/").content


# API keys -------------------------------------------------------------------------------------------------------


def make_key(browser: httpx.Client, **fields: Any) -> httpx.Response:
    return send(browser, "/accounts", **{"name": "laptop", "scopes": ["read", "chat"], **fields})


def test_a_key_is_shown_once_and_works(browser: httpx.Client, server: Server, kim: User) -> None:
    answer = make_key(browser, days="30")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    (token,) = set(KEY.findall(answer.text))
    with httpx.Client(base_url=server.url, trust_env=False) as program:
        made = program.post("/conversations", headers={"Authorization": f"Bearer {token}"})
        assert made.status_code == 201
        assert program.get("/api/config", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    key = ApiKey.objects.get()
    assert (key.user, key.name, key.scopes) == (kim, "laptop", "chat read")
    assert key.expires_at is not None
    assert round((key.expires_at - key.created_at).total_seconds() / 86400) == 30
    page = browser.get("/accounts").text
    assert key.hint in page
    assert token not in page + str(browser.cookies)
    assert token not in str([signing.b64_decode(part.encode()) for part in browser.cookies.values() if "." in part])


@pytest.mark.parametrize(
    "fields", [{"name": " "}, {"name": "x" * 101}, {"scopes": []}, {"scopes": ["everything"]}, {"days": "0"}]
)
def test_a_key_that_is_not_right_is_not_made(browser: httpx.Client, fields: dict[str, Any]) -> None:
    answer = make_key(browser, **fields)
    assert answer.status_code == 400
    assert "errorlist" in answer.text
    assert not ApiKey.objects.exists()


def test_there_are_not_more_keys_than_may_be(browser: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MAX_KEYS", 1)
    assert make_key(browser).status_code == 200
    answer = make_key(browser)
    assert answer.status_code == 400
    assert "revoke one first" in answer.text
    assert ApiKey.objects.count() == 1


def test_a_key_is_revoked_and_only_ones_own(browser: httpx.Client, kim: User) -> None:
    mine, _token = api_keys.make(user=kim, name="mine")
    others, _token = api_keys.make(user=User.objects.create_user("lee"), name="another's")
    assert "another&#x27;s" not in browser.get("/accounts").text
    assert send(browser, f"/accounts/keys/{others.pk}/revoke").status_code == 404
    assert send(browser, f"/accounts/keys/{10**30}/revoke").status_code == 404
    assert browser.get(f"/accounts/keys/{mine.pk}/revoke").status_code == 302  # does nothing
    assert set(ApiKey.objects.values_list("revoked_at", flat=True)) == {None}
    assert send(browser, f"/accounts/keys/{mine.pk}/revoke").headers["Location"] == "/accounts"
    page = browser.get("/accounts").text
    assert "API key revoked." in page
    assert mine.hint not in page
    assert ApiKey.objects.get(pk=others.pk).revoked_at is None


def test_a_name_is_text(browser: httpx.Client) -> None:
    make_key(browser, name="<script>alert(1)</script>")
    assert "<script>" not in browser.get("/accounts").text


# What browsers are told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/accounts/login", "/admin/", "/admin/jsi18n/", "/docs"])
def test_private_pages_are_not_kept_and_not_framed(browser: httpx.Client, path: str) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    answer = browser.get(path)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", [*PAGES, "/accounts/login"])
def test_pages_need_no_inline_style_or_script(browser: httpx.Client, path: str) -> None:
    page = browser.get(path).text
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", page)


def test_the_session_cookie_is_not_for_scripts_or_other_sites(client: httpx.Client, kim: User) -> None:
    (cookie,) = [value for value in log_in(client).headers.get_list("set-cookie") if value.startswith("sessionid=")]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize("path", ["/accounts", "/accounts/login", "/admin/login/"])
def test_pages_are_for_no_other_origin(client: httpx.Client, settings: Any, path: str) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]
    headers = {"Origin": "https://app.example.com"}
    assert "Access-Control-Allow-Origin" not in client.get(path, headers=headers).headers
    answer = client.get("/api/health", headers=headers)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    exposed = answer.headers["Access-Control-Expose-Headers"]
    for name in ("X-Generation-Id", "Location", "Retry-After", "RateLimit-Remaining"):
        assert name in exposed


def test_pages_speak_chinese_too(client: httpx.Client, kim: User) -> None:
    client.headers["Accept-Language"] = "zh-CN"
    assert '<html lang="zh-hans">' in client.get("/accounts/login").text
    log_in(client)
    assert '<html lang="zh-hans">' in client.get("/accounts").text


@pytest.mark.parametrize("required", [True, False])
def test_the_chat_page_leads_to_the_account_where_login_is_required(
    client: httpx.Client, kim: User, settings: Any, required: bool
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": required}
    log_in(client)
    page = client.get("/").text
    assert ('href="/accounts"' in page) == required


@pytest.mark.parametrize("path", ["/accounts/login", "/admin/login/"])
def test_a_login_from_an_origin_that_is_not_trusted_names_the_setting(
    client: httpx.Client, kim: User, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """As behind a proxy for https whose origin nobody named."""
    token = client.get(path) and client.cookies["csrftoken"]
    form = {"csrfmiddlewaretoken": token, "username": "kim", "password": PASSWORD}
    refused = client.post(path, data=form, headers={"Origin": "https://chat.example.com"})
    assert refused.status_code == 403
    assert "CSRF_TRUSTED_ORIGINS" in refused.text
    assert "'https://chat.example.com' is not in CSRF_TRUSTED_ORIGINS" in caplog.text
    without_token = client.post(path, data={"username": "kim"})
    assert without_token.status_code == 403
    assert "CSRF_TRUSTED_ORIGINS" not in without_token.text


# Sessions and the API -------------------------------------------------------------------------------------------


def test_a_session_calls_the_api_with_its_token_only(browser: httpx.Client) -> None:
    assert browser.get("/conversations").status_code == 200
    refused = browser.post("/conversations", json={})
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    token = {"X-CSRFToken": browser.cookies["csrftoken"]}
    assert browser.post("/conversations", json={}, headers=token).status_code == 201
    foreign = browser.post("/conversations", json={}, headers={**token, "Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "csrf_failed")
    assert "CSRF_TRUSTED_ORIGINS" in foreign.json()["detail"]
    assert "CSRF_TRUSTED_ORIGINS" not in refused.json()["detail"]
    own = browser.post("/conversations", json={}, headers={**token, "Origin": str(browser.base_url).rstrip("/")})
    assert own.status_code == 201


def test_a_session_is_over_for_the_api_after_the_logout(browser: httpx.Client) -> None:
    cookie = {"Cookie": f"sessionid={browser.cookies['sessionid']}"}
    send(browser, "/accounts/logout")
    browser.cookies.clear()
    assert browser.get("/conversations", headers=cookie).status_code == 401


def test_the_documentation_page_carries_the_token_of_the_session(browser: httpx.Client) -> None:
    script = browser.get("/docs", params={"script": ""}).text
    found = re.search(r'request\.headers\["X-CSRFTOKEN"\] = "(\w+)"', script)
    assert found
    answer = browser.post("/conversations", json={}, headers={**JSON, "X-CSRFTOKEN": found[1]})
    assert answer.status_code == 201


# The audit log --------------------------------------------------------------------------------------------------


@pytest.fixture
def audit() -> Iterator[list[str]]:
    """The lines of the audit log, as they are written."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(TextFormatter().format(record).partition(" INFO ")[2])

    handler = Collector()
    logger = logging.getLogger("conversations.audit")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_who_came_and_left_is_told_with_the_request(client: httpx.Client, kim: User, audit: list[str]) -> None:
    client.headers["X-Request-Id"] = "abc"
    log_in(client, password="not this one")
    log_in(client)
    make_key(client)
    new = "difference engine 1822"
    send(client, "/accounts/password", old_password=PASSWORD, new_password1=new, new_password2=new)
    send(client, f"/accounts/keys/{ApiKey.objects.get().pk}/revoke")
    send(client, "/accounts/logout")
    head = "conversations.audit [abc] "
    assert [line.removeprefix(head) for line in audit] == [
        "Login as 'kim' failed from 127.0.0.1",
        f"User {kim.pk} logged in from 127.0.0.1",
        f"API key {ApiKey.objects.get().pk} of user {kim.pk} made, scopes: chat read",
        f"The password of user {kim.pk} was set",
        f"API key {ApiKey.objects.get().pk} of user {kim.pk} revoked",
        f"User {kim.pk} logged out from 127.0.0.1",
    ]
    assert all(line.startswith(head) for line in audit)


def test_the_admin_s_login_is_told_with_the_request_too(client: httpx.Client, kim: User, audit: list[str]) -> None:
    User.objects.update(is_staff=True)
    client.get("/admin/login/")
    fields = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "username": "kim", "password": PASSWORD}
    client.post("/admin/login/", data=fields, headers={"X-Request-Id": "abc"})
    assert audit == [f"conversations.audit [abc] User {kim.pk} logged in from 127.0.0.1"]


def test_a_name_in_the_log_is_one_short_line(audit: list[str], settings: Any) -> None:
    settings.AXES_ENABLED = False  # which wants a request
    name = "a\nINFO conversations.audit User 1 logged in\u2028" + "b" * 500
    user_login_failed.send("test", credentials={"username": name, "password": "secret"}, request=None)
    (line,) = audit
    assert line.isprintable()
    assert len(line) < 250
    assert "secret" not in line


def test_a_renewed_hash_is_no_new_password(kim: User, audit: list[str], settings: Any) -> None:
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    before = User.objects.get().password
    assert User.objects.get().check_password(PASSWORD)
    assert User.objects.get().password != before
    assert audit == []
    user = User.objects.get()
    user.set_password("difference engine 1822")
    user.save()
    assert len(audit) == 1

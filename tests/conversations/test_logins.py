"""How often a password may be wrong: for whom that counts, from where, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from chatproject.logins import address
from conversations.access.credentials import Connection, client_address, client_block
from tests.conftest import Server

PASSWORD = "analytical engine 1843"
LOGINS = ("/accounts/login", "/admin/login/")
both_pages = pytest.mark.parametrize("page", LOGINS)
HERE, THERE = "203.0.113.1", "203.0.113.2"


@pytest.fixture
def people(db: None) -> None:
    for name in ("kim", "lee"):
        User.objects.create_user(name, password=PASSWORD, is_staff=True)


def attempt(
    page: str = LOGINS[0], *, name: str = "kim", password: str = "wrong", source: str = HERE, **headers: str
) -> Any:
    fields = {"username": name, "password": password, "next": "/accounts"}
    return Client(REMOTE_ADDR=source, headers=headers).post(page, fields)


def lock(name: str = "kim", source: str = HERE) -> None:
    for _number in range(5):
        attempt(name=name, source=source)


@both_pages
def test_the_fifth_wrong_password_locks(people: None, page: str) -> None:
    assert [attempt(page).status_code for _number in range(6)] == [200, 200, 200, 200, 429, 429]
    answer = attempt(page, password=PASSWORD)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "900"
    assert "no-store" in answer.headers["Cache-Control"]
    assert "wrong too often" in answer.content.decode()
    assert "at most 15 min" in answer.content.decode()
    assert "_auth_user_id" not in answer.client.session


def test_one_lock_counts_on_both_pages(people: None) -> None:
    lock()
    assert {attempt(page, password=PASSWORD).status_code for page in LOGINS} == {429}


@both_pages
def test_nobody_else_is_locked_out_with_it(people: None, page: str) -> None:
    lock()
    assert attempt(page, name="lee", password=PASSWORD).status_code == 302
    assert attempt(page, source=THERE, password=PASSWORD).status_code == 302


CHANGES = ("/accounts/password", "/admin/password_change/")


class Browser:
    """One in which kim has logged in, and somebody else sits down."""

    def __init__(self, name: str = "kim", source: str = HERE) -> None:
        self.client = Client(REMOTE_ADDR=source)
        self.client.force_login(User.objects.get(username=name), "django.contrib.auth.backends.ModelBackend")

    def change(self, page: str, old: str = "wrong", **fields: str) -> Any:
        new = {"new_password1": "difference engine 1822", "new_password2": "difference engine 1822"}
        return self.client.post(page, {"old_password": old, **new, **fields})


@pytest.mark.parametrize("page", CHANGES)
def test_the_fifth_wrong_old_password_locks(people: None, page: str) -> None:
    browser = Browser()
    answers = [browser.change(page) for _number in range(6)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
    assert "entered incorrectly" in answers[0].content.decode()
    answer = browser.change(page, PASSWORD)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "900")
    assert "wrong too often" in answer.content.decode()
    assert User.objects.get(username="kim").check_password(PASSWORD)


def test_old_passwords_and_logins_count_together(people: None) -> None:
    browser = Browser()
    for page in (*CHANGES, CHANGES[0]):
        browser.change(page)
    assert attempt().status_code == 200
    assert attempt().status_code == 429
    assert browser.change(CHANGES[0], PASSWORD).status_code == 429
    assert attempt(password=PASSWORD).status_code == 429
    # But nobody else, and not from elsewhere.
    assert Browser("lee").change(CHANGES[1], PASSWORD).status_code == 302
    assert Browser(source=THERE).change(CHANGES[1], PASSWORD).status_code == 302


@pytest.mark.parametrize("page", CHANGES)
def test_a_right_old_password_forgets_the_wrong_ones(people: None, page: str) -> None:
    browser = Browser()
    for _round in range(2):
        for _number in range(4):
            assert browser.change(page).status_code == 200
        too_simple = {"new_password1": "1", "new_password2": "1"}
        assert browser.change(page, PASSWORD, **too_simple).status_code == 200
    assert browser.change(page, PASSWORD).status_code == 302
    assert User.objects.get(username="kim").check_password("difference engine 1822")
    assert browser.client.get("/accounts").status_code == 200


@pytest.mark.parametrize("page", CHANGES)
def test_another_account_s_password_is_not_the_old_one(people: None, page: str) -> None:
    lee = User.objects.get(username="lee")
    lee.set_password("another password than kim's")
    lee.save()
    assert Browser().change(page, "another password than kim's").status_code == 200
    assert "errorlist" in Browser().change(page, "").content.decode()
    assert AccessAttempt.objects.get().failures_since_start == 1


def test_another_browser_does_not_help(people: None) -> None:
    for number in range(5):
        attempt(user_agent=f"browser {number}", x_forwarded_for=f"198.51.100.{number}")
    assert attempt(password=PASSWORD, user_agent="another", x_forwarded_for="198.51.100.77").status_code == 429


def test_names_that_do_not_exist_are_locked_alike(people: None) -> None:
    lock("nobody such")
    assert attempt(name="nobody such").status_code == 429


def test_a_right_password_forgets_the_wrong_ones(people: None) -> None:
    for _round in range(2):
        for _number in range(4):
            attempt()
        assert attempt(password=PASSWORD).status_code == 302


def test_after_the_cool_off_it_works(people: None) -> None:
    lock()
    AccessAttempt.objects.update(attempt_time=AccessAttempt.objects.get().attempt_time - timedelta(seconds=890))
    assert attempt(password=PASSWORD).status_code == 429
    AccessAttempt.objects.update(attempt_time=AccessAttempt.objects.get().attempt_time - timedelta(seconds=11))
    assert attempt(password=PASSWORD).status_code == 302


def test_trying_while_locked_does_not_prolong_it_and_stores_nothing(people: None) -> None:
    lock()
    before = AccessAttempt.objects.values().get()
    attempt()
    attempt(user_agent="another")
    assert AccessAttempt.objects.values().get() == before


def test_an_operator_unlocks_by_name(people: None) -> None:
    lock()
    lock(source=THERE)
    lock("lee")
    call_command("axes_reset_username", "kim", verbosity=0)
    assert attempt(password=PASSWORD).status_code == 302
    assert attempt(source=THERE, password=PASSWORD).status_code == 302
    assert attempt(name="lee", password=PASSWORD).status_code == 429


def test_a_thousand_wrong_passwords(people: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five are judged, however many come, and the last one would have been right."""
    judged: list[str] = []
    authenticate = ModelBackend.authenticate

    def counted(self: Any, request: Any, username: Any = None, password: Any = None, **rest: Any) -> Any:
        judged.append(username)
        return authenticate(self, request, username, password, **rest)

    monkeypatch.setattr(ModelBackend, "authenticate", counted)
    logging.getLogger("conversations.audit").setLevel(logging.WARNING)
    try:
        browser, guess = Client(REMOTE_ADDR=HERE), {"username": "kim", "password": "guess"}
        statuses = [browser.post(LOGINS[number % 10 == 0], guess).status_code for number in range(1000)]
    finally:
        logging.getLogger("conversations.audit").setLevel(logging.NOTSET)
    assert statuses == [200] * 4 + [429] * 996
    assert len(judged) == 5
    assert attempt(password=PASSWORD).status_code == 429
    assert attempt(name="lee", password=PASSWORD).status_code == 302
    assert attempt(source=THERE, password=PASSWORD).status_code == 302


def test_fifty_at_once_are_judged_like_fifty_in_turn(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("kim", password=PASSWORD)
    judged: list[str] = []
    check = User.check_password

    def counted(self: User, password: str) -> bool:
        judged.append(password)
        return check(self, password)

    monkeypatch.setattr(User, "check_password", counted)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        client.get("/accounts/login")
        token = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "username": "kim"}

        def guess(number: int) -> int:
            fields = {**token, "password": f"guess {number}"}
            return client.post("/accounts/login", data=fields).status_code

        with ThreadPoolExecutor(50) as pool:
            statuses = sorted(pool.map(guess, range(50)))
    assert statuses == [200] * 4 + [429] * 46
    assert len(judged) == 5


def test_a_lockout_speaks_chinese_over_a_socket(server: Server, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 1
    with httpx.Client(base_url=server.url, trust_env=False, headers={"Accept-Language": "zh-CN"}) as client:
        client.get("/accounts/login")
        fields = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "username": "kim", "password": "x"}
        answer = client.post("/accounts/login", data=fields)
    assert answer.status_code == 429
    assert '<html lang="zh-hans">' in answer.text
    assert answer.headers["Content-Language"] == "zh-hans"


# What is kept of it ---------------------------------------------------------------------------------------------


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def told(audit: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in audit.records if record.name == "conversations.audit"]


def test_no_password_is_kept_or_logged(people: None, audit: pytest.LogCaptureFixture) -> None:
    for _number in range(6):
        attempt(password="hunter2 canary")
    attempt(name="lee", password=PASSWORD)
    assert "canary" not in audit.text
    assert PASSWORD not in audit.text
    assert "canary" not in str(list(AccessAttempt.objects.values()))
    assert not AccessLog.objects.exists()


@pytest.mark.parametrize("page", CHANGES)
def test_wrong_old_passwords_are_told_as_logins_are(people: None, audit: pytest.LogCaptureFixture, page: str) -> None:
    browser = Browser()
    audit.clear()
    for _number in range(6):
        browser.change(page)
    lines = told(audit)
    assert lines.count(f"Login as 'kim' failed from {HERE}") == 5
    assert lines.count(f"Login as 'kim' is locked from {HERE}") == len(lines) - 5 == 2


def test_a_lockout_is_told(people: None, audit: pytest.LogCaptureFixture) -> None:
    lock()
    lines = told(audit)
    assert lines.count(f"Login as 'kim' failed from {HERE}") == 5
    assert lines.count(f"Login as 'kim' is locked from {HERE}") == 1
    assert len(lines) == 6


def test_an_attempt_while_locked_is_told_once(people: None, audit: pytest.LogCaptureFixture) -> None:
    lock()
    audit.clear()
    attempt()
    attempt(LOGINS[1], password=PASSWORD)
    lines = told(audit)
    assert lines == [f"Login as 'kim' is locked from {HERE}"] * 2


def test_admin_shows_who_is_locked_out(people: None, admin_client: Client) -> None:
    lock()
    page = admin_client.get("/admin/axes/accessattempt/").content.decode()
    assert HERE in page
    assert "axes/accesslog" not in admin_client.get("/admin/").content.decode()


# Addresses ------------------------------------------------------------------------------------------------------


def seen(peer: str, forwarded: str | None = None) -> str:
    return client_address(Connection(peer, {} if forwarded is None else {"x-forwarded-for": forwarded}))


def trust(settings: Any, *proxies: str) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TRUSTED_PROXIES": list(proxies)}


@pytest.mark.parametrize("forwarded", [None, "198.51.100.7", "127.0.0.1"])
def test_without_trusted_proxies_the_peer_is_the_client(forwarded: str | None) -> None:
    assert seen("127.0.0.1", forwarded) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),  # what stands further left is the client's own word
        ("127.0.0.1", "1.2.3.4, 198.51.100.7, 10.1.2.3", "198.51.100.7"),  # two proxies of ours
        ("127.0.0.1", "1.2.3.4,10.9.9.9,198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),  # a client of the proxies' own network
        ("127.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7, unknown", "127.0.0.1"),  # cannot be judged: the proxy itself
        ("127.0.0.1", "198.51.100.7, ", "127.0.0.1"),
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),  # not through a proxy of ours
        ("", "198.51.100.7", ""),
        ("testclient", "198.51.100.7", ""),
        ("fe80::1%eth0", None, "fe80::1"),
    ],
)
def test_trusted_proxies_say_who_the_client_is(settings: Any, peer: str, forwarded: str | None, expected: str) -> None:
    trust(settings, "127.0.0.1", "10.0.0.0/8")
    assert seen(peer, forwarded) == expected


@given(peer=st.text(max_size=20), forwarded=st.text(max_size=60))
def test_any_header_gives_an_address_or_none(peer: str, forwarded: str) -> None:
    address = seen(peer, forwarded)
    assert address == seen(address)


@pytest.mark.parametrize(
    ("client", "block"),
    [("198.51.100.7", "198.51.100.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("", "")],
)
def test_a_whole_ipv6_network_counts_as_one(client: str, block: str) -> None:
    assert client_block(Connection(client, {})) == block


def test_logins_count_by_the_client_behind_the_proxy(people: None, settings: Any) -> None:
    trust(settings, "127.0.0.1")
    for number in range(5):
        attempt(source="127.0.0.1", x_forwarded_for=f"192.0.2.{number}, 198.51.100.7")
    wrong, right = "198.51.100.7", "198.51.100.8"
    assert attempt(password=PASSWORD, source="127.0.0.1", x_forwarded_for=wrong).status_code == 429
    assert attempt(password=PASSWORD, source="127.0.0.1", x_forwarded_for=right).status_code == 302


def test_a_peer_without_an_address_can_be_locked_out_too(people: None) -> None:
    """As over a Unix socket."""
    lock(source="")
    assert attempt(source="", password=PASSWORD).status_code == 429
    assert attempt(source="", name="lee", password=PASSWORD).status_code == 302


def test_a_request_without_anything_has_no_address(rf: Any) -> None:
    request = rf.get("/")
    request.META = {}
    assert address(request) is None

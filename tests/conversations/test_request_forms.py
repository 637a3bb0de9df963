"""What a request names beside its path: Host, scheme, method; and who asks for health."""

from __future__ import annotations

import logging
import time
from typing import Any

import httpx
import pytest

from conversations.models import Generation
from conversations.web import cookies
from conversations.web.media_types import with_readable
from tests.chatproject.raw import ask, request
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from .accounts import key_of, make_user, require_login

PROBES = ("/api/health", "/api/health/ready")


@pytest.mark.parametrize("path", [*PROBES, "/api/health/"])
@pytest.mark.parametrize(
    "host", ["10.42.8.201:8000", "ip-10-0-0-1.internal", "[fd00::1]:80", "_", "a b", "", "localhost"]
)
def test_health_answers_to_any_host(client: httpx.Client, path: str, host: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/conversations", "/schema", "/api/healthy", "/api/health/x", "/accounts/login"]
)
def test_nothing_else_does(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Host": "10.42.8.201:8000"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_host")


def test_probes_are_not_in_the_log(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for path in PROBES:
            client.get(path)
        client.get("/conversations")
    lines = [record.getMessage() for record in caplog.records if record.name == "chatproject.access"]
    assert len(lines) == 1, lines


@pytest.mark.parametrize(
    ("line", "fields", "status"),
    [
        (b"GET /conversations HTTP/1.1", [], 400),
        (b"GET /api/health HTTP/1.1", [], 400),
        (b"GET /conversations HTTP/1.1", [b"Host: localhost", b"Host: localhost"], 400),
        (b"GET /conversations HTTP/1.1", [b"Host: localhost", b"Host: evil.example"], 400),
        (b"GET /conversations HTTP/1.1", [b"Host:"], 400),
        (b"GET /conversations HTTP/1.1", [b"Host: localhost, localhost"], 400),
        (b"GET /api/health HTTP/1.0", [], 200),
    ],
)
def test_a_request_names_one_host(
    server: Server, settings: Any, line: bytes, fields: list[bytes], status: int
) -> None:
    for allowed in (["localhost"], ["*"]):
        settings.ALLOWED_HOSTS = allowed
        received = ask(server.port, request(line, *fields))
        assert received.status == status
        assert status == 200 or received.problem["code"] == "invalid_host"


@pytest.mark.parametrize(
    ("said", "redirects"),
    [
        *((said, False) for said in ("https", "HTTPS", "Https", "https, http", "HTTPS,HTTP", " https ")),
        *((said, True) for said in ("http", "HTTP", "http, https", "", "httpss", None)),
    ],
)
def test_the_scheme_that_a_proxy_names_counts_however_it_is_written(
    server: Server, client: httpx.Client, settings: Any, said: str | None, redirects: bool
) -> None:
    require_login(settings)
    key = key_of(make_user("kim"))
    for _number in range(2):
        client.post("/conversations", headers=key)
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    whose = f"Authorization: {key['Authorization']}".encode()
    fields = [b"Host: localhost", whose, *([b"X-Forwarded-Proto: " + said.encode()] if said is not None else [])]
    received = ask(server.port, request(b"GET /conversations?limit=1 HTTP/1.1", *fields))
    url = b"http" if redirects else b"https"
    assert url + b"://localhost/conversations?" in received.body


def test_head_of_a_running_stream_is_the_head_and_nothing_more(
    server: Server, client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    """And who asks so is no reader: that one leaves does not end the answer."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ON_DISCONNECT": "cancel"}
    model.script = [answer("a", "b", stall=1)]
    with client.stream("POST", "/chat", json={"message": "Hello"}) as running:
        generation = running.headers["X-Generation-Id"]
        head = client.head(f"/generations/{generation}/stream", timeout=5)
        assert head.status_code == 200
        for name in (
            "X-Session-Id",
            "X-Message-Id",
            "X-Generation-Id",
            "Content-Type",
            "Cache-Control",
            "X-Accel-Buffering",
        ):
            assert head.headers[name] == running.headers[name]
        assert "Content-Length" not in head.headers
        assert client.get(f"/generations/{generation}").json()["status"] == Generation.Status.RUNNING
        client.post(f"/generations/{generation}/stop")


# Media types -------------------------------------------------------------------------------------------------------

PARAMETERS = [
    "a*=x; a*0=y",
    "a*=nope''x",
    "a*=undefined''%41",
    "a*=punycode''a-%ff",
    "a*" + "9" * 900 + "=x",
    "charset=nope",
    "charset=hex",
    'a="' + ";" * 900,
    "=;=;*=",
]


def test_parameters_that_cannot_be_read_are_none(client: httpx.Client) -> None:
    for parameters in PARAMETERS:
        kind = {"Content-Type": f"application/json; {parameters}", "Accept": "*/*"}
        assert client.post("/conversations", content=b"{}", headers=kind).status_code == 201, parameters
        assert client.get("/conversations", headers={"Content-Type": f"a/b; {parameters}"}).status_code == 200
        assert client.get("/schema", headers={"Accept": f"text/html; {parameters}, */*"}).status_code == 200
        form = {"Content-Type": f"multipart/form-data; boundary=x; {parameters}"}
        assert client.post("/accounts/login", content=b"--x--", headers=form).status_code in (400, 403)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("content-type", "multipart/form-data; boundary=abc; charset=koi8-u", None),
        ("content-type", "multipart/form-data; charset=UTF-8-SIG; boundary=abc", None),
        ("content-type", 'multipart/form-data; boundary="charset=x"', None),
        ("content-type", 'multipart/related; type="application/xop+xml"; start-info="a;b"; boundary=q', None),
        ("content-type", "multipart/form-data; charset=utf8mb4; boundary=abc", "multipart/form-data; boundary=abc"),
        ("content-type", "multipart/form-data; charset=; boundary=abc", "multipart/form-data; boundary=abc"),
        ("content-type", "text/html; a*=x; a*0=y; charset=cp874", "text/html; charset=cp874"),
        ("accept", "text/html;charset=foo;q=0, application/json", "text/html;q=0, application/json"),
        ("accept", "application/json;a*b=c;q=0.1", "application/json;q=0.1"),
        ("accept", "text/html,application/xhtml+xml,*/*;q=0.8", None),
    ],
)
def test_of_a_media_type_only_what_cannot_be_read_is_left_out(name: str, given: str, kept: str | None) -> None:
    read = with_readable({"headers": [(name.encode(), given.encode()), (b"host", b"a")]})
    assert read["headers"] == [(name.encode(), (kept or given).encode()), (b"host", b"a")]


def test_a_form_with_odd_parameters_in_a_part_is_refused(client: httpx.Client) -> None:
    client.get("/accounts/login")  # without its cookie no form is read
    form = b'--x\r\nContent-Disposition: form-data; name="a"; a*=x; a*0=y\r\n\r\nabc\r\n--x--'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/accounts/login", content=form, headers=headers).status_code == 400


def test_an_answer_is_as_accept_says_beside_what_cannot_be_read(client: httpx.Client, model: ScriptedUpstream) -> None:
    accept = {"Accept": "text/html; a*=x; a*0=y, application/json; q=0.9; charset=nope"}
    told = client.post("/chat", json={"message": "hi"}, headers=accept)
    assert told.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["Content-Type", "Accept"])
@pytest.mark.parametrize(("parameters", "pieces"), [(";", 1), ('; a="' + ";" * 59_000, 1), (";a=b", 60)])
def test_a_long_media_type_holds_nobody_up(server: Server, name: str, pieces: int, parameters: str) -> None:
    """Django takes time by the square of its length for one, in the event loop: 20 seconds for 60 kB."""
    value = "a/b" + (parameters * 60_000)[: 60_000 // pieces]
    fields = [f"{name}: {value}".encode() for _piece in range(pieces)]
    begun = time.process_time()
    answered = ask(server.port, request(b"GET /schema HTTP/1.1", b"Host: localhost", *fields))
    assert answered.status == 200
    assert time.process_time() - begun < 5


# Cookies -----------------------------------------------------------------------------------------------------------

ESCAPED = '"' + "\\1" * 30_000 + '"'


# In one field, or in many that Django makes one of.
COOKIES = {"one": [f"a={ESCAPED}"], "many": [f"a{number}=" + ESCAPED[:400] + '"' for number in range(110)]}


@pytest.mark.parametrize("given", COOKIES)
@pytest.mark.parametrize("path", ["/api/health", "/conversations", "/accounts/login", "/static/chatproject/icon.svg"])
def test_cookies_of_many_escapes_hold_nobody_up(client: httpx.Client, path: str, given: str) -> None:
    begun = time.process_time()
    assert client.get(path, headers=[("Cookie", cookie) for cookie in COOKIES[given]]).status_code == 200
    assert time.process_time() - begun < 2


def test_other_cookies_beside_those_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "IS_QUICK", False)
    given = {"headers": [(b"host", b"a"), (b"cookie", f"sessionid=abc; a={ESCAPED}; csrftoken=def".encode())]}
    read = cookies.with_readable(given)
    assert read["headers"] == [(b"host", b"a"), (b"cookie", b"sessionid=abc; csrftoken=def")]
    many = {"headers": [*[(b"cookie", cookie.encode()) for cookie in COOKIES["many"]], (b"cookie", b"csrftoken=def")]}
    assert [value for _name, value in cookies.with_readable(many)["headers"] if value] == [b"csrftoken=def"]
    few = {"headers": [(b"cookie", rb'a="{\"b\": 1\054 \"c\": 2}"; d=e')]}
    assert cookies.with_readable(few) is few

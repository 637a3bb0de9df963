"""What every request passes: ids, language, paths, headers, errors, the access log; and no thread hop."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, markcoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.test import AsyncClient as DjangoClient
from django.test import Client
from django.test.client import AsyncRequestFactory
from django.utils import translation
from httpx import ASGITransport, AsyncClient

from chatproject import asgi
from chatproject.handler import ApiHandler, Handler
from conversations.asgi import Application

PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.chatproject.pages"
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example.com"]


@pytest.fixture
async def browser(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """A client of both front doors, which are made at its first request: with the settings that the test has then."""
    http = Application(asgi.http, refuse=asgi.http).answer
    made: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for name, door in {"pages": Handler, "api": ApiHandler}.items():
            if name not in made:
                made.append(name)
                monkeypatch.setattr(asgi, name, door())
        await http(scope, receive, send)

    transport = ASGITransport(application, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client


@pytest.fixture(params=[False, True], ids=["debug off", "debug on"])
def debug(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.DEBUG = request.param
    return bool(request.param)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "chatproject.access"]


# Request id -------------------------------------------------------------------------------------------------


async def test_a_request_id_that_is_given_comes_back(browser: AsyncClient) -> None:
    answer = await browser.get("/chat", headers={"X-Request-Id": "abc.DEF_1-2"})
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == "abc.DEF_1-2"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<script>", "ä"])
async def test_a_request_id_that_is_no_word_is_replaced(browser: AsyncClient, given: str) -> None:
    answer = await browser.get("/chat", headers={"X-Request-Id": given.encode()})
    assert len(answer.headers["X-Request-Id"]) == 32
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"]


async def test_errors_name_their_request(browser: AsyncClient) -> None:
    answer = await browser.get("/nothing", headers={"X-Request-Id": "abc"})
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "abc"


# Language ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "language"), [("", "en"), ("zh-CN,zh;q=0.9", "zh-hans"), ("tlh, en;q=0.5", "en"), ("tlh", "en")]
)
async def test_the_language_is_the_one_accepted(browser: AsyncClient, accepted: str, language: str) -> None:
    answer = await browser.get("/chat", headers={"Accept-Language": accepted})
    assert answer.headers["Content-Language"] == answer.json()["language"] == language
    assert "Accept-Language" in answer.headers["Vary"]


async def test_a_stream_keeps_the_language_until_its_end(browser: AsyncClient) -> None:
    answer = await browser.get("/stream", headers={"Accept-Language": "zh-CN"})
    assert answer.content == b"one zh-hans"


def test_a_request_leaves_no_language_behind() -> None:
    before = translation.get_language()
    assert Client().get("/chat", headers={"Accept-Language": "zh-CN"}).json()["language"] == "zh-hans"
    assert translation.get_language() == before


async def test_a_cookies_language_goes_first(browser: AsyncClient) -> None:
    browser.cookies["django_language"] = "zh-hans"
    assert (await browser.get("/chat", headers={"Accept-Language": "en"})).headers["Content-Language"] == "zh-hans"


async def test_without_either_the_projects_language_counts(browser: AsyncClient, settings: Any) -> None:
    assert (await browser.get("/chat")).headers["Content-Language"] == "en"
    settings.LANGUAGE_CODE = "zh-hans"
    assert (await browser.get("/chat")).headers["Content-Language"] == "zh-hans"


# Paths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_trailing_slash_makes_no_difference(browser: AsyncClient, method: str) -> None:
    answer = await browser.request(method, "/chat/", content="{}")
    assert answer.json()["method"] == method
    assert answer.json()["path"] == "/chat"


async def test_two_trailing_slashes_are_another_path(browser: AsyncClient) -> None:
    assert (await browser.get("/chat//")).status_code == 404


# Headers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/chat", "/nothing", "/broken", "/stream", "/static/chatproject/site.css"])
async def test_every_answer_has_the_security_headers(browser: AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_answers_are_not_stored_unless_they_say_so(browser: AsyncClient) -> None:
    assert (await browser.get("/chat")).headers["Cache-Control"] == "no-store"
    assert (await browser.get("/nothing")).headers["Cache-Control"] == "no-store"
    assert (await browser.get("/cached")).headers["Cache-Control"] == "max-age=9"


async def test_each_answer_has_a_headers_name_once_and_its_own_values_stay(browser: AsyncClient) -> None:
    answer = await browser.get("/own-headers")
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["Vary"] == "Cookie, origin, Accept-Language"
    assert answer.headers["Content-Language"] == "de"
    assert answer.headers["Content-Length"] == "1"


@pytest.mark.parametrize("path", ["/chat", "/stream", "/nothing", "/admin/login/"])
async def test_over_https_an_answer_says_so_for_the_future(browser: AsyncClient, settings: Any, path: str) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_HSTS_PRELOAD = True
    assert (await browser.get(f"https://testserver{path}")).headers[
        "Strict-Transport-Security"
    ] == "max-age=60; preload"
    plain = await browser.get(path)
    assert "Strict-Transport-Security" not in plain.headers
    assert plain.headers["Cross-Origin-Opener-Policy"] == "same-origin"


async def test_where_https_is_wanted_http_is_redirected(browser: AsyncClient, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_REDIRECT_EXEMPT = ["^cached"]
    answer = await browser.post("/chat?a=b")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "https://testserver/chat?a=b"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await browser.get("/cached")).status_code == 200


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize(
    ("path", "status", "code"), [("/nothing", 404, "not_found"), ("/broken", 500, "internal_error")]
)
async def test_errors_are_problems(browser: AsyncClient, path: str, status: int, code: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json()["code"] == code
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "request_id"}
    assert b"secret" not in answer.content


@pytest.mark.usefixtures("debug")
async def test_a_host_that_is_not_ours_is_refused(browser: AsyncClient) -> None:
    answer = await browser.get("/chat", headers={"Host": "evil.example.com"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json()["code"] == "invalid_host"


@pytest.mark.usefixtures("debug")
async def test_a_traceback_is_logged_once(browser: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    await browser.get("/broken")
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_browser_sees_a_page_where_there_is_nothing(browser: AsyncClient) -> None:
    answer = await browser.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


async def test_the_api_answers_a_browser_with_problems_too(browser: AsyncClient) -> None:
    answer = await browser.get("/conversations/x/y", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"] == PROBLEM


async def test_pages_fail_with_pages(browser: AsyncClient) -> None:
    answer = await browser.get("/admin/broken")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b"secret" not in answer.content


async def test_the_chat_page_takes_no_other_method(browser: AsyncClient) -> None:
    answer = await browser.post("/")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


# Other origins ----------------------------------------------------------------------------------------------


async def test_a_listed_origin_may_read_answers_and_refusals(browser: AsyncClient) -> None:
    for path in ("/chat", "/nothing"):
        answer = await browser.get(path, headers={"Origin": "https://app.example.com"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]


async def test_another_origin_may_not(browser: AsyncClient) -> None:
    for path in ("/chat", "/static/chatproject/site.css"):
        answer = await browser.get(path, headers={"Origin": "https://evil.example.com"})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_preflight_is_answered_before_any_view(browser: AsyncClient) -> None:
    headers = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    answer = await browser.options("/broken", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    # A browser refuses the call for one that is missing; some clients set their own User-Agent.
    asked = {"authorization", "content-type", "idempotency-key", "user-agent", "x-stainless-os"}
    assert asked <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(("path", "varies"), [("/chat", True), ("/admin/login/", False)])
async def test_caches_are_told_where_the_origin_counts(browser: AsyncClient, path: str, varies: bool) -> None:
    assert ("origin" in (await browser.get(path)).headers["Vary"].split(", ")) is varies


# The access log ---------------------------------------------------------------------------------------------


async def test_a_request_is_one_line_without_its_query(browser: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "chatproject.access"):
        await browser.post("/chat/?api_key=secret")
    (line,) = access_lines(caplog)
    assert line.startswith("POST /chat/ 200 ")
    assert line.endswith(" ms")
    assert "secret" not in caplog.text


async def test_a_stream_is_logged_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "chatproject.access"):
        answer = await DjangoClient().get("/stream")
        assert access_lines(caplog) == []
        answer.close()
    (line,) = access_lines(caplog)
    assert line.startswith("GET /stream 200 ")


# Threads ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that were handed to a thread."""
    handed: list[Any] = []
    call = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        handed.append(self.func)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    return handed


def request(path: str) -> ASGIRequest:
    return AsyncRequestFactory().get(path)


async def test_the_api_and_its_streams_never_leave_the_event_loop(hops: list[Any]) -> None:
    handler = ApiHandler()
    for path in ("/chat", "/chat/", "/stream"):
        (await handler.get_response_async(request(path))).close()
    assert hops == []


async def test_pages_do(hops: list[Any]) -> None:
    """Or the test above would prove nothing."""
    await Handler().get_response_async(request("/admin/login/"))
    assert hops != []


@pytest.fixture
def passed() -> list[str]:
    """The paths that somebody's own middleware saw."""
    Passed.paths = []
    return Passed.paths


class Passed:
    """Middleware of the host project."""

    async_capable = True
    sync_capable = False
    paths: list[str] = []

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        self.paths.append(request.path)
        return await self.get_response(request)


@pytest.mark.parametrize("place", range(-6, 1))
async def test_another_middleware_is_passed_wherever_it_stands(
    browser: AsyncClient, settings: Any, passed: list[str], place: int
) -> None:
    """Of the API and of pages: each door has its list."""
    for name in ("API_MIDDLEWARE", "MIDDLEWARE"):
        layers = [*getattr(settings, name)]
        layers.insert(len(layers) + place, f"{__name__}.Passed")
        setattr(settings, name, layers)
    assert (await browser.get("/chat")).status_code == 200
    assert (await browser.get("/admin/login/")).status_code == 200
    assert passed == ["/chat", "/admin/login/"]


async def test_a_refused_program_is_refused(browser: AsyncClient, settings: Any) -> None:
    settings.DISALLOWED_USER_AGENTS = [re.compile("^bad")]
    assert (await browser.get("/chat", headers={"User-Agent": "bad/1"})).status_code == 403
    assert (await browser.get("/chat", headers={"User-Agent": "good/1"})).status_code == 200


# Pages ------------------------------------------------------------------------------------------------------


async def test_pages_have_their_csrf_protection() -> None:
    strict = DjangoClient(enforce_csrf_checks=True)
    assert (await strict.post("/admin/login/", {"username": "a"})).status_code == 403
    assert "csrftoken" in (await strict.get("/admin/login/")).cookies


def test_pages_work_in_the_sync_chain_too() -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/admin/login/", {"username": "a"}).status_code == 403
    assert "csrftoken" in strict.get("/admin/login/").cookies
    assert strict.post("/chat").json()["method"] == "POST"


@pytest.mark.django_db
def test_a_person_can_log_in_to_the_admin(django_user_model: Any) -> None:
    client = Client()
    django_user_model.objects.create_superuser("ada", password="analytical")
    answer = client.post("/admin/login/?next=/admin/", {"username": "ada", "password": "analytical"})
    assert answer.headers["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


async def test_a_json_log_line_has_the_fields(browser: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    from chatproject.logs import JsonFormatter

    with caplog.at_level(logging.INFO, "chatproject.access"):
        await browser.get("/chat", headers={"X-Request-Id": "abc"})
    entry = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert (entry["method"], entry["path"], entry["status"], entry["request_id"]) == ("GET", "/chat", 200, "abc")

"""All of the project below a path, behind a real nginx that strips the path, and one that leaves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from chatproject.greeting import greeting
from tests.proxies import Nginx

from .processes import run, serving

pytestmark = pytest.mark.server

ROOT = "/chat-api"
PASSWORD = "difference engine 1822"
FORWARD = """
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
"""


@pytest.fixture(scope="module", params=["/", ""], ids=["stripped", "left"])
def behind(
    request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the project behind nginx."""
    log = tmp_path_factory.mktemp("root-path") / "log"
    with serving(log, DATABASE_URL=database_url, ROOT_PATH=ROOT, REQUIRE_LOGIN="true") as (_process, server):
        server_url = f"http://127.0.0.1:{server.base_url.port}{request.param}"
        with Nginx.of(f"location {ROOT}/ {{ proxy_pass {server_url}; {FORWARD} }}") as nginx:
            yield f"{nginx.url}{ROOT}"


@pytest.fixture
def key(database_url: str, tmp_path: Path) -> str:
    name = f"kim{tmp_path.name}"[:60]
    made = "from django.contrib.auth.models import User as U; from conversations.access import api_keys as a; "
    made += f"u, _ = U.objects.get_or_create(username={name!r}); print('TOKEN', a.make(user=u, name='x')[1])"
    output = run("manage.py", "shell", "-c", made, DATABASE_URL=database_url).stdout
    found = re.search(r"TOKEN (\S+)", output)
    assert found, output
    return found[1]


def test_every_url_is_below_the_path(behind: str, key: str) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30) as client:
        for _number in range(2):
            made = client.post(f"{behind}/conversations", json={})
            assert made.status_code == 201, made.text
            assert made.headers["Location"].startswith(f"{ROOT}/conversations/")
        following = client.get(f"{behind}/conversations?limit=1").json()["next"]
        assert f"{ROOT}/conversations?" in following
        assert client.get(httpx.URL(behind).join(following)).status_code == 200
        assert client.get(f"{behind}/").headers["Location"].startswith(f"{ROOT}/accounts/login?next={ROOT}/")
        assert client.get(f"{behind}/admin").headers["Location"] == f"{ROOT}/admin/"
        assert client.get(f"{behind}/accounts").headers["Location"].startswith(f"{ROOT}/accounts/login?next={ROOT}")


@pytest.mark.parametrize("path", ["/docs", "/admin/login/", "/accounts/login"])
def test_what_a_page_loads_is_there(behind: str, path: str) -> None:
    check_what_it_loads(behind, httpx.get(f"{behind}{path}", trust_env=False, timeout=30))


def test_what_the_chat_page_loads_and_calls_is_there(behind: str, database_url: str, tmp_path: Path) -> None:
    name = f"ada{tmp_path.name}"[:60]
    made = f"from django.contrib.auth.models import User; User.objects.create_user({name!r}, password={PASSWORD!r})"
    run("manage.py", "shell", "-c", made, DATABASE_URL=database_url)
    with httpx.Client(trust_env=False, timeout=30) as client:
        client.get(f"{behind}/accounts/login")
        token = client.cookies["csrftoken"]
        form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token, "next": f"{ROOT}/"}
        entered = client.post(f"{behind}/accounts/login", data=form)
        assert entered.headers["Location"] == f"{ROOT}/"
        page = client.get(f"{behind}/")
        assert f'"api": "{ROOT}/"' in page.text
        check_what_it_loads(behind, page)


def check_what_it_loads(behind: str, page: httpx.Response) -> None:
    assert page.status_code == 200
    loaded = [
        url
        for url in re.findall(r"<(?:script|link|img)[^>]*?\b(?:src|href)=\"([^\"]*)\"", page.text)
        if url[:5] != "data:"
    ]
    assert loaded
    for url in loaded:
        assert url.startswith(f"{ROOT}/"), url
        address = httpx.URL(behind).join(url.replace("&amp;", "&"))
        assert httpx.get(address, trust_env=False, timeout=30).status_code == 200, url


def test_cookies_belong_to_the_path(behind: str) -> None:
    cookies = httpx.get(f"{behind}/accounts/login", trust_env=False).headers.get_list("Set-Cookie")
    assert cookies
    assert all(f"path={ROOT}/" in cookie.lower() for cookie in cookies)


async def test_a_socket_is_there_too(behind: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with websockets.connect(f"{behind.replace('http', 'ws', 1)}/ws/chat", additional_headers=headers) as socket:
        await socket.send('{"type": "ping"}')
        assert "pong" in str(await socket.recv())


def test_the_greeting_names_the_path(settings: Any) -> None:
    settings.ROOT_PATH, settings.REQUIRE_LOGIN = ROOT, True
    urls = re.findall(r"(?:http|ws)://[^\s(]+", greeting("127.0.0.1", 8000))
    assert len(urls) == 7
    assert all(url.split("://")[1].startswith(f"127.0.0.1:8000{ROOT}/") for url in urls), urls

"""Two processes behind nginx and behind HAProxy, with the files of `deploy/`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conversations.helpers import JSON, streaming
from tests.entry import LOGIN, MAKE_KEYS, TOKEN
from tests.processes.server import ServerProcess, manage
from tests.proxies import HAProxy, Nginx, Proxy
from tests.reliability.conftest import Serve, database, migrated, redis_server, scripted, serve  # noqa: F401
from tests.reliability.truth import consistent
from tests.upstream import ScriptedUpstream

from .files import BEHIND_A_PROXY, haproxy, nginx

pytestmark = pytest.mark.server

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
GATED = '!script {"chunks": ["one ", "two ", "three"], "gate": "go", "gate_at": 1}'


def in_front_of(kind: str, servers: list[ServerProcess]) -> Proxy:
    """The proxy of this kind before two processes, not yet started."""
    return Nginx(nginx(servers)) if kind == "nginx" else HAProxy(lambda port: haproxy(servers, port))


@pytest.fixture
def servers(serve: Serve) -> list[ServerProcess]:  # noqa: F811
    running = serve(count=2, **BEHIND_A_PROXY)
    if not LOGIN:
        manage(running[0].env, "shell", "--command", MAKE_KEYS)
    return running


@pytest.fixture(params=["nginx", "haproxy"])
def front(request: pytest.FixtureRequest, servers: list[ServerProcess]) -> Iterator[Proxy]:
    with in_front_of(request.param, servers) as proxy:
        yield proxy


@pytest.fixture
def client(front: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front.url, headers=HEADERS, timeout=60, trust_env=False) as http:
        yield http


def test_each_event_comes_before_the_next_is_made(client: httpx.Client, scripted: ScriptedUpstream) -> None:  # noqa: F811
    with streaming(client, "POST", "/chat", json={"message": GATED}) as (stream, taken):
        while not stream.text:
            next(taken)
        assert stream.text == "one ", "what follows waits for the gate: nothing on the way may wait for it too"
        scripted.gate("go").open()
        for _block in taken:
            pass
    assert stream.text == "one two three"
    assert consistent(client, stream).status == "completed"


def test_a_socket_chats_and_stops(front: Proxy, scripted: ScriptedUpstream) -> None:  # noqa: F811
    url = front.url.replace("http", "ws") + "/ws/chat"
    with connect(url, additional_headers=HEADERS, proxy=None) as socket:
        socket.send(json.dumps({"type": "chat", "id": "a", "message": GATED}))
        frames = [json.loads(socket.recv(timeout=10)) for _number in range(2)]
        assert [frame.get("chunk") for frame in frames] == [None, "one "]
        socket.send(json.dumps({"type": "stop", "generation_id": frames[0]["generation_id"]}))
        while not frames[-1].get("done"):
            frames.append(json.loads(socket.recv(timeout=10)))
        assert frames[-1]["status"] == "stopped"


def test_a_page_of_the_site_is_known_at_any_port(front: Proxy) -> None:
    url = front.url.replace("http", "ws") + "/ws/chat"
    with connect(url, additional_headers=HEADERS, origin=Origin(front.url), proxy=None) as socket:
        socket.send('{"type": "ping"}')
        assert json.loads(socket.recv(timeout=10)) == {"type": "pong"}


def test_one_process_resumes_what_the_other_makes(client: httpx.Client, scripted: ScriptedUpstream) -> None:  # noqa: F811
    with streaming(client, "POST", "/chat", json={"message": GATED}) as (stream, taken):
        next(taken)
        path = f"/generations/{stream.headers['X-Generation-Id']}/stream"
        scripted.gate("go").open()
        # Requests go to the processes in turn, so two in a row meet both.
        for _process in range(2):
            with streaming(client, "GET", path) as (again, blocks):
                for _block in blocks:
                    pass
            assert again.text == "one two three"


def test_what_a_client_says_of_itself_does_not_come_through(front: Proxy, servers: list[ServerProcess]) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "Forwarded": "for=203.0.113.7",
    }
    with httpx.Client(base_url=front.url, trust_env=False) as http:
        response = http.post("/conversations", headers={**HEADERS, **forged})
        assert response.status_code == 201
        assert "evil" not in response.headers["Location"]
        for _number in range(3):
            form = {"username": "reliable", "password": "wrong"}
            http.post("/admin/login/", data=form, headers={"X-Forwarded-For": "203.0.113.7"})
    shown = manage(servers[0].env, "shell", "--command", ATTEMPTS)
    assert "203.0.113.7" not in shown


ATTEMPTS = "from axes.models import AccessAttempt; print(list(AccessAttempt.objects.values_list('ip_address')))"


def test_a_large_body_and_one_too_large(client: httpx.Client) -> None:
    assert client.post("/conversations", json={"system_prompt": "字" * 20_000}).status_code == 201
    response = client.post("/chat", content=b'{"message": "' + b"x" * 1_500_000 + b'"}', headers=JSON)
    assert response.status_code == 413, response.text
    assert response.json()["code"] == "body_too_large", (response.text, response.headers)


def test_a_body_of_unknown_length_is_read(client: httpx.Client) -> None:
    pieces = iter([b'{"title": ', b'"Kept"}'])
    location = client.post("/conversations", content=pieces, headers=JSON).headers["Location"]
    assert client.get(location).json()["title"] == "Kept"


def test_probes_ask_by_address(servers: list[ServerProcess], front: Proxy) -> None:
    for path in ("/api/health", "/api/health/ready"):
        response = httpx.get(front.url + path, headers={"Host": "10.42.8.201:8000"}, trust_env=False)
        assert response.status_code == 200, response.text

"""An open server that somebody put behind a proxy: what can be seen of the proxy is refused, over real sockets."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conversations.models import Conversation
from tests.conftest import Server
from tests.proxies import Nginx

# What people write, and what shows in each. By default nginx speaks HTTP/1.0; since 1.29.7 it does not.
LOCATIONS = {
    "plain": "proxy_http_version 1.0;",
    "named": "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
    "appended": "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "via": "proxy_http_version 1.1; proxy_set_header Via '1.1 me';",
    "by its host": "proxy_http_version 1.1; proxy_set_header Host chat.example.com;",
    "scheme": "proxy_http_version 1.1; proxy_set_header X-Scheme $scheme;",
}
UPGRADE = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
EVERY_DOOR = (
    ("GET", "/conversations"),
    ("POST", "/conversations"),
    ("POST", "/chat"),
    ("GET", "/api/config"),
    ("GET", "/api/limits"),
)


def behind(server: Server, lines: str) -> Nginx:
    return Nginx.of(f"location / {{ proxy_pass http://127.0.0.1:{server.port}; {lines} }}")


@pytest.mark.parametrize("case", LOCATIONS)
def test_what_nginx_passes_on_is_refused(server: Server, settings: object, case: str) -> None:
    settings.ALLOWED_HOSTS = ["*"]  # type: ignore[attr-defined]
    with (
        behind(server, LOCATIONS[case]) as nginx,
        httpx.Client(base_url=nginx.url, trust_env=False, timeout=30) as client,
    ):
        for method, path in EVERY_DOOR:
            answer = client.request(method, path, json={"message": "hi"} if method == "POST" else None)
            assert (answer.status_code, answer.json()["code"]) == (403, "login_required"), (method, path)
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("case", ["plain", "named", "appended", "via", "scheme"])
def test_a_socket_that_nginx_passes_on_is_closed_out(server: Server, case: str) -> None:
    with (
        behind(server, LOCATIONS[case] + UPGRADE) as nginx,
        connect(nginx.url.replace("http", "ws") + "/ws/chat", proxy=None) as connection,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "login_required")


@pytest.mark.parametrize("extra", ["", "Connection: keep-alive\r\n"])
@pytest.mark.parametrize("host", ["Host: 127.0.0.1:{port}\r\n", ""])
def test_http_1_0_is_refused_and_told_why(server: Server, host: str, extra: str) -> None:
    """Also for an old tool on this machine, which cannot be told from a proxy."""
    head, body = exchange(server, f"GET /conversations HTTP/1.0\r\n{host.format(port=server.port)}{extra}\r\n")
    assert " 403 " in head.splitlines()[0]
    problem = json.loads(body)
    assert problem["code"] == "login_required"
    assert "HTTP/1.0" in problem["detail"]
    assert "REQUIRE_LOGIN=true" in problem["detail"]


@pytest.mark.parametrize(("version", "closes"), [("1.0", True), ("1.1", False)])
def test_a_socket_over_http_1_0_is_closed_out(server: Server, version: str, closes: bool) -> None:
    """uvicorn itself takes its handshake for one in HTTP/1.1."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"GET /ws/chat HTTP/{version}\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "\r\n".encode()
        )
        answer = connection.recv(65_536)
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        frames = answer.partition(b"\r\n\r\n")[2]
        ping = b'\x81\x8f\0\0\0\0{"type":"ping"}'  # a text frame of 15 bytes, its mask of zeros
        connection.sendall(ping)
        while len(frames) < 15:
            frames += connection.recv(65_536)
        assert (frames[0] == 0x88 and b"login_required" in frames) is closes
        assert (b"pong" in frames) is not closes


def test_a_program_on_this_machine_gets_in(server: Server) -> None:
    """As curl asks, which the README shows."""
    head, _body = exchange(
        server,
        f"GET /conversations HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n",
    )
    assert " 200 " in head.splitlines()[0]


def exchange(server: Server, request: str) -> tuple[str, str]:
    """Send bytes; return the head and the body of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    head, _blank, body = answer.decode().partition("\r\n\r\n")
    return head, body

"""The files of `deploy/` with the addresses of a test put in, and the settings of servers behind a proxy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.entry import UPSTREAM_HOST
from tests.processes.server import ServerProcess

# A proxy is no neighbour of an open server: with login, and its word counts.
BEHIND_A_PROXY = {
    "REQUIRE_LOGIN": "true",
    "TRUSTED_PROXIES": "127.0.0.1",
    "ALLOWED_UPSTREAM_HOSTS": UPSTREAM_HOST,
    "RATE_LIMIT": "none",
    "MAX_ANSWERS_PER_CALLER": "0",
}
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# Where the files expect the two processes.
EXPECTED = ("127.0.0.1:8001", "127.0.0.1:8002")


def nginx(servers: Sequence[ServerProcess]) -> str:
    """Return nginx' two files for these two processes, as ``tests.proxies.Nginx`` takes them."""
    text = "\n".join((DEPLOY / "nginx" / name).read_text() for name in ("processes.conf", "chatproject.conf"))
    return _replaced(_addressed(text, servers), "listen 80;", "listen 127.0.0.1:{port};")


def haproxy(servers: Sequence[ServerProcess], port: int) -> str:
    """Return HAProxy's file for these two processes, listening on ``port`` of loopback."""
    text = _addressed((DEPLOY / "haproxy.cfg").read_text(), servers)
    return _replaced(text, "bind :80", f"bind 127.0.0.1:{port}")


def _addressed(text: str, servers: Sequence[ServerProcess]) -> str:
    for expected, server in zip(EXPECTED, servers, strict=True):
        text = _replaced(text, expected, f"127.0.0.1:{server.port}")
    return text


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"{old} is not in the file any more"
    return text.replace(old, new)

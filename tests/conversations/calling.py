"""Clients that call with API keys, and what they wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from tests.conftest import Server

from .accounts import bearer

WAIT_SECONDS = 20.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def until(happened: Callable[[], object]) -> None:
    """Wait for what other threads and processes do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def calling(server: Server | str, token: str | None) -> Iterator[httpx.Client]:
    """A client with this API key, or with none."""
    headers = bearer(token) if token else {}
    url = server if isinstance(server, str) else server.url
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, limits=LIMITS) as client:
        yield client

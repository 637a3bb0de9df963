"""The helper itself: an nginx that answers, takes another configuration, and leaves nothing behind."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.proxies import Nginx

pytestmark = pytest.mark.server


def test_nginx_answers_as_it_is_told_and_ends_with_its_block() -> None:
    with Nginx.of('location / { return 200 "hello"; }') as nginx:
        assert httpx.get(nginx.url, trust_env=False).text == "hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", nginx.port), timeout=1)


def test_a_configuration_that_nginx_refuses_is_shown() -> None:
    with pytest.raises(AssertionError, match="unknown directive"), Nginx.of("no_such_directive;"):
        pass

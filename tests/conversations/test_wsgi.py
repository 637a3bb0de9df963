"""Served by WSGI: every call is refused at once, and a check says so before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
from django.core.wsgi import get_wsgi_application

from conversations.checks import check_asgi

CALLS = [
    ("POST", "/chat"), ("POST", "/messages/1/regenerate"), ("GET", "/generations/x/stream"), ("GET", "/generations/x"),
    ("POST", "/generations/x/stop"), ("GET", "/conversations"), ("POST", "/conversations"), ("GET", "/api/config"),
    ("GET", "/api/keys"), ("GET", "/api/limits"), ("GET", "/api/health"), ("GET", "/api/health/ready"),
]  # fmt: skip


class Silent(WSGIRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def wsgi(presets: None) -> Iterator[httpx.Client]:
    """A client of the project behind a real WSGI server."""
    with make_server("127.0.0.1", 0, get_wsgi_application(), WSGIServer, Silent) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{served.server_port}", timeout=10, trust_env=False) as client:
            yield client
        served.shutdown()
        thread.join()


def test_every_call_is_refused_at_once(wsgi: httpx.Client) -> None:
    for method, path in CALLS:
        answer = wsgi.request(method, path, json={"message": "Hello"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (501, "needs_asgi"), path


@pytest.mark.parametrize(
    ("application", "argv", "apps", "warned"),
    [
        (None, ["manage.py", "check"], [], False),
        ("project.wsgi.application", ["manage.py", "check"], [], True),
        ("project.wsgi.application", ["manage.py", "check"], ["daphne"], False),
        (None, ["manage.py", "runserver"], [], True),
        (None, ["manage.py", "runserver"], ["daphne"], False),
    ],
)
def test_a_check_warns_where_wsgi_may_serve(
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    application: str | None,
    argv: list[str],
    apps: list[str],
    warned: bool,
) -> None:
    from conversations.checks import deployment

    settings.WSGI_APPLICATION = application
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setattr(deployment.apps, "is_installed", lambda name: name in apps)
    assert [message.id for message in check_asgi(None)] == (["conversations.W006"] if warned else [])

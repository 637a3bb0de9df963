"""A user's own URL that no HTTP client can call, stored under older rules: each chat ends with the one refusal."""

from __future__ import annotations

from typing import Any

import httpx
from websockets.sync.client import connect

from conversations.access.rules import identifier_of
from conversations.models import UserConfig
from tests.conftest import Server

from .accounts import bearer, make_key, make_user, require_login
from .helpers import Socket, chat, whole_chat

UNREADABLE = [
    "nonsense",
    "https://",
    "https:///v1",
    "https://xn--localhost/v1",
    "https://api.xn--a.example/v1",
    "https://127.0.0.257/v1",
    "https://256.256.256.256/v1",
    "https://8.8.8.8.8/v1",
    "https://010.8.8.8/v1",
    "https://8.8.8.08/v1",
    "https://8.8.8.8./v1",
    "https://8.8.8/v1",
    "https://134744072/v1",
    "https://a..b/v1",
    f"https://{'a' * 64}.example/v1",
    "https://[::1/v1",
    "https://[v1.x]/v1",
    "https://a%2eb/v1",
    "https://exámple.com/v1",
    "https://example.com:99999/v1",
    "https://example.com:0/v1",
    "https://example.com:x/v1",
    "https://user:password@example.com/v1",
    "https://example.com\\@127.0.0.1/v1",
    "ftp://example.com/v1",
    "https://169.254.169.254/v1",
]
# What only the one person of an open server may call.
PRIVATE = [
    "https://localhost/v1",
    "https://llm/v1",
    "https://127.0.0.1/v1",
    "https://10.0.0.5/v1",
    "http://8.8.8.8/v1",
]
REFUSAL = ("upstream_unavailable", "The model's server cannot be reached.")


def store(url: str, user_identifier: str) -> None:
    """Past all validation."""
    values = {"current_model_type": "custom", "custom_api_url": url, "custom_model": "own"}
    UserConfig.objects.update_or_create(user_identifier=user_identifier, defaults=values)


def over_rest(client: httpx.Client, **body: Any) -> set[tuple[str, str]]:
    whole = whole_chat(client, "hi", **body)
    assert whole.status_code == 502, whole.text
    error = chat(client, "hi", **body).error
    return {(whole.json()["code"], whole.json()["detail"]), (error["code"], error["message"])}


def over_socket(socket: Socket, **body: Any) -> tuple[str, str]:
    socket.send(type="chat", id="x", message="hi", **body)
    error = socket.reply("x")[-2]["error"]
    return error["code"], error["message"]


def test_on_an_open_server(server: Server, client: httpx.Client) -> None:
    with connect(server.ws_url, proxy=None) as connection:
        for url in UNREADABLE:
            store(url, "kim")
            assert over_rest(client, user_id="kim") == {REFUSAL}, url
            assert over_socket(Socket(connection), user_id="kim") == REFUSAL, url


def test_with_login(server: Server, client: httpx.Client, settings: Any) -> None:
    require_login(settings)
    user = make_user("kim")
    headers = bearer(make_key(user))
    client.headers.update(headers)
    with connect(server.ws_url, proxy=None, additional_headers=headers) as connection:
        for url in [*UNREADABLE, *PRIVATE]:
            store(url, identifier_of(user))
            assert over_rest(client) == {REFUSAL}, url
            assert over_socket(Socket(connection)) == REFUSAL, url

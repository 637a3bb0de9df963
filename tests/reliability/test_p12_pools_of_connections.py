"""Behind PgBouncer, which gives out few connections a transaction at a time, and with `?options=` in the URL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import httpx
import pytest
from django.db import ConnectionHandler

from tests import databases
from tests.conversations.helpers import whole_chat
from tests.database_server import DatabaseServer, settings_of
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .pgbouncer import PgBouncer
from .test_p12_database_servers import database_server as database_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(databases.vendor() != "postgresql", reason="PgBouncer stands before PostgreSQL"),
]
LOCKS = "LOCK TABLE conversations_conversation IN ACCESS EXCLUSIVE MODE"


@contextmanager
def everything_locked(server: DatabaseServer) -> Iterator[None]:
    wrapper = ConnectionHandler({"default": settings_of(server.url)})["default"]
    with closing(wrapper.get_new_connection(wrapper.get_connection_params())) as connection:
        connection.execute(LOCKS)
        yield
        connection.rollback()


def refused_within(client: httpx.Client, seconds: float) -> None:
    began = time.monotonic()
    refused = client.post("/conversations", json={})
    assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
    assert time.monotonic() - began < seconds


def test_p12_chats_behind_pgbouncer(serve: Serve, database_server: DatabaseServer, scripted: ScriptedUpstream) -> None:
    with PgBouncer(database_server.url) as pool, ExitStack() as open_clients:
        servers = serve(count=2, DATABASE_URL=pool.url)
        clients = [open_clients.enter_context(server.client()) for server in servers]
        with ThreadPoolExecutor(16) as threads:
            said = [f"hi {number}" for number in range(32)]
            calls = [threads.submit(whole_chat, clients[number % 2], text) for number, text in enumerate(said)]
            replies = [call.result(60) for call in calls]
        assert [reply.json()["status"] for reply in replies] == ["completed"] * len(said)
        assert [client.get("/api/health/ready").status_code for client in clients] == [200, 200]


def test_p12_a_lock_is_not_waited_for_behind_pgbouncer(
    serve: Serve, database_server: DatabaseServer, scripted: ScriptedUpstream
) -> None:
    """As the guide says: the limit belongs to the account, for a pool knows nothing of sessions."""
    database_server.do("ALTER ROLE chat SET lock_timeout = '1s'")
    with PgBouncer(database_server.url) as pool:
        [server] = serve(DATABASE_URL=pool.url)
        with server.client() as client, everything_locked(database_server):
            for _again in range(3):
                refused_within(client, 15)
        with server.client() as client:
            assert whole_chat(client, "hi").json()["status"] == "completed"


def test_p12_a_lock_is_not_waited_for_whatever_options_the_url_brings(
    serve: Serve, database_server: DatabaseServer, scripted: ScriptedUpstream
) -> None:
    [server] = serve(
        DATABASE_URL=f"{database_server.url}?options=-c%20statement_timeout%3D60s",
        conversations={"LOCK_TIMEOUT": 1.0},
    )
    with server.client() as client, everything_locked(database_server):
        refused_within(client, 15)

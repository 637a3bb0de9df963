"""Promise 12 on PostgreSQL and MariaDB: a server that takes no writes for a while, and a network that drops.

Callers are told so in time, readiness too, and nothing has to be restarted once it is over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests import databases
from tests.conversations.helpers import whole_chat
from tests.database_server import DatabaseServer
from tests.swallowing import SwallowingProxy
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .readers import SseReader
from .test_p12_database_and_redis_faults import talk, wait_for, words
from .test_p12_database_servers import database_server as database_server
from .truth import consistent

VENDOR = databases.vendor()
pytestmark = [pytest.mark.server, pytest.mark.skipif(VENDOR == "sqlite", reason="SQLite is no server")]

# Whom `read_only` and limits of connections bind.
ACCOUNT = {
    "postgresql": [
        "CREATE ROLE plain LOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO plain",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain",
    ],
    "mysql": ["CREATE USER plain@'%'", "GRANT ALL ON chat.* TO plain@'%'"],
}
END_OTHERS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain'",
    "mysql": "KILL USER plain",
}
READ_ONLY = {
    "postgresql": {
        "the whole server": (
            ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
            ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
        ),
        "new connections": (
            ["ALTER ROLE plain SET default_transaction_read_only = on", END_OTHERS["postgresql"]],
            ["ALTER ROLE plain RESET default_transaction_read_only"],
        ),
    },
    "mysql": {
        "the whole server": (["SET GLOBAL read_only = 1"], ["SET GLOBAL read_only = 0"]),
        "new connections": (["SET GLOBAL tx_read_only = 1", END_OTHERS["mysql"]], ["SET GLOBAL tx_read_only = 0"]),
    },
}
# How the account is admitted no more, and again. MariaDB knows no limit of none: there one connection is left.
FULL = {
    "postgresql": (
        ["ALTER ROLE plain CONNECTION LIMIT 0"],
        ["ALTER ROLE plain CONNECTION LIMIT -1"],
    ),
    "mysql": (
        ["ALTER USER plain@'%' WITH MAX_CONNECTIONS_PER_HOUR 1"],
        ["ALTER USER plain@'%' WITH MAX_CONNECTIONS_PER_HOUR 0", "FLUSH USER_RESOURCES"],
    ),
}


def plain(server: DatabaseServer) -> str:
    """The URL of an account that is no superuser."""
    server.do(*ACCOUNT[VENDOR])
    return server.url_of("plain")


def ready(client: httpx.Client) -> int:
    return client.get("/api/health/ready").status_code


@pytest.mark.parametrize("what", ["the whole server", "new connections"])
def test_p12_a_server_that_was_read_only_is_an_outage_like_others(
    serve: Serve, database_server: DatabaseServer, scripted: ScriptedUpstream, what: str
) -> None:
    [server] = serve(DATABASE_URL=plain(database_server))
    on, off = READ_ONLY[VENDOR][what]
    reader = SseReader(server, message=talk(0, 100, "half")).start().acknowledged().seen(1)
    with server.client() as client:

        def all_answer(status: int) -> bool:
            with ThreadPoolExecutor(16) as together:
                return {*together.map(lambda _number: client.post("/conversations").status_code, range(64))} == {
                    status
                }

        before = client.post("/conversations").json()["session_id"]
        database_server.do(*on)
        wait_for(lambda: ready(client) == 503)
        wait_for(lambda: all_answer(503))  # each of the server's processes is told by itself
        scripted.gate("half").open()
        refused = [client.post("/conversations") for _number in range(8)]
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "database_busy")}
        assert whole_chat(client, "Hello?").status_code == 503
        assert client.get(f"/conversations/{before}/history").status_code == 200, "reading goes on"
        assert not reader.has_ended
        database_server.do(*off)
        wait_for(lambda: all_answer(201))  # a thread that keeps a connection that can only read would never
        wait_for(lambda: ready(client) == 200)
        told = consistent(client, reader.join().part)
        assert (told.status, told.text) == ("completed", words(0, 100))


def test_p12_a_server_with_too_many_connections_is_an_outage(serve: Serve, database_server: DatabaseServer) -> None:
    """It ends the connections that there are, and admits this account no more."""
    [server] = serve(DATABASE_URL=plain(database_server))
    refuse, admit = FULL[VENDOR]
    with server.client() as client:
        database_server.do(*refuse)
        wait_for(lambda: not database_server.admits("plain"))
        database_server.do(END_OTHERS[VENDOR])
        wait_for(lambda: client.post("/conversations").status_code == 503)
        wait_for(lambda: ready(client) == 503)
        database_server.do(*admit)
        wait_for(lambda: ready(client) == 200)
        assert client.post("/conversations").status_code == 201


# A network that drops ------------------------------------------------------------------------------------------
@pytest.fixture
def network(database_server: DatabaseServer) -> Iterator[SwallowingProxy]:
    with SwallowingProxy(database_server.port) as proxy:
        yield proxy


def over(network: SwallowingProxy, server: DatabaseServer, **options: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{server.url.replace(f':{server.port}/', f':{network.port}/')}?{query}"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_p12_a_network_that_swallows_is_an_outage_and_heals(
    serve: Serve, database_server: DatabaseServer, network: SwallowingProxy
) -> None:
    url = over(network, database_server, connect_timeout=2)
    [server] = serve(DATABASE_URL=url, conversations={"DB_JOB_TIMEOUT": 2.0})
    with server.client() as client:
        assert client.post("/conversations").status_code == 201
        network.swallow()
        with within(10):
            assert ready(client) == 503
        for _again in range(2):
            with within(30):
                refused = client.post("/conversations")
            assert (refused.status_code, refused.json()["code"]) == (503, "database_busy")
        network.heal()
        wait_for(lambda: ready(client) == 200)
        wait_for(lambda: client.post("/conversations").status_code == 201)


@pytest.mark.alone
def test_p12_a_process_ends_in_time_though_its_database_says_nothing(
    serve: Serve, database_server: DatabaseServer, network: SwallowingProxy
) -> None:
    """With the defaults, an answer that runs, and requests that wait, in threads of ours and of Django's."""
    [server] = serve(DATABASE_URL=over(network, database_server), DRAIN_SECONDS="1")
    reader = SseReader(server, message=talk(0, 100, "half")).start().acknowledged().seen(1)
    with server.client() as client, ThreadPoolExecutor(4) as together:
        assert client.get("/accounts/login/").status_code in (200, 404)
        network.swallow()
        form = {"username": "nobody", "password": "nothing"}
        waiting = [
            together.submit(ask, client, "POST", "/conversations"),
            together.submit(ask, client, "GET", "/conversations"),
            together.submit(ask, client, "POST", "/accounts/login/", data=form),
        ]
        wait_for(lambda: ready(client) == 503)
        with within(STOP_SECONDS):
            assert server.stop() == 0
        for call in waiting:
            call.result(30)
    reader.join()


# DRAIN_SECONDS of 1; what the last ends, readers, connections and threads get after it.
STOP_SECONDS = 28.0


def ask(client: httpx.Client, method: str, path: str, **kwargs: Any) -> int:
    try:
        return client.request(method, path, **kwargs).status_code
    except httpx.TransportError:
        return 0

"""A second tab at another process sees what happens at the first, with Redis and without."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conversations.helpers import stream
from tests.entry import HEADERS
from tests.processes.server import ServerProcess
from tests.upstream import answer

from .pair import Pair, running_pair
from .readers import script

pytestmark = pytest.mark.server
# A look takes a second without Redis; machines under test may take their time.
SECONDS = 30.0


@pytest.fixture(scope="module", params=[False, True], ids=["polling", "redis"])
def pair(request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("feed")
    with running_pair(migrated, folder, redis=request.param, default=answer("an answer")) as pair:
        yield pair


class Tab:
    """A socket that watches."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        connection.send(json.dumps({"type": "watch", "id": "w"}))
        self.until(event="resync")

    def send(self, **frame: Any) -> None:
        self._connection.send(json.dumps(frame))

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Read on until such a frame comes."""
        deadline = time.monotonic() + SECONDS
        while True:
            frame: dict[str, Any] = json.loads(self._connection.recv(timeout=max(0, deadline - time.monotonic())))
            if wanted.items() <= frame.items():
                return frame


@contextmanager
def tab(server: ServerProcess) -> Iterator[Tab]:
    with connect(server.ws_url, proxy=None, additional_headers=HEADERS, max_size=None, open_timeout=60) as connection:
        yield Tab(connection)


def listed(client: httpx.Client) -> list[str]:
    return [item["session_id"] for item in client.get("/conversations").json()["conversations"]]


def test_a_tab_at_another_process_sees_it_all(pair: Pair) -> None:
    first = pair.clients[0]
    with tab(pair.servers[1]) as second:
        message = script(chunks=["one ", "two"], gate="held", gate_at=1)
        with first.stream("POST", "/chat", json={"message": message}) as response:
            ids = {"session_id": response.headers["x-session-id"]}
            begun = second.until(event="reply", change="started", **ids)
            second.send(type="attach", id="a", generation_id=begun["generation_id"])
            assert second.until(id="a", type="accepted")["message_id"] == begun["message_id"]
            second.until(id="a", chunk="one ")
            pair.upstream.gate("held").open()
            response.read()
        second.until(id="a", done=True)
        first.patch(f"/conversations/{ids['session_id']}", json={"title": "Named"})
        # The end of the answer changed it too.
        while second.until(event="conversation", change="changed", **ids)["conversation"]["title"] != "Named":
            pass
        again = first.post(f"/messages/{begun['message_id']}/regenerate", json={"stream": False}).json()
        second.until(event="reply", change="ended", message_id=again["message_id"], status="completed")
        first.patch(f"/conversations/{ids['session_id']}", json={"active_leaf": begun["message_id"]})
        shown = second.until(event="conversation", change="selected", **ids)["conversation"]
        assert shown["active_leaf"] == begun["message_id"]
        first.delete(f"/conversations/{ids['session_id']}")
        second.until(event="conversation", change="deleted", **ids)


def test_a_tab_that_was_cut_is_level_again(pair: Pair) -> None:
    first, second = pair.clients
    with tab(pair.servers[1]):
        pair.servers[1].kill()
    ids = {stream(first, "POST", "/chat", json={"message": "meanwhile"}).done["session_id"]}
    pair.servers[1].start()
    with tab(pair.servers[1]) as again:
        assert ids <= set(listed(second))
        assert listed(second) == listed(first)
        session_id = first.post("/conversations", json={"title": "after"}).json()["session_id"]
        again.until(event="conversation", change="created", session_id=session_id)


def test_an_open_feed_holds_up_no_end(pair: Pair) -> None:
    server = pair.servers[1]
    with tab(server), httpx.stream("GET", f"{server.url}/events", headers=HEADERS, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        for _line in lines:
            pass
        assert server.wait() == 0
        assert time.monotonic() - began < 20
    assert "Traceback" not in server.log.read_text()
    server.start()

"""What was used is counted once for each answer, whatever ended it: stops, failures, deletions, kills."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conversations.helpers import history, stream, streaming

from .conftest import Serve
from .readers import script
from .sizes import size

pytestmark = pytest.mark.server

ANSWERS = size(40, 1000)
KILLS = size(2, 10)
AT_ONCE = 5


def told(number: int) -> dict[str, int]:
    """What the upstream counts of an answer."""
    return {
        "prompt_tokens": 7 + number % 5,
        "completion_tokens": 11 + number % 7,
        "total_tokens": 18 + number % 5 + number % 7,
    }


class Chats:
    """Answers of many ends, and what became of them."""

    def __init__(self, client: httpx.Client, chance: random.Random) -> None:
        self._client = client
        self._chance = chance
        self.completed: list[int] = []

    def one(self, number: int) -> None:
        """An answer that completes, fails, is stopped or deleted, by chance; or is cut with its process."""
        kind = self._chance.choice(["whole", "whole", "uncounted", "refused", "broken", "stopped", "deleted"])
        usage: Any = None if kind == "uncounted" else told(number)
        asked: dict[str, Any] = {"chunks": ["some ", "text"], "usage": usage}
        if kind == "refused":
            asked = {"status": 400, "body": "no"}
        elif kind == "broken":
            asked["cut"] = 1
        elif kind in ("stopped", "deleted"):
            asked |= {"endless": True, "delay": 0.01}
        try:
            with streaming(self._client, "POST", "/chat", json={"message": script(**asked)}) as (heard, blocks):
                for _block in blocks:
                    if kind == "stopped":
                        self._client.post(f"/generations/{heard.headers['x-generation-id']}/stop")
                    elif kind == "deleted":
                        self._client.delete(f"/conversations/{heard.headers['x-session-id']}")
        except httpx.HTTPError:
            return  # the process was killed


def test_every_answer_is_counted_once(serve: Serve) -> None:
    [server] = serve(conversations={"MAX_ANSWERS_PER_CALLER": 0, "RATE_LIMIT": "", "KEEP_LATEST": 2 * ANSWERS})
    chance = random.Random(5)
    begun = 0
    for loop in range(KILLS):
        with server.client() as client, ThreadPoolExecutor(AT_ONCE) as threads:
            chats = Chats(client, chance)
            first = loop * ANSWERS // KILLS
            list(threads.map(chats.one, range(first, first + ANSWERS // KILLS)))
            # What runs as the process dies is counted too.
            body = {"message": script(chunks=["x"], endless=True, delay=0.01)}
            with streaming(client, "POST", "/chat", json=body) as (_heard, blocks):
                next(blocks)
                server.kill()
        server.start()
        begun += ANSWERS // KILLS + 1
    with server.client() as client:
        done = stream(client, "POST", "/chat", json={"message": script(chunks=["last"], usage=told(0))}).done
        assert done["usage"] == told(0)
        begun += 1
        total = settled(client, begun)
        assert total["requests"] + total["estimated"]["requests"] == begun
        rows = [message for session_id in sessions(client) for message in history(client, session_id)]
        exact = [row["usage"] for row in rows if row["status"] == "completed" and row["usage"]]
        assert total["requests"] == len(exact)
        for name in ("prompt_tokens", "completion_tokens"):
            assert total[name] == sum(usage[name] for usage in exact)
        for session_id in sessions(client):
            client.delete(f"/conversations/{session_id}")
        assert client.get("/api/usage").json()["total"] == total


def settled(client: httpx.Client, begun: int) -> dict[str, Any]:
    """The usage, once what a dead process left is ended."""

    deadline = time.monotonic() + 60
    while True:
        total: dict[str, Any] = client.get("/api/usage").json()["total"]
        if total["requests"] + total["estimated"]["requests"] >= begun or time.monotonic() > deadline:
            return total
        time.sleep(0.2)


def sessions(client: httpx.Client) -> list[str]:
    found: list[str] = []
    url: str | None = "/conversations"
    while url:
        page = client.get(url).json()
        found += [item["session_id"] for item in page["conversations"]]
        url = page["next"]
    return found

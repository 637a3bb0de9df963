"""P7 of what is passed on: a relay whose process was killed is settled by another, and one that is left at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import databases
from tests.upstream import answer

from .pair import running_pair
from .sizes import size

pytestmark = pytest.mark.server

BODY = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PATIENCE = 30.0
TIMES = size(3, 50)
LEFT_WITHIN = size(10.0, 2.0)


def rows_within(folder: Path, sql: str, expected: list[object], seconds: float) -> list[object]:
    deadline = time.monotonic() + seconds
    while (rows := databases.rows(folder, sql)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return rows


@pytest.mark.parametrize("survivors", [1, 2], ids=["the next process", "its neighbour"])
def test_p7_a_relay_of_a_killed_process_is_settled(migrated: Path, tmp_path: Path, survivors: int) -> None:
    folder = tmp_path / "relays"
    with running_pair(migrated, folder, kinds=["uvicorn"] * survivors, conversations={"BEAT_INTERVAL": 0.2}) as pair:
        pair.upstream.script = [answer("one", "two", gate="never", gate_at=1)]
        victim = pair.servers[0]
        with pair.clients[0].stream("POST", "/v1/chat/completions", json=BODY) as response:
            lines = response.iter_lines()  # kept: where it is dropped, the client leaves
            assert any('"content": "one"' in line for line in lines)
            assert len(databases.rows(folder, "SELECT id FROM conversations_relay")) == 1
            victim.kill()
        if survivors == 1:
            victim.start()
        assert rows_within(folder, "SELECT id FROM conversations_relay", [], PATIENCE) == []
        # What it reserved counts as used: nobody knows how far its model came.
        assert databases.rows(folder, "SELECT estimated_requests FROM conversations_dailyusage") == [1]
        assert not databases.rows(folder, "SELECT id FROM conversations_conversation")


def test_p7_a_client_that_leaves_closes_its_upstream(migrated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "relays"
    with running_pair(migrated, folder, kinds=["uvicorn"]) as pair:
        for number in range(TIMES):
            pair.upstream.script = [answer("one", "two", endless=True, delay=0.01 * (number % 3))]
            with pair.clients[0].stream("POST", "/v1/chat/completions", json=BODY) as response:
                next(line for line in response.iter_lines() if '"content": "one"' in line)
            pair.upstream.wait_until(lambda: pair.upstream.requests[-1].closed_by_client, LEFT_WITHIN)
        assert rows_within(folder, "SELECT id FROM conversations_relay", [], PATIENCE) == []
        assert databases.rows(folder, "SELECT estimated_requests FROM conversations_dailyusage") == [TIMES]

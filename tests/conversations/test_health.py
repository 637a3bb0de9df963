"""Health: alive whatever happens, ready only with all that an answer needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from conversations.database import db
from conversations.engine import background, hints
from conversations.engine.follower import Follower
from conversations.engine.supervisor import Supervisor
from conversations.rest import health
from tests.upstream import ScriptedUpstream, answer

from .test_credentials import eventually


@pytest.fixture(autouse=True)
def _forget_migrations() -> Iterator[None]:
    """What one database was found to be is not for the next test's."""
    health._is_fit = False
    yield
    health._is_fit = False


async def ready() -> tuple[int, dict[str, Any]]:
    async with asyncio.timeout(10):
        response = await health.ready(RequestFactory().get("/api/health/ready"))
    return response.status_code, json.loads(response.content)


async def missing() -> dict[str, list[str]]:
    """What a server that is not ready says it lacks."""
    status, problem = await ready()
    assert (status, problem["code"], problem["retry_after"]) == (503, "not_ready", 5)
    errors: dict[str, list[str]] = problem["errors"]
    return errors


class BrokenLayer:
    """A channel layer whose Redis is away; its error would tell where that is."""

    def __init__(self, **_options: Any) -> None:
        pass

    async def new_channel(self, prefix: str) -> str:
        raise ConnectionError("redis://:s3cret@10.0.0.7 does not answer")


class SilentLayer(BrokenLayer):
    """A channel layer that takes messages and never gives one."""

    async def new_channel(self, prefix: str) -> str:
        return prefix

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        pass

    async def receive(self, channel: str) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("never")


def use_layer(settings: Any, layer: type) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{layer.__module__}.{layer.__qualname__}"}}


def test_both_answer_over_a_socket(client: httpx.Client) -> None:
    for path in ("/api/health", "/api/health/ready"):
        response = client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What raises an error in the follower's task, as often as it is in there; before a server starts."""
    follow, faults = Follower.follow_forever, ["now"]

    async def follow_forever(follower: Follower) -> None:
        if faults:
            raise RuntimeError(faults.pop())
        await follow(follower)

    monkeypatch.setattr(Follower, "follow_forever", follow_forever)
    monkeypatch.setattr(background, "RESTART_PAUSE", 0.05)
    monkeypatch.setattr(background, "TRUSTED_AFTER", 2.0)
    return faults


def test_an_engine_that_lost_a_task_says_so_over_http_until_it_runs_again(
    breaks: list[str], client: httpx.Client, model: ScriptedUpstream
) -> None:
    model.default = answer("hi")  # type: ignore[assignment]
    assert client.post("/chat", json={"message": "hi", "stream": False}).status_code == 200  # the engine runs now
    response = client.get("/api/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert list(response.json()["errors"]) == ["engine"]
    assert client.get("/api/health").status_code == 200
    eventually(lambda: client.get("/api/health/ready").status_code == 200)
    assert not breaks


def test_liveness_asks_the_database_nothing(api: APIClient) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert api.get("/api/health").json() == {"status": "ok"}
    assert len(queries) == 0


async def test_a_ready_server_stays_ready(engine: Supervisor) -> None:
    assert await ready() == (200, {"status": "ok"})
    assert await ready() == (200, {"status": "ok"})


async def test_a_database_that_is_not_migrated_is_not_ready(engine: Supervisor) -> None:
    def forget_one() -> Any:
        row = MigrationRecorder(connection).migration_qs.filter(app="conversations").latest("id")
        row.delete()
        return row

    row = await db.write(forget_one)
    try:
        assert await missing() == {"database": ["not migrated"]}
    finally:
        await db.write(lambda: MigrationRecorder(connection).record_applied(row.app, row.name))
    assert (await ready())[0] == 200


async def test_a_database_that_cannot_hold_every_character_is_not_ready(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(health, "unfit", lambda _connection: "its encoding is LATIN1: make one with UTF8")
        assert await missing() == {"database": ["cannot hold every character"]}
    assert "its encoding is LATIN1" in caplog.text
    assert (await ready())[0] == 200


async def test_a_database_that_is_away_is_not_ready_and_its_address_is_not_told(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(db.close)
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings["default"], "NAME", str(tmp_path / "missing" / "db.sqlite3"))
        patch.setitem(connections.settings["default"], "HOST", "127.0.0.1")
        patch.setitem(connections.settings["default"], "PORT", "1")
        assert await missing() == {"database": ["does not answer"]}
        assert (await health.live(RequestFactory().get("/api/health"))).status_code == 200
    await asyncio.to_thread(db.close)
    assert "the database does not answer" in caplog.text
    assert await ready() == (200, {"status": "ok"})


DEGRADED = (200, {"status": "degraded", "errors": {"channel_layer": ["does not answer"]}})


async def test_without_its_channel_layer_a_server_is_degraded_and_ready_and_tells_no_secrets(
    engine: Supervisor, settings: Any
) -> None:
    """Answers are made and read as ever; not ready, every process would leave the balancer at once."""
    use_layer(settings, BrokenLayer)
    assert await ready() == DEGRADED


async def test_who_wants_to_have_the_channel_layer_says_so(engine: Supervisor, settings: Any) -> None:
    use_layer(settings, BrokenLayer)
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "READY_NEEDS_CHANNEL_LAYER": True}
    assert await missing() == {"channel_layer": ["does not answer"]}


async def test_the_log_tells_once_a_minute_that_the_layer_is_away_and_once_that_it_is_back(
    engine: Supervisor, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(hints, "RECONNECT_PAUSE", 0.001)
    before = settings.CHANNEL_LAYERS
    use_layer(settings, BrokenLayer)
    receiving = asyncio.ensure_future(engine.hints.receive_forever())
    for _probe in range(20):
        assert await ready() == DEGRADED
    receiving.cancel()
    settings.CHANNEL_LAYERS = before
    assert await ready() == (200, {"status": "ok"})
    assert await ready() == (200, {"status": "ok"})
    told = [record.getMessage() for record in caplog.records if "channel layer" in record.getMessage()]
    assert len(told) == 2
    assert told[0].startswith("the channel layer does not answer: ")
    assert told[1] == "the channel layer answers again"


async def test_a_channel_layer_that_loses_messages_is_none(
    engine: Supervisor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ready())[0] == 200  # the database's check is slow once
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.5)
    use_layer(settings, SilentLayer)
    assert await ready() == DEGRADED


async def test_no_channel_layer_is_none_to_wait_for(engine: Supervisor, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert await ready() == (200, {"status": "ok"})


async def test_a_draining_process_is_alive_and_not_ready(engine: Supervisor) -> None:
    engine.leaving = True
    assert await missing() == {"process": ["shutting down"]}
    assert (await health.live(RequestFactory().get("/api/health"))).status_code == 200


async def test_all_that_is_missing_is_named_at_once(engine: Supervisor, settings: Any) -> None:
    engine.leaving = True
    use_layer(settings, BrokenLayer)
    assert (await missing()).keys() == {"channel_layer", "process"}

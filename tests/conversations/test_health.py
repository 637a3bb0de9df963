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

from conversations import db
from conversations.api import health
from conversations.generation.supervisor import Supervisor


@pytest.fixture(autouse=True)
def _forget_migrations() -> Iterator[None]:
    """What one database was found to be is not for the next test's."""
    health._migrated = False
    yield
    health._migrated = False


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
    assert "not ready: database" in caplog.text
    assert await ready() == (200, {"status": "ok"})


async def test_a_channel_layer_that_fails_is_not_ready_and_its_secrets_are_not_told(
    engine: Supervisor, settings: Any
) -> None:
    use_layer(settings, BrokenLayer)
    assert await missing() == {"channel_layer": ["does not answer"]}


async def test_a_channel_layer_that_loses_messages_is_not_ready(
    engine: Supervisor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ready())[0] == 200  # the database's check is slow once
    monkeypatch.setattr(health, "CHECK_TIMEOUT", 0.5)
    use_layer(settings, SilentLayer)
    assert (await missing()).keys() == {"channel_layer"}


async def test_no_channel_layer_is_none_to_wait_for(engine: Supervisor, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert await ready() == (200, {"status": "ok"})


async def test_a_draining_process_is_alive_and_not_ready(engine: Supervisor) -> None:
    engine.draining = True
    assert await missing() == {"process": ["shutting down"]}
    assert (await health.live(RequestFactory().get("/api/health"))).status_code == 200


async def test_all_that_is_missing_is_named_at_once(engine: Supervisor, settings: Any) -> None:
    engine.draining = True
    use_layer(settings, BrokenLayer)
    assert (await missing()).keys() == {"channel_layer", "process"}

"""A connection that fails under a call of the API: the pools learn of it as they do of every other job's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import InterfaceError, connection
from django.test import AsyncClient

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db

pytestmark = pytest.mark.usefixtures("engine")


def failing_once(real: Callable[..., Any], tries: list[str]) -> Callable[..., Any]:
    def call(**options: Any) -> Any:
        tries.append(real.__name__)
        if len(tries) == 1:
            raise InterfaceError("the connection is closed")
        return real(**options)

    return call


async def test_a_call_that_reads_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = await db.write(services.create_conversation, caller=Caller(sees_all=True))
    tries: list[str] = []
    monkeypatch.setattr(services, "get_conversation", failing_once(services.get_conversation, tries))
    answer = await AsyncClient().get(f"/conversations/{conversation.session_id}")
    assert (answer.status_code, len(tries)) == (200, 2)


async def test_a_call_that_writes_is_not_and_other_threads_begin_new_connections(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    kept = await db.read(_connected)
    await db.write(_connected)
    tries: list[str] = []
    monkeypatch.setattr(services, "create_conversation", failing_once(services.create_conversation, tries))
    answer = await AsyncClient().post("/conversations", {}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"], len(tries)) == (503, "database_busy", 1)
    assert answer["Retry-After"] == "2"
    assert await db.read(_connected) is not kept


def _connected() -> Any:
    connection.ensure_connection()
    return connection.connection

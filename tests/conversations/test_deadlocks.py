"""Deadlocks that a database server finds: who asked for something never hears of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction

from conversations.database import outages
from conversations.database.transactions import replayed
from conversations.models import Conversation

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no rows to lock, hence no deadlocks"),
]
PATIENCE = 30


class Crossing:
    """Two transactions that lock two rows in opposite orders; each waits once until the other has its first."""

    def __init__(self, model: Any, keys: list[int]) -> None:
        self._model, self._keys = model, keys
        self._both = threading.Barrier(2)
        self.tries: list[int] = []

    def lock(self, number: int) -> None:
        first, second = self._keys if number else reversed(self._keys)
        self.tries.append(number)
        self._model.objects.select_for_update().get(pk=first)
        if self.tries.count(number) == 1:
            self._both.wait(PATIENCE)
        self._model.objects.select_for_update().get(pk=second)

    def run(self, job: Any) -> list[Any]:
        def closing(number: int) -> Any:
            try:
                return job(number)
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as threads:
            futures = [threads.submit(closing, number) for number in range(2)]
            return [future.exception(2 * PATIENCE) or future.result() for future in futures]


def accounts() -> tuple[Any, list[int]]:
    return User, [User.objects.create_user(name).pk for name in ("kim", "sam")]


def conversations() -> tuple[Any, list[int]]:
    return Conversation, [Conversation.objects.create().pk or 0 for _ in range(2)]


@pytest.mark.parametrize("rows", [accounts, conversations])
def test_a_real_deadlock_reaches_nobody(rows: Any) -> None:
    crossing = Crossing(*rows())

    @replayed
    def job(number: int) -> str:
        crossing.lock(number)
        return "done"

    assert crossing.run(job) == ["done", "done"]
    assert len(crossing.tries) > 2, "nobody had to try again"


@pytest.mark.parametrize("rows", [accounts, conversations])
def test_what_is_not_tried_again_meets_it(rows: Any) -> None:
    """The test above would not know that it meets a deadlock otherwise."""
    crossing = Crossing(*rows())

    def job(number: int) -> None:
        with transaction.atomic():
            crossing.lock(number)

    [error] = [outcome for outcome in crossing.run(job) if outcome is not None]
    assert isinstance(error, OperationalError)
    assert outages.asks_to_repeat(error)

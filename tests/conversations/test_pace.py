"""Who shows nothing that holds gets answers at a pace; nobody else waits for that."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import Resolver404, resolve

from conversations.web import pace
from conversations.web.pace import AT_FIRST, LONGEST, RATE, Pace, PaceMiddleware, mark_known

WAITS = 3


def test_the_first_ones_are_at_once_and_then_one_follows_the_other() -> None:
    at_a_pace = Pace()
    waits = [at_a_pace.delay("192.0.2.1", 100.0) for _answer in range(AT_FIRST + 4)]
    assert waits[: AT_FIRST + 1] == pytest.approx([0.0] * (AT_FIRST + 1))
    assert waits[AT_FIRST + 1 :] == pytest.approx([1 / RATE, 2 / RATE, 3 / RATE])
    assert at_a_pace.delay("192.0.2.2", 100.0) == 0
    assert at_a_pace.delay("192.0.2.1", 200.0) == 0


def test_nobody_waits_for_long() -> None:
    at_a_pace = Pace()
    waits = [at_a_pace.delay("192.0.2.1", 100.0) for _answer in range(10_000)]
    assert max(waits) <= LONGEST
    assert at_a_pace.delay("192.0.2.1", 100.0 + LONGEST + 1) < LONGEST


def test_addresses_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MOST_ADDRESSES", 10)
    at_a_pace = Pace()
    for number in range(1000):
        at_a_pace.delay(f"192.0.2.{number}", 100.0)
    assert len(at_a_pace._due) <= 10


async def held_back(path: str, *, known: bool) -> bool:
    """Whether one of many answers is not there at once."""

    async def answer(request: HttpRequest) -> HttpResponse:
        if known:
            mark_known(request)
        with suppress(Resolver404):  # as Django's handler does
            request.resolver_match = resolve(path)
        return HttpResponse()

    middleware: Any = PaceMiddleware(answer)
    asked = [asyncio.ensure_future(middleware(RequestFactory().get(path))) for _request in range(AT_FIRST + WAITS + 1)]
    for _turn in range(10):
        await asyncio.sleep(0)
    waiting = [task for task in asked if not task.done()]
    await asyncio.gather(*asked)
    return bool(waiting)


@pytest.mark.parametrize(
    ("path", "known", "login", "held"),
    [
        ("/conversations", False, True, True),
        ("/schema", False, True, True),
        ("/nothing", False, True, True),
        ("/conversations", True, True, False),
        ("/api/health", False, True, False),
        ("/conversations", False, False, False),
    ],
)
async def test_who_waits(settings: Any, path: str, known: bool, login: bool, held: bool) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": login}
    assert await held_back(path, known=known) is held

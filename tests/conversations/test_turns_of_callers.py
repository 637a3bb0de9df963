"""Turns at what few may do at a time: nobody has them all, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from conversations.exceptions import ServerBusy
from conversations.web.turns import Turns

SOON = 0.05
LONG = 20.0


async def test_so_many_at_a_time_and_one_of_each() -> None:
    turns = Turns(lambda: 2, lambda: 1)
    await turns.take("kim", SOON)
    with pytest.raises(ServerBusy) as refused:
        await turns.take("kim", SOON)
    assert refused.value.retry_after
    await turns.take("lee", SOON)
    with pytest.raises(ServerBusy):
        await turns.take("ann", SOON)
    turns.give_back("kim")
    await turns.take("ann", SOON)


async def test_who_waits_gets_the_next_one_and_all_of_them_get_one() -> None:
    turns = Turns(lambda: 2, lambda: 1)
    running: list[str] = []
    most: list[int] = []

    async def work(who: str) -> None:
        async with turns.turn(who, LONG):
            assert who not in running
            running.append(who)
            most.append(len(running))
            await asyncio.sleep(0)
            running.remove(who)

    await asyncio.gather(*(work(who) for who in ["kim"] * 30 + ["lee"] * 30 + ["ann"]))
    assert (len(most), max(most)) == (61, 2)


async def test_who_leaves_while_waiting_takes_no_turn() -> None:
    turns = Turns(lambda: 1, lambda: 1)
    await turns.take("kim", SOON)
    waiting = asyncio.create_task(turns.take("lee", LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    turns.give_back("kim")
    await turns.take("ann", SOON)


async def test_a_failure_gives_the_turn_back() -> None:
    turns = Turns(lambda: 1, lambda: 1)
    for _number in range(3):
        with pytest.raises(ValueError, match="broken"):
            async with turns.turn("kim", SOON):
                raise ValueError("broken")

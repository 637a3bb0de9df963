"""Whoever asked for an answer holds a reader's place from its begin, until they read it or end without that."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import httpx
import pytest

from conversations.database import db
from conversations.engine import engines
from conversations.engine.reader import open_reader
from conversations.engine.run import Run
from conversations.engine.supervisor import Supervisor
from tests.upstream import ScriptedUpstream, answer

from .helpers import stream
from .test_engine import events_of, start

pytestmark = pytest.mark.django_db(transaction=True)

STANDS_STILL = 1.2


@pytest.fixture(autouse=True)
def _cancel(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ON_DISCONNECT": "cancel"}


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The event loop stands still right after each answer began, before its asker comes to read."""
    original, times = engines.launch_from_job, []

    def launch(plan: Any) -> None:
        original(plan)
        loop = db.calling_loop.get()
        for _time in range(2):
            loop.call_soon_threadsafe(stand_still)

    def stand_still() -> None:
        times.append(time.monotonic())
        threading.Event().wait(STANDS_STILL)

    monkeypatch.setattr(engines, "launch_from_job", launch)
    return times


@pytest.mark.parametrize("whole", [True, False])
def test_a_loop_that_stands_still_stops_nobody_s_answer(
    whole: bool, client: httpx.Client, model: ScriptedUpstream, standing_still: list[float]
) -> None:
    model.default = answer("one ", "two", delay=0.3)  # type: ignore[assignment]
    body = {"message": "hi", "stream": not whole}
    told = client.post("/chat", json=body).json() if whole else stream(client, "POST", "/chat", json=body).events[-1]
    assert told["status"] == "completed"
    assert standing_still


@pytest.fixture
def _scripted(upstream: ScriptedUpstream, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted"}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}


async def begun(upstream: ScriptedUpstream, engine: Supervisor, task: Any = None) -> Run:
    """Begin an answer that waits at its second word; ``task`` is where it is asked for, else the test's own."""
    upstream.default = answer("some ", "text", gate="g", gate_at=1)  # type: ignore[assignment]
    ids = await (task or start())
    return engine.runs[ids.generation_id]


async def stopped(run: Run) -> None:
    async with asyncio.timeout(10):
        await run.finished.wait()
    assert run.transcript.ending
    assert run.transcript.ending.status == "stopped"


@pytest.mark.usefixtures("_scripted")
async def test_who_takes_long_to_read_keeps_its_place(upstream: ScriptedUpstream, engine: Supervisor) -> None:
    """As behind a host project's middleware that has something to do first."""
    run = await begun(upstream, engine)
    await asyncio.sleep(2 * STANDS_STILL)
    upstream.gate("g").open()
    assert (await events_of(run.ids))[-1].ending.status == "completed"


@pytest.mark.usefixtures("_scripted")
async def test_who_ends_without_reading_leaves(upstream: ScriptedUpstream, engine: Supervisor) -> None:
    await stopped(await begun(upstream, engine, asyncio.create_task(start())))


@pytest.mark.usefixtures("_scripted")
async def test_who_was_cancelled_as_it_began_leaves(
    upstream: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may have run by then: its answer begins, and nobody waits for it."""
    upstream.default = answer("some ", "text", gate="g", gate_at=1)  # type: ignore[assignment]
    task = asyncio.create_task(start())
    launch = engine.launch

    def cancelled_first(*what: Any) -> None:
        task.cancel()
        launch(*what)

    monkeypatch.setattr(engine, "launch", cancelled_first)
    await asyncio.gather(task, return_exceptions=True)
    [run] = engine.runs.values()
    await stopped(run)


@pytest.mark.usefixtures("_scripted")
async def test_who_drops_the_reader_it_opened_leaves(upstream: ScriptedUpstream, engine: Supervisor) -> None:
    run = await begun(upstream, engine)
    reader = await open_reader(run.ids.generation_id)
    await asyncio.sleep(0.1)
    assert run.requested_ending is None
    del reader
    gc.collect()
    await stopped(run)


@pytest.mark.usefixtures("_scripted")
async def test_another_s_leaving_takes_no_place(upstream: ScriptedUpstream, engine: Supervisor) -> None:
    run = await begun(upstream, engine)

    async def look() -> None:
        batches = (await open_reader(run.ids.generation_id)).batches()
        await anext(batches)
        await batches.aclose()

    await asyncio.create_task(look())
    assert run.requested_ending is None
    upstream.gate("g").open()
    assert (await events_of(run.ids))[-1].ending.status == "completed"


@pytest.mark.usefixtures("_scripted")
async def test_a_reader_that_is_opened_in_one_task_and_read_in_another(
    upstream: ScriptedUpstream, engine: Supervisor
) -> None:
    """As below a middleware of a host project that is not asynchronous."""

    async def ask() -> tuple[Any, Any]:
        ids = await start()
        return ids, await open_reader(ids.generation_id)

    upstream.default = answer("some ", "text", gate="g", gate_at=1)  # type: ignore[assignment]
    ids, reader = await asyncio.create_task(ask())
    await asyncio.sleep(0.1)
    assert engine.runs[ids.generation_id].requested_ending is None
    batches = reader.batches()
    await anext(batches)
    await batches.aclose()
    await stopped(engine.runs[ids.generation_id])

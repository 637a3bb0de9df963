"""The engine's long-lived tasks: watched, and not held up by one bad neighbour."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from channels.exceptions import ChannelFull

from conversations.database import db
from conversations.engine import background, hints
from conversations.engine.background import BackgroundTasks
from conversations.engine.chunk_log import ChunkLog
from conversations.engine.progress import Seen, load, still_running
from conversations.engine.run import Run
from conversations.engine.supervisor import Supervisor
from conversations.models import Conversation, Generation, GenerationChunk, Message
from tests.upstream import ScriptedUpstream, answer

from .test_engine import events_of, start


async def test_a_task_that_ends_is_told_of_and_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_PAUSE", 0.0)
    begun, again = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        if begun.is_set():
            again.set()
        else:
            begun.set()
            raise ValueError("outside of any try")
        await asyncio.Event().wait()

    watched = BackgroundTasks(lambda: None)
    watched.start("writer", work)
    async with asyncio.timeout(5):
        await again.wait()
    assert watched.failed == ["writer"]
    assert "'writer' ended" in caplog.text
    monkeypatch.setattr(background, "TRUSTED_AFTER", 0.0)
    assert watched.failed == []
    await watched.close()


async def test_a_fault_of_the_writer_ends_its_answers_and_no_other(
    model: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ChunkLog._committed
    faults = [RuntimeError("outside of any try")]

    async def committed(self: ChunkLog, run: Run, *args: Any, **kwargs: Any) -> None:
        if faults:
            raise faults.pop()
        await real(self, run, *args, **kwargs)

    monkeypatch.setattr(ChunkLog, "_committed", committed)
    model.default = answer("some ", "text")  # type: ignore[assignment]
    async with asyncio.timeout(10):
        assert (await events_of(await start("first")))[-2].code == "storage_failed"
        assert (await events_of(await start("second")))[-1].ending.status == "completed"


async def test_a_thousand_answers_are_followed_at_once(presets: None) -> None:
    ids = await asyncio.to_thread(_many_answers, 1200)
    found = await db.read(load, dict.fromkeys(ids, Seen()))
    assert len(found) == 1200
    assert all(progress.pieces[0].text == "text" for progress in found.values())
    assert await db.read(still_running, ids) == set(ids)
    await asyncio.to_thread(db.close)


def _many_answers(count: int) -> list[uuid.UUID]:
    from django.db import connection

    conversation = Conversation.objects.create()
    for _number in range(count):
        Message.objects.create(conversation=conversation, role="assistant")
    made = Generation.objects.bulk_create(Generation(message=message) for message in Message.objects.all())
    GenerationChunk.objects.bulk_create(
        GenerationChunk(id=key, generation=each, position=4, kind="content", text="text")
        for key, each in enumerate(made, 1)
    )
    connection.close()
    return [each.pk for each in made]


class Layer:
    """A channel layer of which one channel is full and one has a bad name."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self.listening: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, channel: str, _message: Any) -> None:
        if "full" in channel:
            raise ChannelFull()
        if "bad" in channel:
            raise TypeError("no valid name")
        self.sent.put_nowait(channel)

    async def receive(self, channel: str) -> Any:
        self.listening.put_nowait(channel)
        await asyncio.Event().wait()


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Layer:
    found = Layer()
    monkeypatch.setattr(hints, "layer_between_processes", lambda: found)
    return found


def _hints(address: Any) -> hints.Hints:
    return hints.Hints(
        address=address,
        on_stop=lambda _id: None,
        on_news=lambda: None,
        on_change=lambda _subject: None,
        makes=lambda _id: True,
    )


async def test_a_full_channel_and_a_bad_one_cost_their_own_hints_alone(
    layer: Layer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "RECONNECT_PAUSE", 60.0)
    ours = _hints(lambda: "here")
    for channel in ("a", "full", "b", "bad", "c"):
        ours._send(channel, hints.STOP, uuid.uuid4())
    task = asyncio.ensure_future(ours.send_forever())
    async with asyncio.timeout(20):
        assert [await layer.sent.get() for _hint in range(3)] == ["a", "b", "c"]
        ours._send("d", hints.STOP, uuid.uuid4())
        assert await layer.sent.get() == "d"
    task.cancel()


async def test_who_has_another_address_listens_there(layer: Layer) -> None:
    address = ["old"]
    ours = _hints(lambda: address[0])
    task = asyncio.ensure_future(ours.receive_forever())
    async with asyncio.timeout(5):
        assert await layer.listening.get() == "old"
        address[0] = "new"
        ours.moved()
        assert await layer.listening.get() == "new"
    task.cancel()

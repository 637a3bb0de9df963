"""What an outage, others or its own end leave to an engine: every answer ends, none begins, nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from conversations.database import db
from conversations.engine import ends as engine_ends
from conversations.engine import engines, workers
from conversations.engine.events import AnswerIds, Ending
from conversations.engine.hints import FOLLOW
from conversations.engine.maintenance import Maintenance, guarded
from conversations.engine.reader import Reader, open_reader
from conversations.engine.storage import finish
from conversations.engine.supervisor import Supervisor
from conversations.engine.transcript import Transcript
from conversations.engine.workers import Heartbeat
from conversations.exceptions import ShuttingDown
from conversations.models import Conversation, Generation, Worker
from tests.upstream import ScriptedUpstream, answer

from .helpers import flat
from .test_engine import events_of, row, start


async def test_an_engine_that_has_ended_begins_no_answer_and_is_not_ready(
    model: ScriptedUpstream, engine: Supervisor
) -> None:
    """Connections close a moment after the answers have ended, and somebody may still ask on one."""
    await events_of(await start())
    await engines.shutdown()
    with pytest.raises(ShuttingDown):
        await start()
    assert engines.current().leaving
    assert not await db.read(Worker.objects.exists)
    await engines.startup()  # of another server, in the same loop
    assert (await events_of(await start()))[-1].ending.status == "completed"


async def test_an_answer_whose_begin_was_committed_unheard_ends(
    model: ScriptedUpstream, engine: Supervisor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "BEAT_INTERVAL": 0.05}
    model.default = answer("text", gate="g", gate_at=1)  # type: ignore[assignment]
    made = await start("made")
    with monkeypatch.context() as patch:
        real = BaseDatabaseWrapper._commit

        def unheard(self: BaseDatabaseWrapper) -> None:
            real(self)
            if self.run_on_commit:  # only the begin of an answer has something to do then
                raise OperationalError("the connection is gone")

        patch.setattr(BaseDatabaseWrapper, "_commit", unheard)
        with pytest.raises(OperationalError):
            await start("unheard")
    unmade = await db.read(Generation.objects.exclude(pk=made.generation_id).get)
    assert unmade.worker_id == engine.heartbeat.worker_id
    async with asyncio.timeout(10):
        events = await flat((await open_reader(unmade.pk)).batches())
    assert events[-1].ending.status == "interrupted"
    assert (await row(made)).is_running
    model.gate("g").open()
    assert (await events_of(made))[-1].ending.status == "completed"


@pytest.mark.skipif("connections['default'].vendor == 'sqlite'", reason="locks no rows")
async def test_an_end_in_a_conversation_that_somebody_holds_locked_holds_up_nobody(
    model: ScriptedUpstream, engine: Supervisor
) -> None:
    model.default = answer("text", gate="g", gate_at=1)  # type: ignore[assignment]
    ids = [await start("one"), await start("other")]
    held, may_go = threading.Event(), threading.Event()
    holding = asyncio.create_task(asyncio.to_thread(_hold, ids[0].session_id, held, may_go))
    await asyncio.to_thread(held.wait, 10)
    try:
        model.gate("g").open()
        async with asyncio.timeout(5):
            ends = [(await events_of(each))[-1].ending.status for each in ids]
    finally:
        may_go.set()
        await holding
    assert ends == ["completed", "completed"]


def _hold(session_id: uuid.UUID, held: threading.Event, may_go: threading.Event) -> None:
    with closing(connections["default"]), transaction.atomic():
        Conversation.objects.select_for_update().get(session_id=session_id)
        held.set()
        may_go.wait(30)


async def test_an_end_that_the_database_refuses_keeps_no_other_from_being_written_down(
    model: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.default = answer("text", gate="g", gate_at=1)  # type: ignore[assignment]
    bad, good = await start("bad"), await start("good")
    real = engine_ends._fill.run

    def refuse(**values: Any) -> int:
        if values["id"] == bad.message_id:
            raise ValueError("refused")
        return real(**values)

    monkeypatch.setattr(engine_ends._fill, "run", refuse)
    for ids in (bad, good):
        engine.log._give_up(engine.runs[ids.generation_id])
    await asyncio.gather(*engine._producers)
    async with asyncio.timeout(10):
        assert (await events_of(good))[-1].ending.status == "failed"
    assert (await row(bad)).is_running


async def test_followers_of_an_answer_that_others_ended_are_forgotten(
    model: ScriptedUpstream, engine: Supervisor
) -> None:
    model.default = answer("text", gate="g", gate_at=1)  # type: ignore[assignment]
    ids = await start()
    engine.hints._received({"type": FOLLOW, "key": str(ids.generation_id), "reply_to": "another process"})
    assert engine.hints._followers
    await db.write(finish, ids.generation_id, Ending("stopped"))
    assert (await events_of(ids))[-1].ending.status == "stopped"
    await asyncio.gather(*engine._producers)
    assert not engine.hints._followers


async def test_a_reader_at_the_place_in_memory_of_one_that_was_dropped_keeps_its_own() -> None:
    abandoned: list[None] = []
    ids = AnswerIds(uuid.uuid4(), uuid.uuid4(), 1)
    transcript = Transcript(ids, on_abandoned=lambda: abandoned.append(None))
    addresses = set[int]()
    for _try in range(100):
        reader = Reader(transcript, 0)
        if id(reader) in addresses:
            break
        addresses.add(id(reader))
        del reader
        gc.collect()
    else:
        pytest.fail("no address came twice")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not abandoned


async def test_a_new_id_is_told_of_also_where_the_beat_that_took_it_failed(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat, told = Heartbeat(beats=1), []
    maintenance = Maintenance(
        heartbeat, on_new_id=lambda: told.append(heartbeat.worker_id), makes=lambda _generation_id: False
    )
    with monkeypatch.context() as patch:
        patch.setattr(workers, "ensure_registered", _fail)
        assert not await guarded(maintenance._beat())
    await db.write(workers.ensure_registered, heartbeat)  # as whatever begins an answer does
    await maintenance._beat()
    assert told == [heartbeat.worker_id]


def _fail(_worker_id: uuid.UUID) -> None:
    raise OperationalError("gone")

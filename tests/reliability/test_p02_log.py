"""The chunk log where several things happen at once: nothing lost, nothing twice, nobody else's."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine import chunk_log as chunk_log
from conversations.engine import storage
from conversations.engine.completions import ContentDelta
from conversations.engine.ends import Entry
from conversations.engine.events import AnswerIds, Piece
from conversations.engine.progress import load
from conversations.engine.reader import open_reader
from conversations.engine.storage import INTERRUPTED_ENDING, finish, store
from conversations.engine.supervisor import Supervisor
from conversations.models import GenerationChunk, Message
from tests.conversations.helpers import flat
from tests.conversations.log_rows import entry
from tests.upstream import ScriptedUpstream, answer

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(autouse=True)
def _scripted(upstream: ScriptedUpstream, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted", "MAX_RETRIES": 0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}


async def start(message: str) -> AnswerIds:
    return await db.write(services.start_reply, caller=Caller(sees_all=True), message=message)


async def told(ids: AnswerIds) -> tuple[str, Any, list[Any]]:
    """Return the text, the end and the errors that a reader gets."""
    events = await flat((await open_reader(ids.generation_id)).batches())
    text = "".join(event.text for event in events if isinstance(event, Piece))
    return text, events[-1].ending, events[:-1]


def stored_text(ids: AnswerIds) -> str:
    return Message.objects.values_list("content", flat=True).get(pk=ids.message_id)


async def test_p2_an_error_in_one_answers_rows_loses_no_others_text_of_the_same_batch(
    upstream: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []

    def refuse(rows: Any) -> None:
        rows = list(rows)
        together.append(len({row["generation_id"] for row in rows}))
        if any("poison" in row["text"] for row in rows):
            raise ValueError("refused")
        real(rows)

    real = storage._insert_chunks.run
    monkeypatch.setattr(storage._insert_chunks, "run", refuse)
    upstream.default = answer("end", gate="end", gate_at="headers")
    answers = {name: await start(name) for name in ("bad", "good", "better")}
    runs = {name: engine.runs[ids.generation_id] for name, ids in answers.items()}
    for name, run in runs.items():  # no await between: one batch
        engine.log.append(run, ContentDelta("poison" if name == "bad" else f"{name} text, "))
    await runs["bad"].finished.wait()
    upstream.gate("end").open()

    assert max(together) == 3, "the three were in one batch"
    for name in ("good", "better"):
        text, ending, _errors = await told(answers[name])
        assert (text, ending.status) == (f"{name} text, end", "completed")
        assert await db.read(stored_text, answers[name]) == text
    text, ending, _errors = await told(answers["bad"])
    assert (text, ending.status, ending.error_code) == ("", "failed", "storage_failed")


async def test_p2_what_a_batch_and_a_look_into_the_database_both_bring_is_shown_once(
    upstream: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends an answer right after a commit, and its owner notices before it hears of the commit."""
    looked = threading.Event()
    loop = asyncio.get_running_loop()

    def store_slowly(entries: Any, **options: Any) -> Any:
        running = store(entries, **options)
        if any(each.pieces for each in entries):
            finish(entries[0].generation_id, INTERRUPTED_ENDING)
            assert looked.wait(10)
        return running

    def load_slowly(positions: Any) -> Any:
        found = load(positions)
        looked.set()
        # Return when the log has shown its batch: the loop runs this after it.
        asyncio.run_coroutine_threadsafe(shown(), loop).result(10)
        return found

    async def shown() -> None:
        if not run.transcript.position:
            await run.transcript.wait(10)

    monkeypatch.setattr(chunk_log, "store", store_slowly)
    monkeypatch.setattr(chunk_log, "load", load_slowly)
    upstream.script = [answer("once", stall=1)]
    ids = await start("hello")
    run = engine.runs[ids.generation_id]
    text, ending, _errors = await told(ids)
    assert (text, ending.status) == ("once", "interrupted")
    assert await db.read(stored_text, ids) == "once"
    assert "".join(piece.text for piece in run.transcript.pieces) == "once"


async def test_p2_an_end_that_is_committed_is_told_without_another_look(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits an end knows it: readers are not told of a failure because the database cannot be read."""

    def refuse(_positions: Any) -> Any:
        raise OperationalError("nothing can be read")

    monkeypatch.setattr(chunk_log, "load", refuse)
    upstream.script = [answer("one, ", "two", reasoning=["well, "], gate="rest", gate_at=2)]
    ids = await start("hello")
    upstream.gate("rest").open()
    text, ending, _errors = await told(ids)
    assert (text, ending.status) == ("well, one, two", "completed")
    assert await db.read(stored_text, ids) == "one, two"


@pytest.mark.parametrize("batch", ["text", "end"])
async def test_p2_a_batch_whose_commit_nobody_heard_of_is_written_once(
    upstream: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    """The connection is lost after COMMIT and before its answer: what is tried again is there already."""
    storing: list[int] = []
    lost: list[str] = []

    def store_and_lose(entries: Any, **options: Any) -> Any:
        [entry] = entries
        if not lost and (entry.ending if batch == "end" else entry.pieces):
            storing.append(threading.get_ident())
        return store(entries, **options)

    def commit(wrapper: BaseDatabaseWrapper) -> None:
        really_commit(wrapper)  # type: ignore[no-untyped-call]
        if storing == [threading.get_ident()]:
            lost.append(batch)
            storing.clear()
            wrapper.errors_occurred = True  # as where the driver raises
            raise OperationalError("the connection was lost")

    really_commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    monkeypatch.setattr(chunk_log, "store", store_and_lose)
    monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit)
    upstream.script = [answer("one, ", "two, ", "three", reasoning=["well, "], gate="rest", gate_at=2)]
    ids = await start("hello")
    run = engine.runs[ids.generation_id]
    while not run.transcript.position and not run.finished.is_set():
        await run.transcript.wait(10)
    upstream.gate("rest").open()
    text, ending, _errors = await told(ids)
    assert lost == [batch]
    assert (text, ending.status) == ("well, one, two, three", "completed")
    assert await db.read(stored_text, ids) == "one, two, three"


async def test_p2_a_batch_that_is_tried_again_is_stored_once_and_whole(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("never", gate="never", gate_at="headers")]
    generation_id = (await start("hello")).generation_id
    pieces = [Piece(5, "content", "one, "), Piece(9, "content", "two.")]
    half, whole = (entry(generation_id, *pieces[:1]), entry(generation_id, *pieces))
    whole.first_key = half.first_key
    await db.log(store, [half])
    for _try in range(2):
        await db.log(store, [whole], again=True)
        stored = await db.read(lambda: list(GenerationChunk.objects.order_by("pk").values_list("text", flat=True)))
        assert stored == ["one, ", "two."]


async def test_p2_two_texts_never_share_a_row(upstream: ScriptedUpstream) -> None:
    """The keys of two workers can only be equal by a fault: the later text is refused, not taken for stored."""
    upstream.script = [answer("never", gate="never", gate_at="headers")] * 2
    first, second = [(await start("hello")).generation_id for _answer in range(2)]
    ours = entry(first, Piece(5, "content", "ours!"))
    await db.log(store, [ours])
    with pytest.raises(IntegrityError):
        await db.log(store, [Entry(second, ours.pieces, ours.first_key)], again=True)
    assert await db.read(lambda: [chunk.generation_id for chunk in GenerationChunk.objects.all()]) == [first]

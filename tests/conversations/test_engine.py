"""The engine by itself: started, read, stopped, ended by others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine import chunk_log as log_module
from conversations.engine import completions, ends, engines, storage, workers
from conversations.engine.completions import (
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    Flowing,
    ToolCallDelta,
)
from conversations.engine.events import AnswerIds, DoneEvent, Ending, ErrorEvent, Piece
from conversations.engine.producer import Plan
from conversations.engine.reader import open_reader
from conversations.engine.run import MAX_PENDING, Run
from conversations.engine.storage import finish
from conversations.engine.supervisor import Supervisor
from conversations.engine.workers import Heartbeat
from conversations.exceptions import InvalidPosition, NotFound, ReplyInProgress, ShuttingDown
from conversations.models import Generation, GenerationChunk, Message, Worker
from tests.upstream import ScriptedUpstream, answer, status

from .helpers import flat
from .log_rows import chunk, entry, running

EVERYONE = Caller(sees_all=True)
pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(autouse=True)
def _scripted(upstream: ScriptedUpstream, settings: Any) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted", "MAX_RETRIES": 0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}


async def start(message: str = "hello", **options: Any) -> AnswerIds:
    return await db.write(services.start_reply, caller=EVERYONE, message=message, **options)


async def events_of(ids: AnswerIds, after: int = 0) -> list[Any]:
    return await flat((await open_reader(ids.generation_id, after)).batches())


async def row(ids: AnswerIds) -> Generation:
    return await db.read(Generation.objects.select_related("message").get, pk=ids.generation_id)


async def test_an_answer_is_streamed_and_folded_into_its_message(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("Hel", "lo ", "你好", reasoning=["thinking"])]
    ids = await start()
    events = await events_of(ids)
    assert "".join(e.text for e in events if isinstance(e, Piece) and e.kind == "content") == "Hello 你好"
    assert events[-1].position == len("thinkingHello 你好")
    generation = await row(ids)
    assert (generation.message.reasoning, generation.message.content) == ("thinking", "Hello 你好")
    assert (generation.status, generation.finish_reason, generation.active_for_id) == ("completed", "stop", None)
    assert generation.first_token_at is not None
    assert generation.ended_at is not None
    assert not await db.read(GenerationChunk.objects.exists)


@pytest.mark.parametrize("thoughts", [["hm"], ["hm", " so"]])
async def test_it_is_known_when_the_first_thought_had_ended(upstream: ScriptedUpstream, thoughts: list[str]) -> None:
    upstream.script = [answer("a", "b", reasoning=thoughts, gate="g", gate_at=len(thoughts) + 1)]
    ids = await start()
    reader = await open_reader(ids.generation_id)
    batches = reader.batches()
    while not any(isinstance(event, Piece) and event.kind == "content" for event in await anext(batches)):
        pass
    said = timezone.now()
    upstream.gate("g").open()
    await flat(batches)
    generation = await row(ids)
    assert generation.reasoning_ended_at is not None
    assert generation.ended_at is not None
    assert generation.created_at < generation.reasoning_ended_at < said < generation.ended_at


async def test_a_thought_that_nothing_followed_ended_with_its_answer(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(reasoning=["hm"], stall=1)]
    ids = await start()
    reader = await open_reader(ids.generation_id)
    batches = reader.batches()
    while not any(isinstance(event, Piece) for event in await anext(batches)):
        pass
    thought = timezone.now()
    await engines.current().stop(ids.generation_id)
    await flat(batches)
    generation = await row(ids)
    assert generation.reasoning_ended_at is not None
    assert generation.reasoning_ended_at > thought


async def test_text_is_in_the_database_before_a_reader_sees_it(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", "b", "c", gate="g", gate_at=1)]
    ids = await start()
    reader = await open_reader(ids.generation_id)
    seen = ""
    async for batch in reader.batches():
        for event in batch:
            if isinstance(event, Piece):
                seen += event.text
                stored = await db.read(
                    lambda: (
                        "".join(GenerationChunk.objects.order_by("position").values_list("text", flat=True))
                        + Message.objects.get(pk=ids.message_id).content
                    )
                )
                assert stored.startswith(seen)
                upstream.gate("g").open()
    assert seen == "abc"


async def test_two_readers_get_equal_events(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(*"abcdefgh", delay=0.002)]
    ids = await start()
    first, second = await asyncio.gather(events_of(ids), events_of(ids))
    assert first == second


@pytest.mark.parametrize("after", range(12))
async def test_resume_gives_exactly_the_rest_of_a_finished_answer(upstream: ScriptedUpstream, after: int) -> None:
    upstream.script = [answer("answer", reasoning=["think"])]
    ids = await start()
    await events_of(ids)
    events = await events_of(ids, after)
    assert "".join(event.text for event in events if isinstance(event, Piece)) == "thinkanswer"[after:]
    assert isinstance(events[-1], DoneEvent)


async def test_a_position_beyond_the_text_is_refused(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("abc")]
    ids = await start()
    await events_of(ids)
    with pytest.raises(InvalidPosition):
        await open_reader(ids.generation_id, 4)


async def test_an_unknown_answer_is_not_found() -> None:
    with pytest.raises(NotFound):
        await open_reader(uuid.uuid4())


async def test_stop_while_the_upstream_is_silent_keeps_the_text(
    upstream: ScriptedUpstream, engine: Supervisor
) -> None:
    upstream.script = [answer("kept", "never", gate="g", gate_at=1)]
    ids = await start()
    reader = await open_reader(ids.generation_id)
    batches = reader.batches()
    assert (await anext(batches))[0].text == "kept"
    await engine.stop(ids.generation_id)
    await engine.stop(ids.generation_id)  # idempotent
    assert [event.ending.status async for batch in batches for event in batch] == ["stopped"]
    generation = await row(ids)
    assert (generation.status, generation.message.content) == ("stopped", "kept")
    await upstream.closed_by_client()


async def test_a_second_message_while_answering_is_refused(upstream: ScriptedUpstream, engine: Supervisor) -> None:
    upstream.script = [answer("a", gate="g")]
    ids = await start()
    with pytest.raises(ReplyInProgress):
        await start(session_id=ids.session_id)
    assert await db.read(Message.objects.count) == 2
    upstream.gate("g").open()
    await events_of(ids)
    await events_of(await start(session_id=ids.session_id))


async def test_of_simultaneous_messages_to_one_conversation_one_is_answered(upstream: ScriptedUpstream) -> None:
    conversation = await db.write(services.create_conversation, caller=EVERYONE)
    upstream.default = answer("a", gate="g")
    results = await asyncio.gather(
        *(start(session_id=conversation.session_id) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, AnswerIds) for result in results) == 1
    assert sum(isinstance(result, ReplyInProgress) for result in results) == 9
    upstream.gate("g").open()


async def test_an_upstream_error_is_typed_and_keeps_what_came(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("partial ", "text", "never", cut=2)]
    ids = await start()
    *pieces, error, done = await events_of(ids)
    assert "".join(piece.text for piece in pieces) == "partial text"
    assert isinstance(error, ErrorEvent)
    assert error.code == "upstream_protocol"
    assert done.ending.status == "failed"
    generation = await row(ids)
    assert (generation.message.content, generation.error_code) == ("partial text", "upstream_protocol")


async def test_an_answer_that_says_nothing_fails_and_keeps_what_is_known(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(reasoning=["hm"], finish="length")]
    ids = await start()
    *_thoughts, error, done = await events_of(ids)
    assert isinstance(error, ErrorEvent)
    assert (error.code, done.ending.status, done.ending.finish_reason) == ("empty_answer", "failed", "length")
    assert "max_tokens" in error.message
    generation = await row(ids)
    assert (generation.message.reasoning, generation.message.content) == ("hm", "")
    assert (generation.finish_reason, generation.usage) == ("length", done.ending.usage)
    assert generation.usage is not None


async def test_a_reader_that_leaves_does_not_end_the_answer(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("one ", "two ", "three", gate="g", gate_at=1)]
    ids = await start()
    batches = (await open_reader(ids.generation_id)).batches()
    await anext(batches)
    await batches.aclose()
    upstream.gate("g").open()
    await events_of(ids)
    assert (await row(ids)).message.content == "one two three"


async def test_the_last_reader_that_leaves_stops_the_answer_if_so_set(
    upstream: ScriptedUpstream, engine: Supervisor, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "ON_DISCONNECT": "cancel"}
    upstream.script = [answer("one ", "two ", gate="g", gate_at=1)]
    ids = await start()
    first, second = [(await open_reader(ids.generation_id)).batches() for _ in range(2)]
    await asyncio.gather(anext(first), anext(second))
    await first.aclose()
    run = engine.runs[ids.generation_id]
    assert run.requested_ending is None
    await second.aclose()
    await upstream.closed_by_client()
    await run.finished.wait()
    assert ((await row(ids)).status, (await row(ids)).message.content) == ("stopped", "one ")


async def test_an_answer_that_another_process_ended_gets_nothing_more(
    upstream: ScriptedUpstream, engine: Supervisor
) -> None:
    upstream.script = [answer("before ", "after", gate="g", gate_at=1)]
    ids = await start()
    reader = (await open_reader(ids.generation_id)).batches()
    await anext(reader)
    assert await db.write(finish, ids.generation_id, Ending("interrupted"))
    upstream.gate("g").open()
    assert [event.ending.status async for batch in reader for event in batch] == ["interrupted"]
    await asyncio.sleep(0)
    generation = await row(ids)
    assert (generation.status, generation.message.content) == ("interrupted", "before ")
    assert not await db.read(GenerationChunk.objects.exists)


async def test_a_batch_adds_nothing_to_an_answer_that_has_ended(upstream: ScriptedUpstream) -> None:
    """Of a process that stood still, and does not know yet that it was given up."""
    upstream.script = [answer("before ", gate="g", gate_at=1)]
    ids = await start()
    await anext((await open_reader(ids.generation_id)).batches())
    await db.write(finish, ids.generation_id, Ending("interrupted"))
    late = entry(ids.generation_id, Piece(12, "content", "after"))
    assert await db.log(storage.store, [late]) == set()
    assert not await db.read(GenerationChunk.objects.exists)


async def test_the_owner_notices_a_stop_elsewhere_while_the_upstream_is_silent(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", gate="g", gate_at=1)]
    ids = await start()
    await anext((await open_reader(ids.generation_id)).batches())
    await db.write(finish, ids.generation_id, Ending("stopped"))
    await upstream.closed_by_client()


async def test_only_one_end_counts(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a")]
    ids = await start()
    await events_of(ids)
    assert not await db.write(finish, ids.generation_id, Ending("stopped"))
    assert (await row(ids)).status == "completed"


async def test_a_failing_row_loses_no_other_answers_text(
    upstream: ScriptedUpstream, engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer's batch is refused by the database for its own rows; the other goes on."""
    real = storage._insert_chunks.run

    def refuse(rows: Any) -> None:
        rows = list(rows)
        if any("poison" in row["text"] for row in rows):
            raise ValueError("refused")
        real(rows)

    monkeypatch.setattr(storage._insert_chunks, "run", refuse)
    upstream.default = lambda request: (  # type: ignore[assignment]
        answer("poison", "rest", gate="g", gate_at=1)
        if "bad" in str(request.body)
        else answer("fine", " text", gate="g", gate_at=1)
    )
    bad = await start("bad")
    run = engine.runs[bad.generation_id]
    good = await start("good")
    results = asyncio.gather(events_of(bad), events_of(good))
    await run.finished.wait()  # an answer that came whole would have no rows of its own
    upstream.gate("g").open()
    of_bad, of_good = await results
    assert "".join(e.text for e in of_good if isinstance(e, Piece)) == "fine text"
    assert of_bad[-2].code == "storage_failed"


async def test_a_dead_workers_answers_are_interrupted_with_their_text(engine: Supervisor) -> None:
    ids = await db.write(_orphaned_answer)
    heartbeat = Heartbeat()
    for _beat in range(4):
        for dead in await db.beat(workers.beat, heartbeat):
            await db.background(workers.give_up, dead)
        await db.write(lambda: Worker.objects.exclude(host="elsewhere").exclude(pk=heartbeat.worker_id).delete())
    generation = await db.read(Generation.objects.select_related("message").get, pk=ids)
    assert (generation.status, generation.message.content) == ("interrupted", "half an")
    assert not await db.read(Worker.objects.filter(host="elsewhere").exists)


async def test_a_living_workers_answers_are_left_alone(engine: Supervisor) -> None:
    ids = await db.write(_orphaned_answer)
    heartbeat, other = Heartbeat(), await db.read(lambda: Worker.objects.get(host="elsewhere").pk)
    for beat in range(8):
        assert other not in await db.beat(workers.beat, heartbeat)
        await db.write(lambda beat=beat: Worker.objects.filter(pk=other).update(counter=100 + beat))  # type: ignore[misc]
    assert (await db.read(Generation.objects.get, pk=ids)).status == "running"


async def test_an_answer_whose_worker_has_no_row_is_interrupted(engine: Supervisor) -> None:
    ids = await db.write(_orphaned_answer)
    await db.write(lambda: Worker.objects.filter(host="elsewhere").delete())
    assert await db.background(workers.end_orphans) == 1
    assert (await db.read(Generation.objects.get, pk=ids)).status == "interrupted"


def _orphaned_answer() -> uuid.UUID:
    worker = Worker.objects.create(host="elsewhere", pid=1)
    generation = running(worker=worker)
    for position, text in ((4, "half"), (7, " an")):
        chunk(generation, position, text)
    return generation.pk


async def test_answers_of_another_process_are_followed(engine: Supervisor) -> None:
    generation_id = await db.write(_orphaned_answer)
    await db.write(lambda: Worker.objects.update(counter=1))
    batches = (await open_reader(generation_id, 2)).batches()
    assert "".join(piece.text for piece in await anext(batches)) == "lf an"
    await db.write(chunk, generation_id, 9, "sw")
    assert [piece.text for piece in await anext(batches)] == ["sw"]
    await db.write(finish, generation_id, Ending("completed", "stop"), tail=[Piece(11, "content", "er")])
    rest = [event async for batch in batches for event in batch]
    assert rest[0].text == "er"
    assert rest[-1].ending.status == "completed"


async def test_shutdown_ends_answers_as_interrupted_and_takes_no_more(
    upstream: ScriptedUpstream, engine: Supervisor
) -> None:
    upstream.script = [answer("so far", gate="g", gate_at=1)]
    ids = await start()
    batches = (await open_reader(ids.generation_id)).batches()
    await anext(batches)
    await engine.shutdown()
    assert [event.ending.status async for batch in batches for event in batch] == ["interrupted"]
    assert ((await row(ids)).status, (await row(ids)).message.content) == ("interrupted", "so far")
    with pytest.raises(ShuttingDown):
        await start()
    assert not await db.read(Worker.objects.exists)


async def test_producers_do_not_share_the_context_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    marker: ContextVar[str] = ContextVar("marker", default="")
    seen: list[str] = []
    real = completions.stream

    def watched(endpoint: Endpoint, request: CompletionRequest, *more: Any) -> AsyncIterator[Delta]:
        seen.append(marker.get())
        return real(endpoint, request, *more)

    monkeypatch.setattr(completions, "stream", watched)
    marker.set("a request's")
    await events_of(await start())
    assert seen == [""]


class Text:
    """Text that flows: ``came`` is what was not taken yet."""

    def __init__(self) -> None:
        self.came: list[Delta] = []
        self.on_news: Callable[[], None] = lambda: None

    def take(self) -> list[Delta]:
        taken, self.came = self.came, []
        return taken


async def test_a_provider_that_waits_for_nothing_is_held_to_the_databases_pace(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of another package need not let its text flow."""
    ahead: list[int] = []
    text = "x" * 100_000

    async def flood(_endpoint: Endpoint, _request: CompletionRequest, *_more: Any) -> AsyncIterator[Delta]:
        for given in range(40):
            ahead.append(given * len(text) - next(iter(engine.runs.values())).transcript.position)
            yield ContentDelta(text)
        yield CompletionFinished("stop", None, "m")

    monkeypatch.setattr(completions, "stream", flood)
    ids = await start()
    assert (await events_of(ids))[-1].ending.status == "completed"
    assert len((await row(ids)).message.content) == 40 * len(text)
    # What is pending, and what the batch on its way has.
    assert max(ahead) <= 2 * (MAX_PENDING + len(text))


async def test_what_flows_is_taken_in_right_before_the_next_batch(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[dict[uuid.UUID, str]] = []

    def stored(entries: Sequence[ends.Entry], *, again: bool) -> set[uuid.UUID]:
        batches.append({e.generation_id: "".join(piece.text for piece in e.pieces) for e in entries})
        return {e.generation_id for e in entries}

    monkeypatch.setattr(log_module, "store", stored)
    one, other = (Run(AnswerIds(uuid.uuid4(), uuid.uuid4(), number)) for number in (1, 2))
    engine.ensure_started()
    log = engine.log

    log.append(one, ContentDelta("a"))
    text = Text()
    log.flows(one, text)
    await one.transcript.wait(5)
    text.came += [ContentDelta("c"), ContentDelta("d")]
    text.on_news()
    assert batches == [{one.ids.generation_id: "a"}], "the next batch is not due yet"
    log.append(other, ContentDelta("b"))
    await one.transcript.wait(5)
    assert batches == [{one.ids.generation_id: "a"}, {one.ids.generation_id: "cd", other.ids.generation_id: "b"}]


async def test_what_comes_while_a_batch_is_made_is_not_forgotten(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []

    def store(entries: Sequence[ends.Entry], *, again: bool) -> set[uuid.UUID]:
        stored.extend(piece.text for entry in entries for piece in entry.pieces)
        return {entry.generation_id for entry in entries}

    class Chatty(Text):
        """Something more comes right after it was looked for the first time."""

        def take(self) -> list[Delta]:
            taken = super().take()
            if taken == [ContentDelta("a")]:
                asyncio.get_running_loop().call_soon(self.say, "b")
            return taken

        def say(self, text: str) -> None:
            self.came.append(ContentDelta(text))
            self.on_news()

    monkeypatch.setattr(log_module, "store", store)
    run, text = Run(AnswerIds(uuid.uuid4(), uuid.uuid4(), 1)), Chatty()
    engine.ensure_started()
    engine.log.flows(run, text)
    text.say("a")
    async with asyncio.timeout(5):
        while "".join(stored) != "ab":
            await run.transcript.wait(5)


async def test_text_that_cannot_be_taken_in_is_its_answer_s_end_alone(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(
        _endpoint: Endpoint, _request: CompletionRequest, flows: Callable[[Flowing], None], *_more: Any
    ) -> AsyncIterator[Delta]:
        yield ContentDelta("so far")
        text = Text()
        flows(text)
        text.came += [ToolCallDelta(7, "", "", "arguments of a call that never began")]
        text.on_news()
        await asyncio.Event().wait()

    monkeypatch.setattr(completions, "stream", stream)
    ids = await start()
    *pieces, error, done = await events_of(ids)
    assert ("".join(piece.text for piece in pieces), error.code, done.ending.status) == (
        "so far",
        "internal_error",
        "failed",
    )
    async with asyncio.timeout(5):
        await engine.log.turn()


async def test_no_text_follows_a_hole(engine: Supervisor, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider gave while the database refused is not stored after what was given up."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "STORAGE_TIMEOUT": 0.3}
    loop, refused, refusing = asyncio.get_running_loop(), asyncio.Event(), False
    real = storage.store

    def store(entries: Sequence[ends.Entry], *, again: bool = False) -> set[uuid.UUID]:
        if refusing:
            loop.call_soon_threadsafe(refused.set)
            raise OperationalError("refused")
        return real(entries, again=again)

    async def stream(_endpoint: Endpoint, _request: CompletionRequest, *_more: Any) -> AsyncIterator[Delta]:
        nonlocal refusing
        yield ContentDelta("kept ")
        [run] = engine.runs.values()
        await run.transcript.wait(5)
        refusing = True
        yield ContentDelta("lost ")
        await refused.wait()
        yield ContentDelta("late")
        await asyncio.Event().wait()

    monkeypatch.setattr(log_module, "store", store)
    monkeypatch.setattr(completions, "stream", stream)
    ids = await start()
    events = await events_of(ids)
    refusing = False
    assert (events[-2].code, "".join(e.text for e in events if isinstance(e, Piece))) == ("storage_failed", "kept ")
    async with asyncio.timeout(10):
        while (await row(ids)).status == "running":  # noqa: ASYNC110  (no event tells that an end was written late)
            await asyncio.sleep(0.02)
    assert (await row(ids)).message.content == "kept "


async def test_a_log_with_nothing_to_write_gives_turns_too(engine: Supervisor) -> None:
    engine.ensure_started()
    async with asyncio.timeout(5):
        for _ in range(2):
            await engine.log.turn()


async def test_a_prompt_that_the_upstream_finds_too_long_is_trimmed_once(upstream: ScriptedUpstream) -> None:
    first = await start("first question")
    await events_of(first)
    too_long = status(400, {"error": {"message": "maximum context length is 10", "code": "context_length_exceeded"}})
    upstream.script = [too_long, answer("fits")]
    ids = await start("second question", session_id=first.session_id)
    events = await events_of(ids)
    assert events[-1].ending.status == "completed"
    sent = [request.body["messages"] for request in upstream.requests[-2:]]
    assert [len(messages) for messages in sent] == [3, 1]
    assert sent[1][0]["content"] == "second question"


async def test_starting_an_answer_outside_of_a_job_says_what_to_do(engine: Supervisor) -> None:
    with pytest.raises(RuntimeError, match=r"db\.write"):
        engines.worker_for_job()


async def test_a_stop_that_comes_before_the_producer_began_ends_the_answer(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(engines, "launch_from_job", plans.append)
    ids = await start("hello")
    engine.launch(plans[0], asyncio.current_task())
    async with asyncio.timeout(10):
        await engine.stop(ids.generation_id)  # in the same turn of the loop
        events = await events_of(ids)
    assert events[-1].ending.status == "stopped"
    await asyncio.gather(*engine._producers)
    assert not engine.runs

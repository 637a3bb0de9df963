"""A thought that came as the answer, as its opening tag was in the prompt: what is stored, sent on and said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from conversations.database import db
from conversations.engine import completions
from conversations.engine.completions import ContentDelta, Delta, ThoughtSoFar
from conversations.engine.events import Ending, Piece
from conversations.engine.reader import open_reader
from conversations.engine.storage import finish, store
from conversations.engine.supervisor import Supervisor
from conversations.models import GenerationChunk, Message
from llmproviders.models import Preset
from tests.conftest import Server
from tests.reliability.truth import consistent, split
from tests.upstream import ScriptedUpstream, answer

from .helpers import Socket, chat, stream, streaming, whole_chat
from .log_rows import entry
from .test_engine import _scripted as _scripted  # the engine's own upstream
from .test_engine import events_of, row, start

PIECES = ("I ", "think.\n", "</think>", "\n\nHi", " there.")
THOUGHT, ANSWER = "I think.\n", "Hi there."


@pytest.fixture
def thinking(model: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """A model whose template opens the thought."""
    model.script = [answer(*PIECES, gate="thought", gate_at=2), answer("fine")]
    yield model
    model.gate("thought").open()


def history(client: httpx.Client, session_id: str) -> dict[str, Any]:
    message: dict[str, Any] = client.get(f"/conversations/{session_id}/history").json()["messages"][-1]
    return message


def test_a_stream_shows_it_and_its_end_says_what_it_was(client: httpx.Client, thinking: ScriptedUpstream) -> None:
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (live, blocks):
        while live.text != "I think.\n":
            next(blocks)
        thinking.gate("thought").open()
        list(blocks)
    assert (live.reasoning, live.text, live.done["reasoning_chars"]) == ("", THOUGHT + ANSWER, len(THOUGHT))
    assert split(live.events, 0) == (THOUGHT, ANSWER)
    told = consistent(client, live)
    assert (told.reasoning, told.text) == (THOUGHT, ANSWER)
    again = stream(client, "GET", f"/generations/{told.generation_id}/stream")
    assert (again.reasoning, again.text) == (THOUGHT, ANSWER), "who reads it later is told at once"


def test_what_is_sent_on_is_the_answer(client: httpx.Client, thinking: ScriptedUpstream) -> None:
    thinking.gate("thought").open()
    first = chat(client, "hi").done
    chat(client, "and?", session_id=first["session_id"])
    assert [message["content"] for message in thinking.requests[-1].body["messages"]] == ["hi", ANSWER, "and?"]


def test_a_whole_answer_is_the_answer(client: httpx.Client, thinking: ScriptedUpstream) -> None:
    thinking.gate("thought").open()
    body = whole_chat(client, "hi").json()
    assert body["assistant_reply"] == ANSWER
    assert history(client, body["session_id"])["reasoning"] == THOUGHT


@pytest.mark.parametrize("position", range(len(THOUGHT + ANSWER) + 1))
def test_who_resumes_anywhere_hears_the_rest(client: httpx.Client, thinking: ScriptedUpstream, position: int) -> None:
    thinking.gate("thought").open()
    done = chat(client, "hi").done
    rest = stream(client, "GET", f"/generations/{done['generation_id']}/stream?after={position}")
    assert rest.reasoning + rest.text == (THOUGHT + ANSWER)[position:]
    assert rest.done == done


def test_over_the_socket_as_over_sse(server: Server, client: httpx.Client, thinking: ScriptedUpstream) -> None:
    with connect(server.ws_url, proxy=None) as connection:
        socket = Socket(connection)
        socket.send(type="chat", id="x", message="hi")
        frames = [socket.get()]
        while frames[-1].get("position") != len(THOUGHT):
            frames.append(socket.get())
        thinking.gate("thought").open()
        frames += socket.reply("x")
    told = consistent(client, frames[1:])
    assert (told.reasoning, told.text) == (THOUGHT, ANSWER)


def test_of_a_preset_that_thinks_first_nothing_is_mistaken(client: httpx.Client, thinking: ScriptedUpstream) -> None:
    Preset.objects.create(type="qwq", name="QwQ", api_url=thinking.url, model="m", thinks_first=True)
    thinking.gate("thought").open()
    live = chat(client, "hi", model_type="qwq")
    assert (live.reasoning, live.text, live.done["reasoning_chars"]) == (THOUGHT, ANSWER, len(THOUGHT))


def stored() -> list[tuple[str, str]]:
    return list(GenerationChunk.objects.order_by("position").values_list("kind", "text"))


@pytest.fixture
def shown_first(engine: Supervisor, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """A model whose thought is stored and shown before its end is known; set as soon as that was told to the log."""
    told = asyncio.Event()

    async def think(*_asked: Any) -> AsyncIterator[Delta]:
        [run] = engine.runs.values()
        yield ContentDelta("hm so\n")
        while not run.transcript.position:
            await run.transcript.wait(5)
        yield ThoughtSoFar()
        told.set()
        yield ContentDelta("H")
        await asyncio.Event().wait()

    monkeypatch.setattr(completions, "stream", think)
    return told


async def test_a_stop_after_the_tag_keeps_them_apart(engine: Supervisor, shown_first: asyncio.Event) -> None:
    ids = await start()
    await shown_first.wait()
    await engine.stop(ids.generation_id)
    message = (await row(ids)).message
    assert message.reasoning == "hm so\n"
    assert (await events_of(ids))[-1].reasoning_chars == len("hm so\n")


async def test_whoever_ends_it_elsewhere_finds_them_apart(engine: Supervisor, shown_first: asyncio.Event) -> None:
    """What the log holds is right as soon as it is known, before the answer has gone on."""
    ids = await start()
    kinds: list[str] = []
    reader = await open_reader(ids.generation_id)
    async for batch in reader.batches():
        kinds += [event.kind for event in batch if isinstance(event, Piece)]
        if isinstance(batch[-1], Piece) and batch[-1].position == len("hm so\nH"):
            rows = await db.read(stored)
            assert rows == [("reasoning", "hm so\n"), ("content", "H")]
            await db.write(finish, ids.generation_id, Ending("interrupted"))
    assert kinds == ["content", "content"], "it was shown as the answer"
    assert batch[-1].reasoning_chars == len("hm so\n")
    message = await db.read(Message.objects.get, pk=ids.message_id)
    assert (message.reasoning, message.content) == ("hm so\n", "H")


async def test_who_attaches_while_it_runs_is_told_at_once(engine: Supervisor, shown_first: asyncio.Event) -> None:
    ids = await start()
    reader = await open_reader(ids.generation_id)
    async for batch in reader.batches():
        if batch[-1].position == len("hm so\nH"):
            break
    late = await anext((await open_reader(ids.generation_id, 1)).batches())
    assert [(event.kind, event.text) for event in late] == [("reasoning", "m so\n"), ("content", "H")]


@pytest.mark.parametrize("again", [False, True])
async def test_a_commit_of_unknown_outcome_may_be_repeated(
    engine: Supervisor, shown_first: asyncio.Event, again: bool
) -> None:
    """Rows of the entry itself are not among what was thought before it."""
    ids = await start()
    await shown_first.wait()
    async for batch in (await open_reader(ids.generation_id)).batches():
        if batch[-1].position == len("hm so\nH"):
            break
    late = entry(ids.generation_id, Piece(8, "content", "i"), reasoning_up_to=len("hm so\n"))
    await db.log(store, [late])
    if again:
        await db.log(store, [late], again=True)
    rows = await db.read(stored)
    assert rows == [("reasoning", "hm so\n"), ("content", "H"), ("content", "i")]


async def test_nothing_but_a_thought_is_no_answer(engine: Supervisor, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("hm", "\n</think>")]
    ids = await start()
    events = await events_of(ids)
    assert (events[-2].code, events[-1].reasoning_chars) == ("empty_answer", 3)
    message = (await row(ids)).message
    assert (message.reasoning, message.content) == ("hm\n", "")

"""P3: resume has no gap, no double and the right order, wherever and how often the reader was cut."""

from __future__ import annotations

import asyncio
import gc
import json
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conversations.database import db
from conversations.engine import progress
from conversations.engine.events import COMPLETED, CONTENT, MAX_PIECE, DoneEvent, Ending, Piece
from conversations.engine.reader import MAX_BATCH, open_reader
from conversations.engine.storage import finish, store
from conversations.engine.supervisor import Supervisor
from conversations.exceptions import InvalidPosition
from conversations.models import Conversation, Generation, Message, Worker
from tests.conversations.helpers import chat, stream
from tests.conversations.log_rows import entry
from tests.upstream import answer, call

from .faults import TOOL
from .pair import Pair, running_pair
from .readers import script
from .reading import read_bytes, read_frames
from .sizes import is_full, size
from .truth import Heard, Part, consistent, events_of, heard, text_of

server_test = pytest.mark.server

# Whole characters, halves of astral ones, what some take for line ends, what no database takes.
CHARACTERS = st.sampled_from([*'ab c<>&\n\r"\\', "é", "你", "😀", "🏽", "\u200d", "\u2028", "\x85", "\0"])
HALVES = st.sampled_from(["\ud83d", "\ude00"])
TEXTS = st.lists(st.lists(CHARACTERS | HALVES, min_size=1, max_size=12).map("".join), max_size=12)


@dataclass(frozen=True)
class Leg:
    """One reading: at which process, over what, how far (bytes over SSE, else frames)."""

    process: int
    door: str
    limit: int


LEGS = st.lists(
    st.builds(
        Leg,
        process=st.integers(0, 1),
        door=st.sampled_from(["header", "query", "socket"]),
        limit=st.integers(0, 1500),
    ),
    max_size=4,
)
BETWEEN = settings(
    max_examples=size(10, 500),
    deadline=None,
    derandomize=not is_full(),
    database=None,
    suppress_health_check=list(HealthCheck),
)


def cleaned(pieces: Sequence[str]) -> str:
    """What readers see of an upstream's text."""
    text = "".join(pieces).replace("\0", "")
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@pytest.fixture(scope="module", params=[False, True], ids=["polling", "redis"])
def pair(request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with running_pair(migrated, tmp_path_factory.mktemp("resume"), redis=request.param) as pair:
        yield pair


class Reading:
    """One reader's way through an answer: legs in turn, each from where the last was cut, then to the end."""

    def __init__(self, pair: Pair, generation_id: str, legs: Sequence[Leg]) -> None:
        self._pair = pair
        self._url = f"/generations/{generation_id}/stream"
        self._generation_id = generation_id
        self._legs = legs
        self.parts: list[Part] = []

    @property
    def _position(self) -> int:
        return sum(len(text_of(event)) for part in self.parts for event in events_of(part))

    @property
    def _ended(self) -> bool:
        return any("done" in event for part in self.parts for event in events_of(part))

    def follow(self) -> list[Part]:
        for leg in [*self._legs, Leg(len(self._legs) % 2, "header", 10**9)]:
            if not self._ended:
                self.parts.append(self._read(leg))
        assert self._ended
        return self.parts

    def _read(self, leg: Leg) -> Part:
        if leg.door == "socket":
            frames = leg.limit // 100
            return read_frames(self._pair.servers[leg.process], self._generation_id, self._position, frames)
        options: dict[str, Any] = {"params": {"after": self._position}}
        if leg.door == "header":
            options = {"headers": {"Last-Event-ID": f"{self._generation_id}:{self._position}"}}
        part = read_bytes(self._pair.clients[leg.process], "GET", self._url, leg.limit, **options)
        assert part.status == 200
        return part


def told_to_both(pair: Pair, body: dict[str, Any], first: int, ways: Sequence[list[Leg]]) -> list[Heard]:
    """What the asker and another reader are told of an answer, each cut where its way says."""
    asked = read_bytes(pair.clients[0], "POST", "/chat", first, json=body)
    mine, other = (Reading(pair, asked.headers["x-generation-id"], legs) for legs in ways)
    mine.parts.append(asked)
    with ThreadPoolExecutor(2) as threads:
        return [consistent(pair.clients[1], *parts) for parts in threads.map(Reading.follow, (mine, other))]


@server_test
def test_p3_cut_and_resumed_anywhere_while_the_answer_runs(pair: Pair) -> None:
    """The asker and two readers more at the same time, each cut where hypothesis likes."""

    @BETWEEN
    @given(reasoning=TEXTS, content=TEXTS, first=st.integers(0, 3000), ways=st.tuples(LEGS, LEGS))
    def resumes(reasoning: list[str], content: list[str], first: int, ways: tuple[list[Leg], list[Leg]]) -> None:
        text = cleaned(content)
        # An answer that says nothing is none.
        expected = (cleaned(reasoning), text, "completed" if text.strip() else "failed")
        message = script(chunks=content, reasoning=reasoning, delay=0.004)
        for told in told_to_both(pair, {"message": message}, first, ways):
            assert (told.reasoning, told.text, told.status) == expected

    resumes()


# A part of an answer: what it is, and its text in pieces; of a call arguments, which are JSON.
WHOLE = st.lists(
    st.lists(CHARACTERS.filter(lambda each: each != "\0"), min_size=1, max_size=9).map("".join), min_size=1
)
ARGUMENTS = st.lists(st.text(alphabet='ab 你😀"{}\\', max_size=9), max_size=3).map(
    lambda said: _halved(json.dumps(said))
)
PARTS = st.lists(
    st.tuples(st.sampled_from(["reasoning_content", "content"]), WHOLE) | st.tuples(st.just("call"), ARGUMENTS)
)


def _halved(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _answered(parts: Sequence[tuple[str, list[str]]]) -> str:
    """What there is to read of the text: white space that comes before a thought is no part of an answer."""
    begin, rest = "", list(parts)
    while rest and rest[0][0] == "content":
        begin += "".join(rest.pop(0)[1])
    if rest and rest[0][0] == "reasoning_content" and begin.isspace():
        begin = ""
    return begin + "".join("".join(pieces) for kind, pieces in rest if kind == "content")


def _deltas(parts: Sequence[tuple[str, list[str]]]) -> list[Any]:
    deltas: list[Any] = []
    for number, (kind, pieces) in enumerate(parts):
        deltas += call(number, *pieces) if kind == "call" else [{kind: piece} for piece in pieces]
    return deltas


@server_test
def test_p3_in_the_middle_of_a_call_as_anywhere(pair: Pair) -> None:
    """Reasoning, text and calls of tools in any order: a reader that is cut in any of them gets exactly the rest."""

    @BETWEEN
    @given(parts=PARTS, first=st.integers(0, 3000), ways=st.tuples(LEGS, LEGS))
    @example(parts=[("content", ["\n"]), ("reasoning_content", ["a"])], first=0, ways=([], []))
    def resumes(parts: list[tuple[str, list[str]]], first: int, ways: tuple[list[Leg], list[Leg]]) -> None:
        reasoning = "".join("".join(pieces) for kind, pieces in parts if kind == "reasoning_content")
        text = _answered(parts)
        calls = tuple(
            (f"call_{number}", "look_up", "".join(pieces))
            for number, (kind, pieces) in enumerate(parts)
            if kind == "call"
        )
        status = "completed" if text.strip() or calls else "failed"
        message = script(chunks=[], deltas=_deltas(parts), delay=0.004)
        for told in told_to_both(pair, {"message": message, "tools": [TOOL]}, first, ways):
            assert (told.reasoning, told.text, told.calls, told.status) == (reasoning, text, calls, status)

    resumes()


@server_test
def test_p3_every_position_of_an_answer_with_calls(pair: Pair) -> None:
    parts = [("content", ["a😀"]), ("call", ['{"x"', ": 1}"]), ("reasoning_content", ["hm"]), ("call", [""])]
    asked = {"message": script(chunks=[], deltas=_deltas(parts)), "tools": [TOOL]}
    generation_id = stream(pair.clients[0], "POST", "/chat", json=asked).done["generation_id"]
    whole = ["a", "😀", *'{"x": 1}', "h", "m", *"{}"]
    for client in pair.clients:
        for after in range(len(whole) + 1):
            url = f"/generations/{generation_id}/stream"
            told = heard(stream(client, "GET", url, params={"after": after}), after=after)
            first, second = "".join(whole[2:10])[max(0, after - 2) :], "".join(whole[12:])[max(0, after - 12) :]
            # Whoever has a part of a call has its names.
            names = [
                ("call_1", "look_up") if after <= 2 else ("", ""),
                ("call_3", "look_up") if after <= 12 else ("", ""),
            ]
            expected = [(*name, said) for name, said in zip(names, (first, second), strict=True) if said]
            assert (told.text, list(told.calls)) == ("a😀"[after:], expected)


@server_test
def test_p3_cut_and_resumed_anywhere_after_the_end(pair: Pair) -> None:
    """Of an answer longer than an event and a batch may be; positions near those bounds as well."""
    text = "".join(f"{number}😀" for number in range(20_000))
    reasoning = "hm… 🏽" * 5_000
    pair.upstream.script = [answer(text[:70_000], text[70_000:], reasoning=[reasoning])]
    generation_id = chat(pair.clients[0], "a long one, please").done["generation_id"]
    whole = reasoning + text
    ends = (0, MAX_PIECE, MAX_BATCH, len(reasoning), len(reasoning) + MAX_PIECE, len(whole))
    bounds = [end + off for end in ends for off in (-1, 0, 1) if 0 <= end + off <= len(whole)]
    positions = st.integers(0, len(whole)) | st.sampled_from(bounds)

    @settings(BETWEEN, max_examples=size(12, 1000))
    @given(after=positions, process=st.integers(0, 1), door=st.sampled_from(["header", "query", "socket"]))
    def resumes(after: int, process: int, door: str) -> None:
        way = Reading(pair, generation_id, [])
        way.parts.append([{"chunk": whole[:after]}])
        part = way._read(Leg(process, door, 10**9))
        told = heard(part, after=after)
        assert told.reasoning + told.text == whole[after:]
        assert told.reasoning == reasoning[after:]

    resumes()


@server_test
def test_p3_every_position_of_a_short_answer(pair: Pair) -> None:
    reasoning, text = "th😀nk", "an\u2028swer 👩\u200d👧"
    generation_id = chat(pair.clients[0], script(chunks=[*text], reasoning=[*reasoning])).done["generation_id"]
    url = f"/generations/{generation_id}/stream"
    for client in pair.clients:
        for after in range(len(reasoning + text) + 1):
            told = heard(stream(client, "GET", url, params={"after": after}), after=after)
            assert (told.reasoning, told.text) == (reasoning[after:], text[max(after - len(reasoning), 0) :])
        assert client.get(url, headers={"Last-Event-ID": f"{generation_id}:end"}).status_code == 204
        for wrong in (f"{generation_id}:{len(reasoning + text) + 1}", f"{uuid.uuid4()}:1", "1", f"{generation_id}:-1"):
            refused = client.get(url, headers={"Last-Event-ID": wrong})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_position")


@server_test
def test_p3_readers_that_come_and_go_hinder_none(pair: Pair) -> None:
    """Many leave and come back at the process that does not make the answer; every one gets to the end."""
    count, cuts = size(8, 40), size(12, 60)
    gate = f"coming-and-going-{uuid.uuid4()}"
    text = [f"{number} " for number in range(cuts * 3)]
    message = script(chunks=text, delay=0.005, gate=gate, gate_at="finish")
    asked = read_bytes(pair.clients[0], "POST", "/chat", 400, json={"message": message})
    generation_id = asked.headers["x-generation-id"]

    def come_and_go(index: int) -> list[Part]:
        legs = [Leg(1, "header", 150 + 10 * index) for _ in range(cuts)]
        return Reading(pair, generation_id, legs).follow()

    with ThreadPoolExecutor(count) as threads:
        going = [threads.submit(come_and_go, index) for index in range(count)]
        pair.upstream.wait_until(lambda: pair.upstream.gate(gate).reached, 30)
        pair.upstream.gate(gate).open()
        for future in going:
            told = heard(*future.result(timeout=60))
            assert (told.text, told.status) == ("".join(text), "completed")
    way = Reading(pair, generation_id, [])
    way.parts.append(asked)
    consistent(pair.clients[0], *way.follow())


# The same promise by itself, where its order of events can be chosen -----------------------------------------
def _answer_of_another_process() -> uuid.UUID:
    conversation = Conversation.objects.create()
    message = Message.objects.create(conversation=conversation, role=Message.Role.ASSISTANT)
    worker = Worker.objects.create(host="another", pid=1)
    generation = Generation.objects.create(message=message, active_for=conversation, worker=worker)
    return generation.pk


async def test_p3_a_reader_that_comes_as_the_last_one_leaves_gets_the_rest(engine: Supervisor) -> None:
    """Between finding the answer and reading it, the process's only other reader of it goes."""
    generation_id = await db.write(_answer_of_another_process)
    await db.write(store, [entry(generation_id, Piece(1, CONTENT, "a"))])
    leaving = (await open_reader(generation_id)).batches()
    await anext(leaving)
    coming = await open_reader(generation_id, 1)
    await leaving.aclose()
    engine.follower.news()  # and the process looks round while nobody reads
    await db.write(store, [entry(generation_id, Piece(2, CONTENT, "b"))])
    await db.write(finish, generation_id, Ending("completed"))
    async with asyncio.timeout(5):
        events = [event async for batch in coming.batches() for event in batch]
    assert [event.text for event in events if isinstance(event, Piece)] == ["b"]
    assert isinstance(events[-1], DoneEvent)


async def test_p3_a_reader_that_saw_more_elsewhere_is_not_refused(engine: Supervisor, settings: Any) -> None:
    """The process that follows an answer is behind the one that makes it: the reader's position counts."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "FOLLOW_INTERVAL": 60.0}
    generation_id = await db.write(_answer_of_another_process)
    await db.write(store, [entry(generation_id, Piece(1, CONTENT, "a"))])
    slow = (await open_reader(generation_id)).batches()
    await anext(slow)
    await asyncio.sleep(0)
    await db.write(store, [entry(generation_id, Piece(2, CONTENT, "b"), Piece(3, CONTENT, "c"))])
    quick = await open_reader(generation_id, 2)
    with pytest.raises(InvalidPosition):
        await open_reader(generation_id, 4)
    assert [event.text for event in await anext(quick.batches())] == ["c"]
    assert "".join(event.text for event in await anext(slow)) == "bc"
    await slow.aclose()


async def test_p3_nor_is_one_where_the_answer_ends_as_the_process_looks(
    engine: Supervisor, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status was read before, its text after: of what is folded between them the log has nothing."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "FOLLOW_INTERVAL": 60.0}
    generation_id = await db.write(_answer_of_another_process)
    await db.write(store, [entry(generation_id, Piece(1, CONTENT, "a"))])
    slow = (await open_reader(generation_id)).batches()
    await anext(slow)
    await db.write(store, [entry(generation_id, Piece(2, CONTENT, "b"), Piece(3, CONTENT, "c"))])
    read_log = progress._read_log

    def read_after_the_end(*arguments: Any) -> None:
        finish(generation_id, Ending(COMPLETED, "stop"))
        read_log(*arguments)

    monkeypatch.setattr(progress, "_read_log", read_after_the_end)
    quick = await open_reader(generation_id, 2)
    assert [event.text for event in await anext(quick.batches()) if isinstance(event, Piece)] == ["c"]
    await slow.aclose()


async def test_p3_text_that_was_found_twice_is_shown_once(engine: Supervisor) -> None:
    generation_id = await db.write(_answer_of_another_process)
    transcript = await engine.transcript(generation_id)
    ab, a, bc, c = Piece(2, CONTENT, "ab"), Piece(1, CONTENT, "a"), Piece(3, CONTENT, "bc"), Piece(3, CONTENT, "c")
    for pieces in ([ab], [a, bc], [c]):
        transcript.extend(pieces)
    assert transcript.pieces == [Piece(3, CONTENT, "abc")]


async def test_p3_an_answer_that_nobody_reads_is_not_followed(engine: Supervisor) -> None:
    generation_id = await db.write(_answer_of_another_process)
    await db.write(store, [entry(generation_id, Piece(1, CONTENT, "a"))])
    batches = (await open_reader(generation_id)).batches()
    await anext(batches)
    assert len(engine.follower.transcripts) == 1
    await batches.aclose()
    del batches
    await asyncio.sleep(0)  # the loop had been told that a reader began
    gc.collect()
    assert engine.follower.transcripts == []

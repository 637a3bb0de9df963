"""P14: what REST shows equals what the events said, however an answer ended and whoever asks.

``truth.consistent`` is this promise, and is asked after the tests of all others; here are all ends side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conversations.helpers import chat, stream, whole_chat

from .pair import Pair, running_pair
from .readers import SocketReader, SseReader, script
from .reading import read_bytes
from .sizes import size
from .truth import Heard, consistent

pytestmark = pytest.mark.server

GOOD: dict[str, Any] = {"chunks": ["an", "swer 你好 ", "😀"], "reasoning": ["h", "m"]}
PIECES = size(40, 400)


@pytest.fixture(scope="module")
def pair(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    quick = {"BEAT_INTERVAL": 0.3, "BEATS_TO_GIVE_UP": 10}
    with running_pair(migrated, tmp_path_factory.mktemp("truth"), conversations=quick) as pair:
        yield pair


def told_by_both(pair: Pair, *parts: Any) -> Heard:
    """What both processes tell of an answer, which must be what its reader put together."""
    first, second = (consistent(client, *parts) for client in pair.clients)
    assert first == second
    return first


@pytest.mark.parametrize("reader", [SseReader, SocketReader])
def test_p14_of_completed_answers(pair: Pair, reader: type[SseReader] | type[SocketReader]) -> None:
    for fields in ({}, {"finish": "length"}, {"usage": None}, {"reasoning": []}):
        part = reader(pair.servers[0], message=script(**{**GOOD, **fields})).start().join().part
        told = told_by_both(pair, part)
        expected = {**GOOD, "finish": "stop", **fields}
        assert (told.status, told.finish_reason) == ("completed", expected["finish"])
        assert (told.reasoning, told.text) == ("".join(expected["reasoning"]), "".join(expected["chunks"]))
        assert (told.usage is None) == ("usage" in fields)


@pytest.mark.parametrize("reader", [SseReader, SocketReader])
def test_p14_of_failed_answers(pair: Pair, reader: type[SseReader] | type[SocketReader]) -> None:
    refusal = {"status": 401, "body": {"error": {"message": "no"}}}
    for fields, text in ((refusal, ""), ({**GOOD, "cut": 4}, "answer 你好 ")):
        told = told_by_both(pair, reader(pair.servers[0], message=script(**fields)).start().join().part)
        assert (told.status, told.text, told.finish_reason, told.usage) == ("failed", text, None, None)
        state = pair.clients[1].get(f"/generations/{told.generation_id}").json()
        assert state["error"]["code"] == told.error_code


@pytest.mark.parametrize("reader", [SseReader, SocketReader])
def test_p14_of_thoughts_that_came_as_the_answer(pair: Pair, reader: type[SseReader] | type[SocketReader]) -> None:
    """Their opening tag was in the prompt. One follows at the other process, and has them as the answer's too."""
    message = script(chunks=["I ", "think.\n", "</think>\n\n", "Hi 😀"], gate=reader.__name__, gate_at=2)
    going = reader(pair.servers[0], message=message).start()
    going.until(lambda reader: reader.part.text == "I think.\n")
    beside = SseReader(pair.servers[1], generation=going.ids["generation_id"]).start()
    beside.until(lambda reader: reader.part.text == "I think.\n")
    pair.upstream.gate(reader.__name__).open()
    told = told_by_both(pair, going.join().part)
    assert (told.reasoning, told.text) == ("I think.\n", "Hi 😀")
    assert told_by_both(pair, beside.join().part) == told


@pytest.mark.parametrize("reader", [SseReader, SocketReader])
@pytest.mark.parametrize("stopper", [0, 1])
def test_p14_of_stopped_answers(pair: Pair, reader: type[SseReader] | type[SocketReader], stopper: int) -> None:
    """Of one that is in the middle of its words when it is stopped."""
    message = script(chunks=["tick 😀"], reasoning=["hm"], endless=True, delay=0.002)
    going = reader(pair.servers[0], message=message).start().seen(5)
    pair.clients[stopper].post(f"/generations/{going.ids['generation_id']}/stop").raise_for_status()
    told = told_by_both(pair, going.join().part)
    assert told.status == "stopped"
    assert told.text.startswith("tick 😀")


def test_p14_of_resumed_answers(pair: Pair) -> None:
    asked = read_bytes(pair.clients[0], "POST", "/chat", 600, json={"message": script(**GOOD, delay=0.02)})
    url = f"/generations/{asked.headers['x-generation-id']}/stream"
    middle = read_bytes(pair.clients[1], "GET", url, 400, headers=_last(asked))
    rest = stream(pair.clients[1], "GET", url, headers=_last(middle) or _last(asked))
    told = told_by_both(pair, asked, middle, rest)
    assert (told.reasoning, told.text, told.status) == ("hm", "answer 你好 😀", "completed")


def _last(part: Any) -> dict[str, str]:
    return {"Last-Event-ID": part.ids[-1]} if part.ids else {}


def test_p14_of_interrupted_answers(pair: Pair) -> None:
    """By a kill: the reader at the other process is told, and reads on what the killed one had shown."""
    gate = {"gate": "killed", "gate_at": 3}
    going = SseReader(pair.servers[0], message=script(**GOOD, **gate)).start()
    going.until(lambda reader: reader.part.text == "an")
    beside = SseReader(pair.servers[1], generation=going.ids["generation_id"]).start()
    beside.until(lambda reader: reader.part.text == "an")
    pair.servers[0].kill()
    try:
        told = consistent(pair.clients[1], beside.join().part)
        going.join()
        rest = stream(pair.clients[1], "GET", f"/generations/{told.generation_id}/stream", headers=_last(going.part))
    finally:
        pair.servers[0].start()
    assert (told.status, told.reasoning, told.text) == ("interrupted", "hm", "an")
    assert told_by_both(pair, going.part, rest) == told


def test_p14_of_answers_without_a_stream(pair: Pair) -> None:
    answered = whole_chat(pair.clients[0], script(**GOOD)).json()
    again = stream(pair.clients[1], "GET", f"/generations/{answered['generation_id']}/stream")
    told = told_by_both(pair, again)
    assert told.text == answered["assistant_reply"]
    assert (told.status, told.finish_reason) == (answered["status"], answered["finish_reason"])
    assert (told.usage, told.message_id) == (answered["usage"], answered["message_id"])

    refused = whole_chat(pair.clients[0], script(**GOOD, cut=4))
    told = told_by_both(pair, stream(pair.clients[1], "GET", f"/generations/{refused.json()['generation_id']}/stream"))
    assert (told.error_code, told.message_id) == (refused.json()["code"], refused.json()["message_id"])


def test_p14_a_state_never_goes_back(pair: Pair) -> None:
    """Asked again and again while answers end: the position only grows, and an end has all of it."""
    over = threading.Event()

    def watch(client: httpx.Client, generation_id: str) -> list[tuple[str, int]]:
        seen = []
        while not over.is_set() or not seen or seen[-1][0] == "running":
            state = client.get(f"/generations/{generation_id}").json()
            seen.append((state["status"], state["position"]))
        return seen

    with ThreadPoolExecutor(8) as threads:
        for _ in range(size(10, 40)):
            over.clear()
            going = SseReader(pair.servers[0], message=script(chunks=["x"] * PIECES, delay=0.001)).start().seen(1)
            generation_id = going.ids["generation_id"]
            watching = [threads.submit(watch, client, generation_id) for client in [*pair.clients] * 2]
            told = consistent(pair.clients[0], going.join().part)
            over.set()
            for future in watching:
                states = future.result(timeout=30)
                positions = [position for _status, position in states]
                assert positions == sorted(positions), [pair for pair in states if pair[0] == "running"][-5:]
                assert states[-1] == ("completed", len(told.text))


def test_p14_of_a_second_answer_to_the_same_question(pair: Pair) -> None:
    """A regenerated answer takes the active branch; what the first one's events said stays as true."""
    first = chat(pair.clients[0], script(**GOOD))
    second = stream(pair.clients[1], "POST", f"/messages/{first.done['message_id']}/regenerate")
    told = told_by_both(pair, second)
    assert told_by_both(pair, first).text == told.text
    history = pair.clients[0].get(f"/conversations/{told.session_id}/history").json()["messages"]
    assert [message["id"] for message in history][1:] == [told.message_id]

"""The committed text of an answer, as its readers share it."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from conversations.engine.events import CONTENT, MAX_PIECE, REASONING, AnswerIds, Piece
from conversations.engine.reader import Reader
from conversations.engine.transcript import Transcript
from conversations.exceptions import InvalidPosition


@pytest.fixture
def transcript() -> Transcript:
    return Transcript(AnswerIds(uuid.uuid4(), uuid.uuid4(), 1))


def say(transcript: Transcript, text: str, kind: str = CONTENT) -> None:
    transcript.extend([Piece(transcript.position + len(text), kind, text)])


def test_a_long_answer_is_few_pieces(transcript: Transcript) -> None:
    text = "".join(f"{number}, " for number in range(5000))
    for start in range(0, len(text), 3):
        say(transcript, text[start : start + 3])
    assert transcript.content == text
    assert transcript.position == len(text)
    assert len(transcript.pieces) <= len(text) // (MAX_PIECE - 3) + 1
    assert max(len(piece.text) for piece in transcript.pieces) <= MAX_PIECE


def test_reasoning_and_answer_stay_apart(transcript: Transcript) -> None:
    for text, kind in (("a", REASONING), ("b", REASONING), ("c", CONTENT), ("d", CONTENT)):
        say(transcript, text, kind)
    assert transcript.pieces == [Piece(2, REASONING, "ab"), Piece(4, CONTENT, "cd")]


@pytest.mark.parametrize("position", range(5))
def test_what_follows_any_position_is_found(transcript: Transcript, position: int) -> None:
    say(transcript, "ab", REASONING)
    say(transcript, "cd")
    first, index = transcript.after(position)
    assert "".join(piece.text for piece in [*first, *transcript.pieces[index:]]) == "abcd"[position:]
    with pytest.raises(InvalidPosition):
        transcript.after(5)


async def test_a_reader_goes_on_where_it_was_while_pieces_are_joined(transcript: Transcript) -> None:
    seen = []
    batches = Reader(transcript, 0).batches()
    for text in ("a", "bc", "d" * MAX_PIECE, "e"):
        say(transcript, text)
        batch = await anext(batches)
        seen.append(("".join(event.text for event in batch), batch[-1].position))  # type: ignore[union-attr]
    await batches.aclose()
    assert seen == [("a", 1), ("bc", 3), ("d" * MAX_PIECE, 3 + MAX_PIECE), ("e", 4 + MAX_PIECE)]


async def test_a_wait_ends_with_the_next_text_or_in_time(transcript: Transcript) -> None:
    assert not await transcript.wait(0.001)
    waiting = asyncio.gather(transcript.wait(30), transcript.wait(30))
    await asyncio.sleep(0)
    say(transcript, "a")
    assert await waiting == [True, True]

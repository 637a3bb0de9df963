"""What readers get, as plain values: text cut into pieces, resumed anywhere, and its JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations.engine.events import (
    CONTENT,
    MAX_PIECE,
    REASONING,
    TOOL_CALL,
    AnswerIds,
    Call,
    DoneEvent,
    Ending,
    ErrorEvent,
    Piece,
    beyond_position,
    cut,
    folded,
    payload,
    pieces_of_row,
)
from conversations.engine.transcript import Transcript
from conversations.models import Message, calls_of

IDS = AnswerIds(uuid.UUID(int=1), uuid.UUID(int=2), 3)
NAMES = {"session_id": str(uuid.UUID(int=2)), "message_id": 3, "generation_id": str(uuid.UUID(int=1))}

short = st.text(alphabet="ab语😀\n", max_size=40)
# Long enough to be cut, short to write down: a text repeated.
long = st.builds(lambda part, times: part * times, short, st.sampled_from([1, MAX_PIECE // 7, MAX_PIECE // 2]))


def text_of(pieces: list[Piece], kind: str = "") -> str:
    return "".join(piece.text for piece in pieces if kind in ("", piece.kind))


# Pieces ---------------------------------------------------------------------------------------------------------
@given(st.integers(0, 10**9), st.sampled_from([REASONING, CONTENT]), long)
def test_a_cut_text_is_all_there_in_order_and_no_piece_is_too_long_or_empty(start: int, kind: str, text: str) -> None:
    pieces = cut(start, kind, text)
    assert text_of(pieces) == text
    assert all(0 < len(piece.text) <= MAX_PIECE for piece in pieces)
    position = start
    for piece in pieces:
        position += len(piece.text)
        assert (piece.position, piece.kind) == (position, kind)


@pytest.mark.parametrize(
    ("length", "lengths"),
    [(0, []), (1, [1]), (MAX_PIECE, [MAX_PIECE]), (MAX_PIECE + 1, [MAX_PIECE, 1]), (2 * MAX_PIECE, [MAX_PIECE] * 2)],
)
def test_a_text_is_cut_only_where_it_must_be(length: int, lengths: list[int]) -> None:
    assert [len(piece.text) for piece in cut(0, CONTENT, "x" * length)] == lengths


def test_no_piece_is_over_64_kb_whatever_it_is_made_of() -> None:
    assert max(len(piece.text.encode()) for piece in cut(0, CONTENT, "😀" * 100_000)) <= 65_536


@given(long, long)
def test_a_finished_answer_is_its_reasoning_and_then_its_content(reasoning: str, content: str) -> None:
    pieces = pieces_of_row(Message(reasoning=reasoning, content=content))
    assert (text_of(pieces, REASONING), text_of(pieces, CONTENT)) == (reasoning, content)
    assert [piece.kind for piece in pieces] == sorted((piece.kind for piece in pieces), reverse=True)
    assert (pieces[-1].position if pieces else 0) == len(reasoning) + len(content)


# Parts: what they are, and their text in the pieces in which it came; of calls which one, by its number.
kinds = st.sampled_from([REASONING, CONTENT, TOOL_CALL])
spoken = st.lists(st.tuples(kinds, st.integers(0, 3), st.lists(st.text("ab语😀", min_size=1, max_size=5), min_size=1)))


def of_parts(parts: list[tuple[str, int, list[str]]]) -> list[Piece]:
    """The pieces that these parts were streamed in: each call is named once, and perhaps goes on after others."""
    position, pieces, numbers = 0, list[Piece](), dict[int, int]()
    for kind, which, texts in parts:
        for text in texts:
            position += len(text)
            call = None
            if kind == TOOL_CALL:
                is_new, number = which not in numbers, numbers.setdefault(which, len(numbers))
                call = Call(number, f"id{which}", "name") if is_new else Call(number)
            pieces.append(Piece(position, kind, text, call))
    return pieces


def told(pieces: Iterable[Piece]) -> list[tuple[str, str, str, str]]:
    """What a reader makes of pieces: kinds, calls by their id, and texts, neighbours joined."""
    ids = dict[int, str]()
    made: list[tuple[str, str, str, str]] = []
    for piece in pieces:
        key = name = ""
        if piece.call:
            key, name = ids.setdefault(piece.call.number, piece.call.id), "name"
        if made and made[-1][:2] == (piece.kind, key):
            made[-1] = (*made[-1][:3], made[-1][3] + piece.text)
        else:
            made.append((piece.kind, key, name, piece.text))
    return made


@given(parts=spoken, data=st.data())
async def test_parts_in_any_order_resume_from_the_row_as_from_memory(
    parts: list[tuple[str, int, list[str]]], data: st.DataObject
) -> None:
    whole = of_parts(parts)
    text = text_of(whole)
    said = folded(whole)
    assert said.text == "".join(text_of(whole, kind) for kind in (REASONING, CONTENT, TOOL_CALL))
    row = Message(**said._asdict())
    position = data.draw(st.integers(0, len(text)))
    transcript = Transcript(IDS)
    transcript.extend(whole)
    first, index = transcript.after(position)
    live = [*first, *transcript.pieces[index:]]
    stored_rest = beyond_position(pieces_of_row(row), position)
    assert text_of(live) == text_of(stored_rest) == text[position:]
    for rest in (live, stored_rest):
        assert told([*cut_to(whole, position), *rest]) == told(whole)
    assert pieces_of_row(Message(**folded(pieces_of_row(row))._asdict())) == pieces_of_row(row)
    calls = [each for each in told(whole) if each[0] == TOOL_CALL]
    assert "".join(arguments for _id, _name, arguments in calls_of(row)) == "".join(
        "".join(each[3] for each in calls if each[1] == key) for key in dict.fromkeys(each[1] for each in calls)
    )


def cut_to(pieces: list[Piece], position: int) -> list[Piece]:
    """What a reader has who was cut there."""
    kept = [piece for piece in pieces if piece.position <= position]
    missing = position - (kept[-1].position if kept else 0)
    if missing:
        piece = pieces[len(kept)]
        kept.append(Piece(position, piece.kind, piece.text[:missing], piece.call))
    return kept


# Resumed --------------------------------------------------------------------------------------------------------
answers = st.lists(st.text(alphabet="ab语😀", min_size=1, max_size=9), max_size=6)


def stored(parts: list[str]) -> list[Piece]:
    """The pieces that these parts were streamed in; the first two are reasoning."""
    position, pieces = 0, []
    for index, part in enumerate(parts):
        position += len(part)
        pieces.append(Piece(position, REASONING if index < 2 else CONTENT, part))
    return pieces


@given(parts=answers, data=st.data())
def test_resuming_at_any_position_gives_exactly_the_rest(parts: list[str], data: st.DataObject) -> None:
    whole = stored(parts)
    position = data.draw(st.integers(0, len("".join(parts))))
    rest = beyond_position(whole, position)
    assert text_of(rest) == "".join(parts)[position:]
    assert all(piece.text for piece in rest)
    assert [piece.position for piece in rest] == [piece.position for piece in whole if piece.position > position]
    assert [piece.kind for piece in rest] == [piece.kind for piece in whole if piece.position > position]


@given(parts=answers, data=st.data())
async def test_a_live_and_a_stored_answer_resume_alike(parts: list[str], data: st.DataObject) -> None:
    whole = stored(parts)
    position = data.draw(st.integers(0, len("".join(parts))))
    first, index = Transcript(IDS, list(whole)).after(position)
    assert [*first, *whole[index:]] == beyond_position(whole, position)


@given(reasoning=short, content=short, data=st.data())
def test_what_was_streamed_in_any_pieces_resumes_from_the_row_alone(
    reasoning: str, content: str, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(reasoning + content)))
    rest = beyond_position(pieces_of_row(Message(reasoning=reasoning, content=content)), position)
    assert text_of(rest) == (reasoning + content)[position:]
    assert text_of(rest, REASONING) == reasoning[position:]


@given(parts=answers, data=st.data())
async def test_a_transcript_takes_every_character_once(parts: list[str], data: st.DataObject) -> None:
    """Also when it is handed the whole answer from its row, in other pieces, after it has seen a part of it."""
    whole = stored(parts)
    seen = data.draw(st.integers(0, len(whole)))
    transcript = Transcript(IDS, whole[:seen])
    row = Message(reasoning=text_of(whole, REASONING), content=text_of(whole, CONTENT))
    transcript.extend(pieces_of_row(row))
    assert text_of(transcript.pieces) == "".join(parts)
    assert transcript.position == len("".join(parts))


@given(parts=answers, data=st.data())
async def test_what_was_thought_is_cut_out_wherever_it_ends(parts: list[str], data: st.DataObject) -> None:
    """By one who has it as the answer's, in joined pieces: positions and text stay."""
    text = "".join(parts)
    up_to = data.draw(st.integers(0, len(text)))
    transcript = Transcript(IDS)
    transcript.extend(cut(0, CONTENT, text))
    transcript.mark_reasoning(up_to)
    assert (text_of(transcript.pieces, REASONING), text_of(transcript.pieces, CONTENT)) == (text[:up_to], text[up_to:])
    assert transcript.reasoning_chars == up_to
    position = 0
    for piece in transcript.pieces:
        position += len(piece.text)
        assert piece.text
        assert piece.position == position


# As JSON --------------------------------------------------------------------------------------------------------
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
PAYLOADS: list[tuple[Any, dict[str, Any]]] = [
    (Piece(2, CONTENT, "hi"), {"chunk": "hi"}),
    (Piece(2, REASONING, "hm"), {"reasoning": "hm"}),
    (
        Piece(2, TOOL_CALL, "{}", Call(1, "c", "f")),
        {"tool_call": {"index": 1, "id": "c", "name": "f", "arguments": "{}"}},
    ),
    (Piece(2, TOOL_CALL, "{}", Call(1)), {"tool_call": {"index": 1, "arguments": "{}"}}),
    (
        ErrorEvent(2, "upstream_timeout", "Too late.", None),
        {"error": {"code": "upstream_timeout", "message": "Too late."}},
    ),
    (
        ErrorEvent(2, "upstream_rate_limit", "Later.", 0),
        {"error": {"code": "upstream_rate_limit", "message": "Later.", "retry_after": 0}},
    ),
    (
        DoneEvent(2, IDS, Ending("completed", "stop", USAGE, model="m"), 1),
        {"done": True, "status": "completed", **NAMES, "finish_reason": "stop", "usage": USAGE, "reasoning_chars": 1},
    ),
    (
        DoneEvent(2, IDS, Ending("failed", error_code="upstream_error", error_message="no"), 0),
        {"done": True, "status": "failed", **NAMES, "finish_reason": None, "usage": None, "reasoning_chars": 0},
    ),
    (
        DoneEvent(0, IDS, Ending("stopped"), 0),
        {"done": True, "status": "stopped", **NAMES, "finish_reason": None, "usage": None, "reasoning_chars": 0},
    ),
]


@pytest.mark.parametrize(("event", "expected"), PAYLOADS)
def test_every_edge_sends_the_contracts_objects(event: Any, expected: dict[str, Any]) -> None:
    assert payload(event) == expected

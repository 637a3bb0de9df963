"""The decoder against the standard: its examples, and any bytes in any slices against a plain reference."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmproviders.exceptions import AnswerTooLarge
from llmproviders.sse import Event, SSEDecoder
from tests.llmproviders.sse_reference import Reference

PIECES = [
    b"data",
    b"data:",
    b"data: ",
    b"event: ",
    b"id:",
    b"retry: 10",
    b":",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xef\xbb",
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xed\xa0\x80",
    b"\xff",
    "\u2028\u0085\x0b\x0c\x1c".encode(),
    "好".encode(),
    b"text",
]
STREAMS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join), st.lists(st.binary(max_size=20)).map(b"".join)
)


def decode(chunks: Iterable[bytes], **caps: int) -> list[Event]:
    decoder = SSEDecoder(**caps)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def sliced(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=12))
@example(stream=b"event: a\r\ndata: b\r\ndata: c\r\n\r\n", cuts=[9])
@example(stream=b"data: a\r\n\r\ndata: b\r\r", cuts=[8, 8, 9, 10, 11])
@example(stream=b"\xef\xbb\xbfdata: a\n\n", cuts=[1, 2])
@example(stream=b"data: \xf0\x9f\n\x98\x80\n\n", cuts=[7, 8])
def test_any_bytes_in_any_slices_give_the_events_of_the_reference(stream: bytes, cuts: list[int]) -> None:
    expected = Reference().interpret(stream)
    assert decode(sliced(stream, cuts)) == expected
    assert decode(bytes([byte]) for byte in stream) == expected


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 200), max_size=12), cap=st.integers(1, 12))
def test_caps_do_not_depend_on_the_slices(stream: bytes, cuts: list[int], cap: int) -> None:
    def outcome(chunks: Iterable[bytes]) -> tuple[list[Event], bool]:
        decoder = SSEDecoder(max_line_bytes=cap, max_event_chars=cap)
        events: list[Event] = []
        try:
            for chunk in chunks:
                for event in decoder.feed(chunk):
                    events.append(event)  # one by one: those before an error count
        except AnswerTooLarge:
            return events, True
        return events, False

    assert outcome(sliced(stream, cuts)) == outcome(bytes([byte]) for byte in stream)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (b": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third", ["first", "second"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b"data:test\n\ndata: test\n\n", ["test", "test"]),
        (b"data:  two spaces\n\n", [" two spaces"]),
        ("data: a\u2028b\u0085c\x0bd\x1ce\n\n".encode(), ["a\u2028b\u0085c\x0bd\x1ce"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"DATA: no\n data: no\n\n", []),
    ],
)  # fmt: skip
def test_examples_of_the_standard(stream: bytes, expected: list[str]) -> None:
    assert [event.data for event in decode([stream])] == expected


def test_an_id_is_remembered_and_one_with_nul_ignored() -> None:
    events = decode([b"id: 1\n\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n"])
    assert [event.id for event in events] == ["1", "1", ""]


def test_an_event_type_lasts_for_one_event() -> None:
    assert [event.event for event in decode([b"event: ping\n\nevent: x\ndata: a\n\ndata: b\n\n"])] == ["x", "message"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_may_be_as_long_as_its_cap_and_no_longer(size: int) -> None:
    def chunks(length: int) -> list[bytes]:
        stream = b"data: ok\n\ndata: " + b"x" * (length - 6) + b"\n\n"
        return [stream[start : start + size] for start in range(0, len(stream), size)]

    assert len(decode(chunks(100), max_line_bytes=100)) == 2
    with pytest.raises(AnswerTooLarge):
        decode(chunks(101), max_line_bytes=100)


def test_what_came_before_a_line_that_is_too_long_is_given() -> None:
    decoder = SSEDecoder(max_line_bytes=20)
    events = decoder.feed(b"data: a\n\ndata: " + b"x" * 50 + b"\n\n")
    assert next(events).data == "a"
    with pytest.raises(AnswerTooLarge):
        next(events)


def test_a_line_without_end_is_refused_before_it_is_whole() -> None:
    with pytest.raises(AnswerTooLarge):
        decode([b"x" * 100] * 11, max_line_bytes=1000)


def test_an_event_of_many_lines_has_a_cap() -> None:
    with pytest.raises(AnswerTooLarge):
        decode([b"data: x\n"] * 600, max_event_chars=1000)


def test_a_long_line_a_byte_at_a_time_takes_linear_time() -> None:
    decoder = SSEDecoder()
    started = time.process_time()
    for _ in range(500_000):
        list(decoder.feed(b"x"))
    assert time.process_time() - started < 5

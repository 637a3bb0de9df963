"""Cleaning and splitting give the same text wherever a stream was cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmproviders.text import TextCleaner, ThinkSplitter, clean

ANY_TEXT = st.lists(
    st.one_of(st.sampled_from(["\ud83d", "\ude00", "\0", "a", "好", "😀", "\u200d"]), st.characters(codec=None)),
    max_size=12,
).map("".join)
CUTS = st.lists(st.integers(0, 40), max_size=8)


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def reference(text: str) -> str:
    """A character at a time."""
    cleaned = ""
    waiting = list(text.replace("\0", ""))
    while waiting:
        character = waiting.pop(0)
        if "\ud800" <= character <= "\udbff" and waiting and "\udc00" <= waiting[0] <= "\udfff":
            low = waiting.pop(0)
            cleaned += chr(0x10000 + ((ord(character) - 0xD800) << 10) + ord(low) - 0xDC00)
        else:
            cleaned += "\ufffd" if "\ud800" <= character <= "\udfff" else character
    return cleaned


@given(text=ANY_TEXT, cuts=CUTS)
def test_cleaning_does_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    cleaner = TextCleaner()
    given_out = [cleaner.feed(piece) for piece in pieces(text, cuts)] + [cleaner.flush()]
    assert "".join(given_out) == reference(text) == clean(text)
    "".join(given_out).encode()


def test_clean_text_is_given_at_once() -> None:
    text = "你好 👩‍👩‍👧"
    assert TextCleaner().feed(text) is text


def test_a_split_pair_is_joined() -> None:
    cleaner = TextCleaner()
    assert [cleaner.feed("a\ud83d"), cleaner.feed("\ude00b"), cleaner.flush()] == ["a", "😀b", ""]


def test_a_high_surrogate_at_the_end_is_replaced() -> None:
    cleaner = TextCleaner()
    assert [cleaner.feed("a\ud83d"), cleaner.flush(), cleaner.flush()] == ["a", "\ufffd", ""]


def split(chunks: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    parts = [splitter.feed(chunk) for chunk in chunks] + [splitter.flush()]
    return "".join(reasoning for reasoning, _ in parts), "".join(answer for _, answer in parts)


THINKING = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</thi", "think>", " ", "\n", "a", "好"]), max_size=10
)


@given(text=THINKING.map("".join), cuts=CUTS)
def test_splitting_does_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    assert split(pieces(text, cuts)) == split([text])


@given(text=THINKING.map("".join))
def test_splitting_loses_no_text(text: str) -> None:
    reasoning, answer = split([text])
    rest = text
    if text.lstrip().startswith("<think>"):
        rest = text.lstrip().removeprefix("<think>").replace("</think>", "", 1)
    assert "".join((reasoning + answer).split()) == "".join(rest.split())


def test_a_leading_think_block_is_reasoning() -> None:
    assert split(["\n<think>\nhm, <b>\n</think>\n\nYes.</think>"]) == ("hm, <b>\n", "Yes.</think>")


def test_a_think_block_further_on_is_answer() -> None:
    assert split(["Use <think>x</think>."]) == ("", "Use <think>x</think>.")


def test_a_think_block_that_is_never_closed_is_reasoning() -> None:
    assert split(["<think>hm</thi"]) == ("hm</thi", "")


def test_leading_white_space_of_an_answer_is_kept() -> None:
    assert split([" ", "\n", "a"]) == ("", " \na")
    assert split([" "]) == ("", " ")

"""Texts without what people do not type when they search: case, accents, differences of form.

A folded text is what is searched, and a query is folded like it. The accents of Latin, Greek and Cyrillic letters go;
signs that make another letter stay (Thai vowels, Japanese voicing marks), as do whole Korean syllables. White space
of any kind and length is one blank.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

# Combining diacritical marks; and what nobody sees: soft hyphens, joiners of words, the form of an emoji.
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u00ad\u200b\u2060\ufeff\ufe00-\ufe0f]"
)
_BLANKS = re.compile(r"\s+")
# Vowels and ends of Korean syllables.
_KOREAN_ENDS = range(0x1160, 0x1200)
# All that may be one of these kinds: what is left out, to read a tenth, are Chinese characters, Korean syllables, and
# what is not assigned.
_LETTERS = (range(0xA0, 0x3400), range(0xA000, 0xAC00), range(0xD7A4, 0xD800), range(0xF900, 0x20000))
# So many marks of one character count (Unicode's stream-safe format has 30).
MOST_MARKS = 30
# Texts are folded back in blocks of about so many characters.
BLOCK = 1_000


def fold(text: str) -> str:
    """Return a text as it is searched. Folding twice changes nothing."""
    if text.isascii():
        return _BLANKS.sub(" ", text.lower())
    text = _runs().sub(r"\1", text)
    bare = _LEFT_OUT.sub("", unicodedata.normalize("NFKD", text)).casefold()
    # What folding made may fall apart once more, as it was written together.
    bare = _LEFT_OUT.sub("", unicodedata.normalize("NFKD", bare))
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", bare))


class Folded:
    """A text, its folded form, and the way back from places in that to places in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded = fold(text)
        self._is_same = len(text) == len(self.folded) and text.isascii()

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return from where to where the text has what the folded form has there, in code points.

        What folds to several characters counts as a whole.
        """
        if self._is_same:
            return start, end
        return self._back(start)[0], self._back(end - 1)[1]

    def _back(self, index: int) -> tuple[int, int]:
        """Return from where to where the text has what became one folded character."""
        starts, folded_starts = self._blocks
        block = bisect_right(folded_starts, index) - 1
        at, folded_at = starts[block], folded_starts[block]
        for cluster in _clusters(self.text, at, starts[block + 1]):
            folded_at += len(fold(cluster))
            at += len(cluster)
            if folded_at > index:
                return at - len(cluster), at
        raise IndexError(index)

    @cached_property
    def _blocks(self) -> tuple[list[int], list[int]]:
        starts = [0]
        while starts[-1] < len(self.text):
            starts.append(_boundary(self.text, starts[-1] + BLOCK))
        lengths = [len(fold(self.text[start:end])) for start, end in pairwise(starts)]
        return starts, list(accumulate(lengths, initial=0))[:-1]


def _clusters(text: str, start: int, end: int) -> Iterator[str]:
    """Cut a text into parts that are folded each by itself: a character with what changes it, or white space."""
    return (match[0] for match in _cluster().finditer(text, start, end))


def _boundary(text: str, at: int) -> int:
    """Return the next place from ``at`` on where two clusters meet."""
    within = _continues()
    while at < len(text) and within.match(text, at):
        at += 1
    return min(at, len(text))


class _Kinds(NamedTuple):
    """Ranges of characters for regular expressions."""

    # Those that may become one with what is before them.
    changing: str
    # Those that begin with a blank, as white space does.
    blank: str


@cache
def _cluster() -> re.Pattern[str]:
    kinds = _kinds()
    return re.compile(rf"[\s{kinds.blank}][\s{kinds.blank}{kinds.changing}]*|.[{kinds.changing}]*", re.DOTALL)


@cache
def _runs() -> re.Pattern[str]:
    """Marks upon marks, more than any script has: putting them in order takes time by the square of their number."""
    changing = _kinds().changing
    return re.compile(f"([{changing}]{{{MOST_MARKS}}})[{changing}]+")


@cache
def _continues() -> re.Pattern[str]:
    kinds = _kinds()
    return re.compile(rf"[\s{kinds.blank}{kinds.changing}]")


@cache
def _kinds() -> _Kinds:
    """Read the characters' own data, once a process."""
    changing = set(_KOREAN_ENDS)
    blank = set[int]()
    for code in chain(*_LETTERS):
        character = chr(code)
        first = unicodedata.normalize("NFKD", character)[0]
        # Half-width marks become such that combine.
        if unicodedata.combining(first) or ord(first) in _KOREAN_ENDS or _LEFT_OUT.match(character):
            changing.add(code)
        elif first == " ":
            blank.add(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            changing.add(int(parts[1], 16))
    return _Kinds(_as_ranges(changing), _as_ranges(blank))


def _as_ranges(codes: set[int]) -> str:
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges(sorted(codes)))


def _ranges(codes: list[int]) -> Iterator[tuple[int, int]]:
    first = last = codes[0]
    for code in codes[1:]:
        if code != last + 1:
            yield first, last
            first = code
        last = code
    yield first, last

"""What is shown of a text in which something was found."""

from __future__ import annotations

import re
from typing import NamedTuple

from .folding import Folded
from .query import Query

# A snippet has about so many characters, of which so many are before what was found.
LENGTH, BEFORE = 200, 60
# So many places are marked at most.
MOST_MARKS = 20


class Snippet(NamedTuple):
    """A part of a text, which begins at ``offset``; ``highlights`` are (from, to) within ``text``, in code points."""

    text: str
    offset: int
    highlights: list[tuple[int, int]]


def marks(folded: Folded, query: Query, *, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Return where a text has the query's words, in its own code points, from left to right; what meets is joined.

    ``start`` and ``end`` are places in the folded text.
    """
    words = re.compile("|".join(re.escape(word) for word in sorted(query.words, key=len, reverse=True)))
    end = len(folded.folded) if end is None else end
    found: list[tuple[int, int]] = []
    for match in words.finditer(folded.folded, start, end):
        begin, stop = folded.place(match.start(), match.end())
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        elif len(found) == MOST_MARKS:
            break
        else:
            found.append((begin, stop))
    return found


def snippet(text: str, query: Query) -> Snippet | None:
    """Return the part of a text around the first of the query's words; None where it has none any more."""
    folded = Folded(text)
    places = [place for word in query.words if (place := folded.folded.find(word)) >= 0]
    if not places or not query.matches(folded.folded):
        return None
    first, _end = folded.place(min(places), min(places) + 1)
    begin = _begin(text, first)
    end = min(len(text), begin + LENGTH)
    around = marks(folded, query, start=max(0, min(places)), end=min(places) + 4 * LENGTH)
    highlights = [(start - begin, min(stop, end) - begin) for start, stop in around if start < end]
    return Snippet(text[begin:end], begin, highlights)


def _begin(text: str, first: int) -> int:
    """Return where a snippet begins: all of a short text, else at a word a little before what was found."""
    if len(text) <= LENGTH or first <= BEFORE:
        return 0
    begin = min(first - BEFORE, len(text) - LENGTH)
    if begin and not text[begin - 1].isspace():
        space = next((place for place in range(begin, min(begin + 20, first)) if text[place].isspace()), None)
        return begin if space is None else space + 1
    return begin

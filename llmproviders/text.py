"""Text as models send it, made safe to store: piece by piece, the same whatever the pieces are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import ClassVar

_UNCLEAN = re.compile("[\x00\ud800-\udfff]")


class TextCleaner:
    """Drops NUL, joins surrogate pairs (also of two deltas) and replaces lone surrogates with U+FFFD.

    No database takes a lone surrogate, PostgreSQL no NUL; JSON allows both.
    """

    def __init__(self) -> None:
        self._high = ""

    @property
    def waits(self) -> bool:
        """Whether something waits for the next piece."""
        return self._high != ""

    def feed(self, text: str) -> str:
        """Return what of ``text`` is sure; a high surrogate at its end waits for the next piece."""
        if not self._high and not _UNCLEAN.search(text):
            return text
        text = self._high + text.replace("\0", "")
        self._high = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _joined(text[:-1] if self._high else text)

    def flush(self) -> str:
        """Return what still waits. The cleaner can be used again."""
        if not self._high:
            return ""
        text, self._high = _joined(self._high), ""
        return text


def clean(text: str) -> str:
    """Return a whole text, cleaned as ``TextCleaner`` does."""
    cleaner = TextCleaner()
    return cleaner.feed(text) + cleaner.flush()


def _joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class _State(Enum):
    START = auto()
    THINKING = auto()
    GAP = auto()
    ANSWER = auto()


class ThinkSplitter:
    """Tells a leading ``<think>…</think>`` from the answer that follows it, wherever the pieces are cut.

    So with the other tags of ``TAGS``. White space right after either tag belongs to neither. Tags further on are text
    like any other. ``within``: the text begins within the thought, whether or not the opening tag is repeated.
    """

    OPEN = "<think>"
    CLOSE = "</think>"
    # As models have them; then MiniMax's, Seed's, Gemini's and Mistral's.
    TAGS: ClassVar[Mapping[str, str]] = {
        OPEN: CLOSE,
        "<mm:think>": "</mm:think>",
        "<seed:think>": "</seed:think>",
        "<thought>": "</thought>",
        "[THINK]": "[/THINK]",
    }
    # A model that begins with more white space than this is not about to think.
    MAX_LEADING = 256

    def __init__(self, *, within: bool = False) -> None:
        self._state = _State.START
        self._within = within
        self._close = self.CLOSE
        self._fresh = True  # nothing of the reasoning yet
        self._held = ""

    @property
    def passed(self) -> bool:
        """Whether all that follows is answer, and need not be fed."""
        return self._state is _State.ANSWER

    def feed(self, text: str) -> tuple[str, str]:
        """Return ``(reasoning, answer)`` as far as they are sure; each may be empty."""
        text, self._held = self._held + text, ""
        reasoning = ""
        if self._state is _State.START:
            text = self._start(text)
        if self._state is _State.THINKING:
            reasoning, text = self._think(text)
        if self._state is _State.GAP:
            text = text.lstrip()
            if text:
                self._state = _State.ANSWER
        return reasoning, text

    def flush(self) -> tuple[str, str]:
        """Return what was held because it might have become a tag."""
        text, self._held = self._held, ""
        return (text, "") if self._within or self._state is _State.THINKING else ("", text)

    def _start(self, text: str) -> str:
        begin = text.lstrip()
        for tag, close in self.TAGS.items():
            if begin.startswith(tag):
                self._state, self._close = _State.THINKING, close
                return begin[len(tag) :]
        if len(text) <= self.MAX_LEADING and any(tag.startswith(begin) for tag in self.TAGS):
            self._held = text
            return ""
        self._state = _State.THINKING if self._within else _State.ANSWER
        return text

    def _think(self, text: str) -> tuple[str, str]:
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        reasoning, tag, rest = text.partition(self._close)
        if tag:
            self._state = _State.GAP
            return reasoning, rest
        kept = len(text) - begun(text, self._close)
        self._held = text[kept:]
        return text[:kept], ""


def begun(text: str, tag: str) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)

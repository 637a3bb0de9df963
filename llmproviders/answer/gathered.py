"""The text of an answer between reading and giving: what came together of one kind is one delta."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge
from ..types import ContentDelta, Delta, ReasoningDelta, ThoughtSoFar, ToolCallDelta
from .unopened import UnopenedThought


class Gathered:
    """Takes pieces, gives deltas.

    With ``finds_thoughts`` a thought is found whose beginning nobody told. ``begun`` with the first piece;
    ``answered`` and ``thought`` say of which kind there was more than blanks, ``unopened`` whether one was found.
    """

    def __init__(self, *, max_bytes: int, finds_thoughts: bool = True) -> None:
        self.begun = self.answered = self.thought = self.unopened = False
        self._room = max_bytes
        self._deltas: list[Delta] = []
        self._kind: type[ContentDelta] | type[ReasoningDelta] = ContentDelta
        self._pieces: list[str] = []
        self._unopened: UnopenedThought | None = UnopenedThought() if finds_thoughts else None
        self._given = False  # whether text of the answer was, before a thought could end

    def add(self, kind: type[ContentDelta] | type[ReasoningDelta], text: str) -> None:
        """Take a piece. Raises ``AnswerTooLarge``."""
        if not text:
            return
        self.begun = True
        self._room -= len(text) if text.isascii() else len(text.encode())
        if self._room < 0:
            raise AnswerTooLarge(gettext_noop("The model's answer is larger than it may be."))
        if kind is not self._kind:
            self._join()
            self._kind = kind
        self._pieces.append(text)

    def calls(self, deltas: Iterable[ToolCallDelta]) -> None:
        """Take pieces of tools' calls, after all text so far. Raises ``AnswerTooLarge``."""
        for delta in deltas:
            self.begun = self.answered = True
            self._room -= len(delta.arguments.encode())
            if self._room < 0:
                raise AnswerTooLarge(gettext_noop("The model's answer is larger than it may be."))
            self.flush()
            self._deltas.append(delta)

    def take(self) -> list[Delta]:
        """Return what was gathered, as deltas."""
        self._join()
        deltas, self._deltas = self._deltas, []
        return deltas

    def flush(self) -> None:
        """The text has ended: nothing is held back any more."""
        self._join()
        if self._unopened is not None:
            self._told(*self._unopened.flush())
            self._unopened = None

    def _join(self) -> None:
        if not self._pieces:
            return
        text = "".join(self._pieces)
        self._pieces.clear()
        if self._unopened is None:
            self._put(self._kind, text)
        elif self._kind is ContentDelta:
            self._told(*self._unopened.feed(text))
        else:  # the server, or a tag, tells what is thought
            self._told(*self._unopened.flush())
            self._put(ReasoningDelta, text)

    def _told(self, thought: str | None, answer: str) -> None:
        if thought is not None:
            self.unopened = True
            if self._given:
                self._deltas.append(ThoughtSoFar())
                self.thought, self.answered = self.thought or self.answered, False
            self._put(ReasoningDelta, thought)
        elif answer:
            self._given = True
        self._put(ContentDelta, answer)
        if self._unopened is not None and self._unopened.passed:
            self._unopened = None

    def _put(self, kind: type[ContentDelta] | type[ReasoningDelta], text: str) -> None:
        if not text:
            return
        if not text.isspace():
            self.answered = self.answered or kind is ContentDelta
            self.thought = self.thought or kind is ReasoningDelta
        self._deltas.append(kind(text))

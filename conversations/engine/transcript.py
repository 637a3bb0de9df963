"""The committed text of one answer, shared by all its readers in this process."""

from __future__ import annotations

import asyncio
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any

from ..exceptions import InvalidPosition
from .events import CONTENT, MAX_PIECE, AnswerIds, Ending, Piece, as_reasoning, beyond_position, reasoning_first

# What readers get to take their last events at the end of the process (seconds).
LAST_EVENTS_SECONDS = 2.0


class Transcript:
    """Grows by committed pieces until it has an ending. Readers pull, so a slow one costs and delays nothing.

    Belongs to one event loop; every call comes from there.
    """

    def __init__(
        self, ids: AnswerIds, pieces: list[Piece] | None = None, *, on_abandoned: Callable[[], None] | None = None
    ) -> None:
        self.ids = ids
        self.pieces: list[Piece] = pieces or []
        self.ending: Ending | None = None
        # How often the model's server said that it is loading.
        self.loading = 0
        self._waiting: set[asyncio.Future[bool]] = set()
        self._readers = 0
        # Who has not begun to read, and is going to: the task that asked for the answer, readers that were opened.
        self._expected: set[object] = set()
        self._left = asyncio.Event()
        self._on_abandoned = on_abandoned

    @property
    def position(self) -> int:
        """How many characters are committed."""
        return self.pieces[-1].position if self.pieces else 0

    @property
    def content(self) -> str:
        """The answer's text so far, without what was thought and called."""
        return "".join(piece.text for piece in self.pieces if piece.kind == CONTENT)

    @property
    def reasoning_chars(self) -> int:
        """How many characters, from the beginning, are reasoning."""
        return reasoning_first(self.pieces)

    def mark_reasoning(self, up_to: int) -> None:
        """The first ``up_to`` characters were reasoning, whatever they came as. Their positions stay."""
        if up_to:
            self.pieces = as_reasoning(self.pieces, up_to)

    def extend(self, pieces: list[Piece]) -> None:
        """Add what is not here yet: a batch and a look into the database may both bring the same text."""
        if new := beyond_position(pieces, self.position):
            for piece in new:
                self._append(piece)
            self._wake()

    def _append(self, piece: Piece) -> None:
        """Add a piece, to the last one if there is room: of a piece a token, a long answer would be many objects.

        With some hundred answers at a time Python's collector spent a tenth of the process on looking at them.
        """
        last = self.pieces[-1] if self.pieces else None
        if last is not None and len(last.text) + len(piece.text) <= MAX_PIECE and last.continued_by(piece):
            self.pieces[-1] = Piece(piece.position, piece.kind, last.text + piece.text, last.call)
        else:
            self.pieces.append(piece)

    def tell_loading(self) -> None:
        """Tell those who read now that the model's server is still loading the model."""
        self.loading += 1
        self._wake()

    def finish(self, ending: Ending) -> None:
        """Set the ending. The first one stays."""
        if self.ending is None:
            self.ending = ending
            self._wake()

    def after(self, position: int) -> tuple[list[Piece], int]:
        """Return what follows ``position`` within its piece, and the index of the next whole piece.

        Raises ``InvalidPosition`` when so much text is not there.
        """
        if position >= self.position:
            if position > self.position:
                raise InvalidPosition()
            return [], len(self.pieces)
        index = bisect_right(self.pieces, position, key=attrgetter("position"))
        if index < len(self.pieces):
            piece = self.pieces[index]
            missing = piece.position - position
            if missing < len(piece.text):
                return [piece.last(missing)], index + 1
        return [], index

    async def wait(self, seconds: float) -> bool:
        """Wait until there is more, or for ``seconds``; tell whether there is."""
        loop = asyncio.get_running_loop()
        # Every event of a stream waits here once: a future and a timer cost a third of an Event in a timeout.
        changed: asyncio.Future[bool] = loop.create_future()
        self._waiting.add(changed)
        timer = loop.call_later(seconds, _settle, changed, False)
        try:
            return await changed
        finally:
            timer.cancel()
            self._waiting.discard(changed)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count a reader; when the last one leaves an answer that still runs, the owner is told."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._left.set()
                self.tell_if_abandoned()

    def expect(self, asker: asyncio.Task[Any] | None) -> None:
        """Count a task as a reader until it opens one, or ends; None is nobody."""
        if asker is None:
            self.tell_if_abandoned()
        else:
            self._expected.add(asker)
            asker.add_done_callback(self.stop_expecting)

    def expect_opened(self, reader: object) -> weakref.finalize[[asyncio.AbstractEventLoop, Transcript, int], object]:
        """Count what is going to read until it begins, or is dropped unread; call what this returns when it begins.

        The task that opens it is no longer expected itself.
        """
        if task := asyncio.current_task():
            task.remove_done_callback(self.stop_expecting)
            self._expected.discard(task)
        token = object()  # not the reader's id: another reader may have that before this one is given up
        self._expected.add(token)
        dropped = weakref.finalize(reader, _dropped, asyncio.get_running_loop(), self, token)
        dropped.atexit = False
        return dropped

    def stop_expecting(self, expected: object) -> None:
        """One that was going to read does not."""
        self._expected.discard(expected)
        self.tell_if_abandoned()

    def tell_if_abandoned(self) -> None:
        """Tell the owner if nobody reads an answer that still runs, and nobody is going to."""
        if not self._readers and not self._expected and self.ending is None and self._on_abandoned:
            self._on_abandoned()

    async def readers_gone(self) -> None:
        """Wait until nobody reads."""
        while self._readers:
            self._left.clear()
            await self._left.wait()

    def _wake(self) -> None:
        for changed in self._waiting:
            _settle(changed, True)


def _dropped(loop: asyncio.AbstractEventLoop, transcript: Transcript, token: object) -> None:
    """Whoever collects the reader may do so in any thread, and after the end of the loop."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(transcript.stop_expecting, token)


def _settle(changed: asyncio.Future[bool], value: bool) -> None:
    if not changed.done():
        changed.set_result(value)


async def readers_gone(transcripts: list[Transcript]) -> None:
    """Wait until ended answers have no readers, or as long as a reader may take for its last events."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_EVENTS_SECONDS):
            for transcript in transcripts:
                if transcript.ending:
                    await transcript.readers_gone()

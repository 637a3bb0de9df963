"""One async iterator of events for every door: SSE, WebSocket, the plain JSON answer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice

from django.utils import translation

from .. import conf
from ..exceptions import InvalidPosition
from . import answer_errors, engines
from .events import (
    FAILED,
    MAX_PIECE,
    AnswerIds,
    DoneEvent,
    Ending,
    ErrorEvent,
    Event,
    Folded,
    IdleEvent,
    LoadingEvent,
    Piece,
    as_reasoning,
    folded,
)
from .transcript import Transcript

# A batch carries at most so many characters: servers hold copies of it for a reader that takes nothing.
MAX_BATCH = MAX_PIECE
IDLE: Sequence[Event] = (IdleEvent(),)
LOADING: Sequence[Event] = (LoadingEvent(),)


class Reader:
    """Reads one answer from a position on. Make it with ``open_reader``; iterate ``batches`` once."""

    def __init__(self, transcript: Transcript, after: int) -> None:
        self.ids: AnswerIds = transcript.ids
        self._transcript = transcript
        transcript.after(after)  # raises where so much is not there
        self._position = after
        self._begins = transcript.expect_opened(self)
        self._loading = 0
        self._language = translation.get_language()

    @property
    def position(self) -> int:
        """How many characters were read, with those that the reader had before."""
        return self._position

    async def batches(self) -> AsyncGenerator[Sequence[Event], None]:
        """Yield lists of events as they become available: text, at last an error if there was one, and the end.

        While nothing happens, an ``IdleEvent`` comes every ``PING_INTERVAL`` seconds. Closing the iterator
        leaves the answer; whether that stops it is the setting ``ON_DISCONNECT``.
        """
        transcript = self._transcript
        with transcript.reading():
            self._begins()
            while True:
                if batch := self._take():
                    yield batch
                elif transcript.ending:
                    yield self._end(transcript.ending)
                    return
                elif self._loading != transcript.loading:
                    self._loading = transcript.loading
                    yield LOADING
                elif not await transcript.wait(conf.get().PING_INTERVAL):
                    yield IDLE

    def _take(self) -> list[Piece]:
        # By position, not by index: pieces grow, and are joined, meanwhile.
        batch, index = self._transcript.after(self._position)
        size = len(batch[0].text) if batch else 0
        for piece in islice(self._transcript.pieces, index, None):
            size += len(piece.text)
            if batch and size > MAX_BATCH:
                break
            batch.append(piece)
        if batch:
            self._position = batch[-1].position
        return batch

    def _end(self, ending: Ending) -> list[Event]:
        done = DoneEvent(self._position, self.ids, ending, self._transcript.reasoning_chars)
        if ending.status != FAILED:
            return [done]
        with translation.override(self._language):
            message = str(answer_errors.describe(ending.error_code, ending.error_message))
        retry_after = answer_errors.retry_after_of(ending.error_code, ending.retry_after)
        return [ErrorEvent(self._position, ending.error_code, message, retry_after), done]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, as the plain JSON call returns it."""

    ids: AnswerIds
    said: Folded
    ending: Ending

    @property
    def content(self) -> str:
        """What the model said, without what it thought and called."""
        return self.said.content


async def open_reader(generation_id: uuid.UUID, after: int = 0) -> Reader:
    """Return a reader of what follows ``after``; raises ``NotFound`` or ``InvalidPosition`` before any event."""
    transcript = await engines.current().transcript(generation_id, after)
    if after < 0:
        raise InvalidPosition()
    return Reader(transcript, after)


async def collect(generation_id: uuid.UUID) -> Answer:
    """Wait for the end of an answer and return it whole."""
    reader = await open_reader(generation_id)
    pieces: list[Piece] = []
    async with aclosing(reader.batches()) as batches:
        async for event in (event async for batch in batches for event in batch):
            if isinstance(event, Piece):
                pieces.append(event)
            elif isinstance(event, DoneEvent):
                return Answer(reader.ids, folded(as_reasoning(pieces, event.reasoning_chars)), event.ending)
    raise AssertionError("a reader ended without DoneEvent")

"""One async iterator of events for every edge: SSE, WebSocket, the plain JSON answer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice

from django.utils import translation

from .. import conf, problems
from ..exceptions import InvalidPosition
from . import supervisor
from .events import CONTENT, FAILED, MAX_PIECE, AnswerIds, DoneEvent, Ending, ErrorEvent, Event, IdleEvent, Piece
from .transcript import Transcript

# A batch carries at most so many characters: servers hold copies of it for a reader that takes nothing.
MAX_BATCH = MAX_PIECE
IDLE: Sequence[Event] = (IdleEvent(),)


class Reader:
    """Reads one answer from a position on. Make it with ``open_reader``; iterate ``batches`` once."""

    def __init__(self, transcript: Transcript, after: int) -> None:
        self.ids: AnswerIds = transcript.ids
        self._transcript = transcript
        transcript.after(after)  # raises where so much is not there
        self._position = after
        self._language = translation.get_language()

    async def batches(self) -> AsyncGenerator[Sequence[Event], None]:
        """Yield lists of events as they become available: text, at last an error if there was one, and the end.

        While nothing happens, an ``IdleEvent`` comes every ``PING_INTERVAL`` seconds. Closing the iterator
        leaves the answer; whether that stops it is the setting ``ON_DISCONNECT``.
        """
        transcript = self._transcript
        with transcript.reading():
            while True:
                if batch := self._take():
                    yield batch
                elif transcript.ending:
                    yield self._end(transcript.ending)
                    return
                elif not await transcript.wait(conf.get().PING_INTERVAL):
                    yield IDLE

    def _take(self) -> list[Piece]:
        # By position, not by index: pieces grow, and are joined, meanwhile.
        batch, index = self._transcript.after(self._position)
        size = sum(len(piece.text) for piece in batch)
        for piece in islice(self._transcript.pieces, index, None):
            size += len(piece.text)
            if batch and size > MAX_BATCH:
                break
            batch.append(piece)
        if batch:
            self._position = batch[-1].position
        return batch

    def _end(self, ending: Ending) -> list[Event]:
        done = DoneEvent(self._position, self.ids, ending)
        if ending.status != FAILED:
            return [done]
        with translation.override(self._language):
            message = str(problems.describe(ending.error_code, ending.error_message))
        return [ErrorEvent(self._position, ending.error_code, message, ending.retry_after), done]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, as the plain JSON call returns it."""

    ids: AnswerIds
    content: str
    ending: Ending


async def open_reader(generation_id: uuid.UUID, after: int = 0) -> Reader:
    """Return a reader of what follows ``after``; raises ``NotFound`` or ``InvalidPosition`` before any event."""
    transcript = await supervisor.current().transcript(generation_id, after)
    if after < 0:
        raise InvalidPosition()
    return Reader(transcript, after)


async def collect(generation_id: uuid.UUID) -> Answer:
    """Wait for the end of an answer and return it whole."""
    reader = await open_reader(generation_id)
    content: list[str] = []
    async with aclosing(reader.batches()) as batches:
        async for event in (event async for batch in batches for event in batch):
            if isinstance(event, Piece) and event.kind == CONTENT:
                content.append(event.text)
            elif isinstance(event, DoneEvent):
                return Answer(reader.ids, "".join(content), event.ending)
    raise AssertionError("a reader ended without DoneEvent")

"""A running answer of this process, on its way from the provider into the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from django.utils import timezone

from .completions import ContentDelta, Delta, Flowing, ReasoningDelta, ThoughtSoFar, ToolCallDelta
from .ends import Entry
from .events import CONTENT, FAILED, REASONING, TOOL_CALL, AnswerIds, Call, Ending, Piece, cut
from .log_keys import LogKeys
from .transcript import Transcript

logger = logging.getLogger("conversations.generation")

# A producer that is so many characters ahead of the database waits, however its provider reads.
MAX_PENDING = 262_144


class _Said(NamedTuple):
    kind: str
    text: str
    call: Call | None = None


class Run:
    """A running answer of this process: the text that is not committed yet, and where the rest goes."""

    def __init__(self, ids: AnswerIds, *, on_abandoned: Callable[[], None] | None = None) -> None:
        self.ids = ids
        self.transcript = Transcript(ids, on_abandoned=on_abandoned)
        # The task that makes it, while it can be cancelled.
        self.producer: asyncio.Task[None] | None = None
        self.requested_ending: Ending | None = None
        # Text that comes meanwhile, and is taken in as the log is about to store it.
        self.flowing: Flowing | None = None
        self.first_token_at: datetime | None = None
        # When what it thinks first had ended, as far as it has thought.
        self._reasons = False
        self._reasoning_ended_at: datetime | None = None
        self.finished = asyncio.Event()
        self.ending: Ending | None = None
        # How much of what was taken, and perhaps stored, is yet to be known as reasoning.
        self._reasoning_up_to = 0
        self._pending: list[_Said] = []
        self._pending_size = 0
        self._streamed = 0
        # Calls of tools are counted as they begin, whatever the provider's numbers are.
        self._numbers: dict[int, int] = {}
        # One of which nothing but its names came: they are told with the first of its arguments.
        self._opening: Call | None = None
        # The keys of its rows in the log.
        self._keys: list[int] = []

    def add(self, delta: Delta) -> None:
        """Take text, or a piece of a tool's call, in."""
        if isinstance(delta, ContentDelta):
            self._end_reasoning()
            self._add(_Said(CONTENT, delta.text))
        elif isinstance(delta, ReasoningDelta):
            self._reasons = True
            self._add(_Said(REASONING, delta.text))
        elif isinstance(delta, ToolCallDelta):
            self._add_call(delta)
        elif isinstance(delta, ThoughtSoFar):
            self._mark_reasoning()

    def take_in(self) -> None:
        """Take in what has come of text that flows."""
        if self.flowing is None or self.finished.is_set() or self.ending is not None:
            return
        try:
            for delta in self.flowing.take():
                self.add(delta)
        except Exception:  # a fault of ours, or of a provider's, is this answer's end and nobody else's
            logger.exception("generation %s failed", self.ids.generation_id)
            self.flowing = None
            self.requested_ending = self.requested_ending or Ending(FAILED, error_code="internal_error")
            if self.producer is not None:
                self.producer.cancel()

    def _add_call(self, delta: ToolCallDelta) -> None:
        self.first_token_at = self.first_token_at or timezone.now()
        self._end_reasoning()
        if delta.id:
            self.close_call()
            number = self._numbers[delta.index] = len(self._numbers)
            self._opening = Call(number, delta.id, delta.name)
        if delta.arguments:
            call, self._opening = self._opening or Call(self._numbers[delta.index]), None
            self._add(_Said(TOOL_CALL, delta.arguments, call))

    def close_call(self) -> None:
        """No more comes of a call: one without arguments has none in JSON, so that it has a place in the text.

        To be called as another begins, which this does by itself, and at the end.
        """
        if self._opening:
            call, self._opening = self._opening, None
            self._add(_Said(TOOL_CALL, "{}", call))

    def _end_reasoning(self) -> None:
        if self._reasons and self._reasoning_ended_at is None:
            self._reasoning_ended_at = timezone.now()

    def _add(self, said: _Said) -> None:
        self.first_token_at = self.first_token_at or timezone.now()
        self._pending.append(said)
        self._pending_size += len(said.text)

    def _mark_reasoning(self) -> None:
        """All text so far was reasoning: what is pending, and by the next entry what was taken."""
        self._pending = [said._replace(kind=REASONING) if said.kind == CONTENT else said for said in self._pending]
        self._reasoning_up_to = self._streamed
        self._reasons = True
        self._end_reasoning()

    @property
    def has_news(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(self._pending or self._reasoning_up_to or self.ending)

    @property
    def is_ahead(self) -> bool:
        """Whether more is pending than should be."""
        return self._pending_size > MAX_PENDING

    def take(self, keys: LogKeys) -> Entry:
        """Move what is pending into an entry for the database, neighbours of one kind joined."""
        pieces: list[Piece] = []
        for (kind, call), group in groupby(self._pending, itemgetter(0, 2)):
            whole = "".join([said.text for said in group])
            pieces += cut(self._streamed, kind, whole, call)
            self._streamed += len(whole)
        self._pending.clear()
        self._pending_size = 0
        up_to, self._reasoning_up_to = self._reasoning_up_to, 0
        if self.ending:
            self._end_reasoning()
            # Every append of ours that is not in this entry is committed, and nobody else adds any.
            return Entry(
                self.ids.generation_id,
                pieces,
                ending=self.ending,
                first_token_at=self.first_token_at,
                reasoning_ended_at=self._reasoning_ended_at,
                before=list(self.transcript.pieces) if self._keys else [],
                keys_before=self._keys,
                reasoning_up_to=up_to,
            )
        first_key = keys.take(len(pieces))
        self._keys += range(first_key, first_key + len(pieces))
        return Entry(self.ids.generation_id, pieces, first_key, reasoning_up_to=up_to)

    def settle(self, ending: Ending) -> None:
        """Nothing more will come: tell readers and whoever waits for the end."""
        self.transcript.finish(ending)
        self.finished.set()

"""An answer as it comes: how long each part of it may take, and its text while nothing else comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol

from django.utils.translation import gettext_noop

from .. import conf
from ..answer import AnswerFraming
from ..base import nobody_cares
from ..exceptions import AnswerCut, ProviderError, UpstreamTimeout
from ..net.deadline import Deadline
from ..net.flow import STEP, Flow
from ..net.http import Reply
from ..sse import Event
from ..types import CompletionFinished, Delta

# How long to wait after the finish reason for usage and the last word.
USAGE_SECONDS = 2.0
# What a reply may come to after all that matters is here.
GONE = (AnswerCut, UpstreamTimeout)


class Reader(Protocol):
    """Turns the events of one answer into deltas, as ``AnswerReader`` does: its attributes are told there."""

    finish_reason: str | None
    events: int
    unknown_parts: set[str]

    @property
    def begun(self) -> bool: ...

    @property
    def unopened(self) -> bool: ...

    @property
    def whole(self) -> bool: ...

    def read(self, events: Iterable[Event]) -> Iterator[Delta]: ...

    def flush(self) -> list[Delta]: ...

    def finished(self) -> CompletionFinished: ...


class Pace:
    """Reads a reply, with the patience that its phase deserves."""

    def __init__(self, deadline: Deadline, answer: Reader) -> None:
        self._deadline = deadline
        self._answer = answer
        self._between = conf.get().BETWEEN_TOKENS_TIMEOUT
        self._events = 0
        self._ending = False

    async def read(self, reply: Reply) -> bytes:
        """Return the next bytes, or ``b""`` when there are no more or no more are needed."""
        answer = self._answer
        if answer.whole:
            return b""
        if answer.finish_reason is None:
            self.look()
            return await reply.read()
        if not self._ending:
            self._ending = True
            self._deadline.set(USAGE_SECONDS, "")
        with suppress(*GONE):
            self._deadline.check()
            return await reply.read()
        return b""

    def look(self) -> None:
        """Set the time limit anew if the answer went on: any event counts, as some models think in empty deltas, and
        no comment does.
        """
        if self._answer.begun and self._answer.events > self._events:
            self._events = self._answer.events
            self.begin()

    def begin(self) -> None:
        """Give the next event its time, from now."""
        self._deadline.set(self._between, gettext_noop("The model stopped in the middle of its answer."))


class FlowingText:
    """Text, thoughts and calls after the first of them: taken from the reply without a task, a timer or a wait."""

    def __init__(self, reply: Reply, answer: Reader, framing: AnswerFraming, flow: Flow, pace: Pace) -> None:
        self._reply = reply
        self._answer = answer
        self._framing = framing
        self._flow = flow
        self._pace = pace
        self._over: asyncio.Future[None] | None = None
        self.on_news: Callable[[], None] = nobody_cares

    async def until_over(self, deadline: Deadline) -> None:
        """Wait, as long as text is taken, for what is to be read otherwise; raises what the text itself raised."""
        over = self._over = asyncio.get_running_loop().create_future()
        self._pace.look()
        self._reply.tell(self.on_news)
        self.on_news()  # something may be there already
        try:
            await deadline.wait(over)
        except UpstreamTimeout:
            # It is not the upstream that is late where whoever takes has not taken what it sent. Its own word that
            # something took too long is another matter.
            if not over.cancelled() or not self._reply.waits:
                raise
            self._pace.begin()
        finally:
            self._over = None
            self._reply.tell(None)
        if self._flow.is_beyond:
            await self._flow.pause()

    def take(self) -> list[Delta]:
        """As ``llmproviders.base.Flowing`` says."""
        deltas: list[Delta] = []
        if self._over is None or self._over.done():
            return deltas
        chunk = self._reply.take(STEP)
        try:
            for step in self._flow.steps(chunk or b""):
                for delta in self._answer.read(self._framing.feed(step)):
                    deltas.append(delta)
                    self._flow.said(delta)
                self._flow.took(step)
        except ProviderError as error:
            self._over.set_exception(error)
            return deltas
        self._pace.look()
        if chunk is None or self._reply.is_over or self._flow.is_beyond or self._is_ending:
            self._over.set_result(None)
        return deltas

    @property
    def _is_ending(self) -> bool:
        return self._answer.whole or self._answer.finish_reason is not None

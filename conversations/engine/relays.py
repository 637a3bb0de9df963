"""Answers that are passed on and not stored: what a model says goes out as it comes.

A relay lives as long as somebody reads it. Whoever leaves closes the upstream; what was used is settled then.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import cast

from .. import conf
from ..database import db
from ..exceptions import AnswerStopped, ChatError, ShuttingDown
from ..limits import relays
from ..limits.relays import Counted
from . import completions
from .background import start_task
from .completions import (
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    EmptyAnswer,
    Endpoint,
    ProviderError,
    ReasoningDelta,
    ToolCallDelta,
    breaker,
)
from .events import COMPLETED, FAILED, STOPPED
from .maintenance import guarded

logger = logging.getLogger("conversations.relays")

# How often it is looked for relays of ours that nobody reads or that could not be settled (seconds): one look may come
# in between a commit and what follows it, two do not.
LOOK_EVERY = 10.0
BUSY_SECONDS = 5
# How often it is looked for relays of ours that somebody stopped (seconds).
LOOK_FOR_STOPPED_EVERY = 1.0
# Deltas that wait for a slow reader, before the model has to wait for them.
MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """All that a relay needs: its row is committed. ``switched`` notes that another model answers instead."""

    relay_id: uuid.UUID
    endpoint: Endpoint
    request: CompletionRequest
    fallbacks: Sequence[Endpoint]
    switched: Callable[[Endpoint], Awaitable[None]]


class Relaying:
    """One relay of this process. Iterate ``batches`` once."""

    def __init__(self, plan: RelayPlan, settle: Callable[[Relaying], None]) -> None:
        self.plan = plan
        self.endpoint = plan.endpoint
        self.finished = asyncio.Event()
        self.status = STOPPED
        self.counted: Counted | None = None
        self._said: list[str] = []
        self._settle = settle
        self._task: asyncio.Task[None] | None = None
        self._cut: ChatError | None = None
        self._is_settled = False
        # What came and nobody took yet; that there is something, or the end; that there is room for more.
        self._waiting: list[Delta] = []
        self._news, self._room = asyncio.Event(), asyncio.Event()

    @property
    def text(self) -> str:
        """All that was said, in whatever form."""
        return "".join(self._said)

    @property
    def is_read(self) -> bool:
        """Whether somebody began to read it: who asked may have left before that."""
        return self._task is not None

    def cut(self, reason: ChatError) -> None:
        """End it: whoever reads gets the reason after what came before."""
        self._cut = reason
        if self._task is not None:
            self._task.cancel()
        else:
            self.give_up()

    def give_up(self) -> None:
        """Settle what nobody read: no model was asked."""
        self.status = FAILED
        self._settle_once()

    def _settle_once(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._settle(self)

    async def begin(self) -> tuple[list[Delta], AsyncGenerator[list[Delta], None]]:
        """Wait for the first word; return the first batch and what yields the others. Raises as ``batches`` does."""
        batches = self.batches()
        try:
            while not (first := await anext(batches)):
                pass
        except BaseException:
            await batches.aclose()
            raise
        return first, batches

    async def batches(self) -> AsyncGenerator[list[Delta], None]:
        """Yield what the model said since the last batch, nothing where it was silent for ``PING_INTERVAL``.

        Raises ``ProviderError``, and ``ShuttingDown`` or ``AnswerStopped`` where it is cut. Closing it closes the
        upstream.
        """
        if self._is_settled:
            raise self._cut or ShuttingDown(retry_after=BUSY_SECONDS)
        pause = conf.get().PING_INTERVAL
        task = self._task = asyncio.create_task(self._read(), name="relay")
        task.add_done_callback(lambda _task: self._news.set())
        try:
            while self._waiting or not task.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                self._news.clear()
                batch, self._waiting = self._waiting, []
                self._room.set()
                if batch or not task.done():
                    yield batch
            if self._cut and task.cancelled():
                raise self._cut
            await task
        finally:
            task.cancel()
            try:
                await asyncio.gather(task, return_exceptions=True)
            finally:
                self._settle_once()

    async def _read(self) -> None:
        """Take what the model says, as long as there is room for it."""
        try:
            async with aclosing(self._from_whoever_begins()) as deltas:
                async for delta in deltas:
                    self._take(delta)
                    if len(self._waiting) >= MOST_WAITING:
                        self._room.clear()
                        await self._room.wait()
        except EmptyAnswer as error:
            if error.finished is None or not error.finished.finish_reason:
                self.status = FAILED
                raise
            self._take(error.finished)  # an answer of no words is one here
        except ProviderError as error:
            if error.finished:
                self._note(error.finished)
            self.status = FAILED
            raise

    def _take(self, delta: Delta) -> None:
        self._note(delta)
        self._waiting.append(delta)
        self._news.set()

    def _note(self, delta: Delta) -> None:
        if isinstance(delta, ContentDelta | ReasoningDelta):
            self._said.append(delta.text)
        elif isinstance(delta, ToolCallDelta):
            self._said.append(f"{delta.name}{delta.arguments}")
        elif isinstance(delta, CompletionFinished):
            self.status = COMPLETED
            if usage := delta.usage:
                counts = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
                self.counted = Counted(*counts, usage.reasoning_tokens)

    async def _from_whoever_begins(self) -> AsyncGenerator[Delta, None]:
        """Yield the deltas of the first model that begins to answer."""
        endpoints = [self.plan.endpoint, *self.plan.fallbacks]
        for place, endpoint in enumerate(endpoints):
            is_last = place == len(endpoints) - 1
            if endpoint is not self.endpoint:
                self.endpoint = endpoint
                await self.plan.switched(endpoint)
            if not is_last and not breaker.lets_through(endpoint):
                continue
            try:
                async with aclosing(self._from_one(endpoint)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except ProviderError as error:
                if is_last or self._said or not completions.is_endpoints_own(error):
                    raise
                logger.warning("relay %s: %s, another model answers", self.plan.relay_id, error.code)

    async def _from_one(self, endpoint: Endpoint) -> AsyncGenerator[Delta, None]:
        begun = False
        try:
            stream = cast(AsyncGenerator[Delta, None], completions.stream(endpoint, self.plan.request))
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    if not begun:
                        begun = True
                        breaker.worked(endpoint)
                    yield delta
        except ProviderError as error:
            if not begun and completions.is_endpoints_own(error):
                breaker.failed(endpoint)
            raise
        finally:
            breaker.given_up(endpoint)


class Relays:
    """The relays of one event loop."""

    def __init__(self, worker_id: Callable[[], uuid.UUID]) -> None:
        self._worker_id = worker_id
        self.running: dict[uuid.UUID, Relaying] = {}
        self._settling: set[asyncio.Task[None]] = set()
        # Those whose end the database did not take.
        self._unsettled: dict[uuid.UUID, Relaying] = {}

    def begin(self, plan: RelayPlan) -> Relaying:
        """Return a relay that is to be read."""
        relaying = self.running[plan.relay_id] = Relaying(plan, self._settle)
        return relaying

    def refuse(self, plan: RelayPlan) -> None:
        """Settle a relay that is not to be read at all: it cost nothing."""
        Relaying(plan, self._settle).give_up()

    async def settled(self) -> None:
        """Wait until all that has ended is settled, or could not be."""
        await asyncio.gather(*self._settling, return_exceptions=True)

    def _settle(self, relaying: Relaying) -> None:
        """Settle beside whoever read it: they may be gone."""
        task = start_task(self._settled(relaying), "relay settles", contextvars.Context())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settled(self, relaying: Relaying) -> None:
        relay_id = relaying.plan.relay_id
        try:
            await self._stored(relaying)
            logger.info("relay %s %s, %d characters", relay_id, relaying.status, len(relaying.text))
        finally:
            self.running.pop(relay_id, None)
            relaying.finished.set()

    async def _stored(self, relaying: Relaying) -> None:
        relay_id = relaying.plan.relay_id
        self._unsettled[relay_id] = relaying
        settling = db.write_together(
            relays.settle, relay_id, status=relaying.status, text=relaying.text, counted=relaying.counted
        )
        if await guarded(settling):
            self._unsettled.pop(relay_id, None)

    async def look_forever(self) -> None:
        """Settle what could not be settled, and relays that nobody reads: who asked had left before the first word."""
        suspects: set[uuid.UUID] = set()
        unread: list[Relaying] = []
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for relaying in unread:
                if not relaying.is_read:
                    relaying.give_up()
            unread = [relaying for relaying in self.running.values() if not relaying.is_read]
            for relaying in list(self._unsettled.values()):
                await self._stored(relaying)
            found: set[uuid.UUID] = set()
            await guarded(self._look(found))
            for relay_id in found & suspects:
                await guarded(db.write(relays.settle, relay_id, status=FAILED, text="", counted=None))
            suspects = found

    async def look_for_stopped_forever(self) -> None:
        """End those that somebody stopped, in this process or another."""
        while True:
            await asyncio.sleep(LOOK_FOR_STOPPED_EVERY)
            if self.running:
                await guarded(self._cut_stopped())

    async def _cut_stopped(self) -> None:
        for relay_id in await db.background(relays.stopped_of, self._worker_id()):
            if relaying := self.running.get(relay_id):
                relaying.cut(AnswerStopped())

    async def _look(self, found: set[uuid.UUID]) -> None:
        ours = [*self.running, *self._unsettled]
        found.update(await db.background(relays.of_worker, self._worker_id(), but=ours))

    async def end(self) -> None:
        """Cut what still runs, and settle it."""
        for relaying in list(self.running.values()):
            relaying.cut(ShuttingDown(retry_after=BUSY_SECONDS))
        await asyncio.gather(*(relaying.finished.wait() for relaying in list(self.running.values())))
        await self.settled()

"""One answer that is passed on and not stored: what a model says goes out as it comes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import cast

from .. import conf
from ..exceptions import ChatError, ShuttingDown
from ..limits.relays import Counted
from . import completions
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

logger = logging.getLogger("conversations.relays")

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
            raise self._cut or ShuttingDown()
        pause = conf.get().PING_INTERVAL
        task = self._task = asyncio.create_task(self._read(), name="relay")
        task.add_done_callback(self._read_to_end)
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

    def _read_to_end(self, _task: asyncio.Task[None]) -> None:
        self._news.set()
        if self._cut:  # whoever reads may take nothing more, and what was cut is not to count until they leave
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

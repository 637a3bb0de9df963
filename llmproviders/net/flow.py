"""How much a server may send, and how fast it is read, beside the text that it says.

A server may send comments, empty events or padding without end. It ends as an answer that is too large, and until then
it is read so slowly that nobody else in the process notices it: the connection itself holds it back.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge
from ..types import ContentDelta, Delta, ReasoningDelta, ToolCallDelta

# Bytes that are taken apart before others have their turn (a millisecond or so).
STEP = 2_048
# What an event weighs around its text: a few hundred bytes, for a text of one character too.
BYTES_A_CHARACTER = 1_024
# So much beyond that is nobody's concern. What is beyond this as well, in all answers of the loop together, gets this
# share of the loop's time: each step is followed by a pause that is as much longer than it. Time of the clock, not of
# the processor: where others compete for that, a step keeps the loop for longer.
FREE = 8_192
SHARE = 0.2
# Seconds that a pause may last, whatever else ran meanwhile and was counted with the step.
LONGEST_PAUSE = 0.5

# How many answers of a loop are beyond what is free.
_beyond: WeakKeyDictionary[asyncio.AbstractEventLoop, Counter[str]] = WeakKeyDictionary()


class Flow:
    """Counts the bytes of one answer that are not its text's. ``most`` is how many there may be."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._excess = 0
        self._began = self._lasted = 0.0

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """Cut what was read so small that one step keeps nobody waiting."""
        for start in range(0, len(chunk), STEP):
            self._began = time.perf_counter()
            yield chunk[start : start + STEP] if len(chunk) > STEP else chunk

    def said(self, delta: Delta) -> None:
        """Take note of text, which pays for the bytes around it."""
        if isinstance(delta, ContentDelta | ReasoningDelta):
            self._excess -= BYTES_A_CHARACTER * len(delta.text)
        elif isinstance(delta, ToolCallDelta):
            self._excess -= BYTES_A_CHARACTER * (len(delta.name) + len(delta.arguments))

    def took(self, step: bytes) -> None:
        """Count a step that was taken apart. Raises ``AnswerTooLarge`` for what is too much."""
        self._lasted = time.perf_counter() - self._began
        self._excess = max(self._excess, 0) + len(step)
        if self._excess > self._most + FREE:
            raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))

    @property
    def is_beyond(self) -> bool:
        """Whether a pause is due: more came than what was said pays for."""
        return self._excess >= STEP

    async def pause(self) -> None:
        """Let the others have their turn, and for longer where too much came."""
        if self._excess > FREE:
            await _pause(self._lasted)
        else:
            await asyncio.sleep(0)


async def _pause(took: float) -> None:
    """Wait for the others, and longer where more answers do: their shares are one."""
    waiting = _beyond.setdefault(asyncio.get_running_loop(), Counter())
    waiting["answers"] += 1
    try:
        await asyncio.sleep(min(took * (waiting["answers"] / SHARE - 1), LONGEST_PAUSE))
    finally:
        waiting["answers"] -= 1

"""Endpoints that failed again and again are passed over for a while, where another model may answer instead.

Of each process by itself: what one found out costs the others a few calls.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .types import Endpoint

# So many failures in a row open it; then it is passed over for so long, twice as long each time, up to the most.
FAILURES = 5
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
MOST_KNOWN = 500

Key = tuple[str, str, str]


@dataclass(slots=True)
class _State:
    failures: int = 0
    pause: float = 0.0
    until: float = 0.0
    # Whether somebody tries it right now, to see if it is back.
    is_probed: bool = False


class Breaker:
    """What is known of endpoints, by their URL, model and whose they are."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: OrderedDict[Key, _State] = OrderedDict()

    def lets_through(self, endpoint: Endpoint) -> bool:
        """Whether to ask it now; of an open one once, as a probe, each time that its pause is over."""
        state = self._states.get(_key(endpoint))
        if state is None or state.failures < FAILURES:
            return True
        if state.is_probed or self._clock() < state.until:
            return False
        state.is_probed = True
        return True

    def failed(self, endpoint: Endpoint) -> None:
        """It did not begin to answer, for a reason that is its own."""
        state = self._states.setdefault(_key(endpoint), _State())
        self._states.move_to_end(_key(endpoint))
        state.failures += 1
        state.is_probed = False
        if state.failures >= FAILURES:
            state.pause = min(LONGEST_PAUSE, 2 * state.pause or FIRST_PAUSE)
            state.until = self._clock() + state.pause
        while len(self._states) > MOST_KNOWN:
            self._states.popitem(last=False)

    def worked(self, endpoint: Endpoint) -> None:
        """It began to answer."""
        self._states.pop(_key(endpoint), None)

    def given_up(self, endpoint: Endpoint) -> None:
        """Nobody waits any more for what it would have said: that tells nothing of it."""
        if state := self._states.get(_key(endpoint)):
            state.is_probed = False

    def seconds_left(self, endpoint: Endpoint) -> float:
        """How long it is passed over yet; 0 where it is asked."""
        state = self._states.get(_key(endpoint))
        if state is None or state.failures < FAILURES:
            return 0.0
        return max(0.0, state.until - self._clock())

    def forget(self) -> None:
        """Know nothing of any endpoint."""
        self._states.clear()


def _key(endpoint: Endpoint) -> Key:
    return endpoint.api_url, endpoint.model, endpoint.set_by


breaker = Breaker()

"""Trying a call again, as long as nobody has seen any of its answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable

from .. import conf
from ..exceptions import (
    AddressRefused,
    LocalModelMissing,
    ModelLoading,
    ProviderError,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from ..types import Delta
from .deadline import Deadline

FIRST_WAIT = 0.25
# How often a server that loads its model is asked, at least.
LOADING_WAIT = 2.0
_PASSING = (UpstreamRateLimited, UpstreamUnavailable)
_LASTING = (LocalModelMissing, AddressRefused)


async def with_retries(
    attempt: Callable[[], AsyncGenerator[Delta, None]], deadline: Deadline, loading: Callable[[], None]
) -> tuple[Delta, AsyncGenerator[Delta, None]]:
    """Return the first delta of ``attempt()``, called again after a passing failure, and what gives the others.

    Whoever calls closes that. It is not in between any more: each generator that is costs something a delta.
    Waits as long as the upstream asked for, else a growing, random time. Gives up, with the last error,
    after ``MAX_RETRIES``, when the upstream asks for more than ``MAX_RETRY_WAIT`` or more than the deadline
    leaves. A server that says that it loads its model is asked again until its first token would
    be late, and ``loading`` is called each time.
    """
    failures = 0
    loop = asyncio.get_running_loop()
    loads_until = loop.time() + conf.get().FIRST_TOKEN_TIMEOUT
    while True:
        deltas = attempt()
        try:
            return await anext(deltas), deltas
        except ModelLoading as error:
            wait = min(max(error.retry_after or 0.0, FIRST_WAIT), LOADING_WAIT)
            if loop.time() + wait > loads_until or not deadline.leaves(wait):
                raise
            loading()
        except _PASSING as error:
            asked = _wait(error, failures)
            if asked is None or not deadline.leaves(asked):
                raise
            wait = asked
            failures += 1
        await asyncio.sleep(wait)


def _wait(error: ProviderError, failures: int) -> float | None:
    """Seconds until the next try; None for none."""
    settings = conf.get()
    if isinstance(error, _LASTING) or failures >= settings.MAX_RETRIES:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= settings.MAX_RETRY_WAIT else None
    wait = FIRST_WAIT * (1 << failures) * random.uniform(0.75, 1.25)  # noqa: S311 (spreads load, guards nothing)
    return min(wait, settings.MAX_RETRY_WAIT)

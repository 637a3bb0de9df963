"""How fast those may ask who show nothing that holds, and the mark on the request of those who do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from .. import conf
from ..access.credentials import Connection, client_block

# What probes of load balancers and containers ask, by the names of the paths.
PROBES = frozenset({"health", "ready"})
# Answers to one address, a second and at first.
RATE, AT_FIRST = 25, 25
# Nobody waits longer (seconds).
LONGEST = 5.0
# Addresses that are remembered before those that have waited long enough are forgotten.
MOST_ADDRESSES = 20_000

_KNOWN = "conversations.known"


def mark_known(request: HttpRequest) -> None:
    """Note that the request showed something that holds."""
    request.META[_KNOWN] = True


def is_known(request: HttpRequest) -> bool:
    """Whether anything said so."""
    return _KNOWN in request.META


class Pace:
    """When the next answer to an address is due: ``RATE`` a second, after ``AT_FIRST`` at once. For one thread."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def delay(self, address: str, now: float) -> float:
        """Count an answer, and return how long it has to wait."""
        if len(self._due) >= MOST_ADDRESSES:
            self._forget(now)
        due = max(self._due.get(address, 0.0), now)
        wait = max(0.0, due - now - AT_FIRST / RATE)
        if wait < LONGEST:
            self._due[address] = due + 1 / RATE
        return min(wait, LONGEST)

    def _forget(self, now: float) -> None:
        self._due = {address: due for address, due in self._due.items() if due > now}
        if len(self._due) >= MOST_ADDRESSES:
            self._due.clear()


def _is_probe(request: HttpRequest) -> bool:
    """Whether the view that answered is one of health: a host may have the app's paths below a prefix."""
    match = request.resolver_match
    return match is not None and match.app_name == "conversations" and match.url_name in PROBES


# Of all requests of the process, whichever chain they pass.
_pace = Pace()


class PaceMiddleware(MiddlewareMixin):
    """Holds the answers to callers that nobody knows back, where an address asks for many.

    What they ask costs as much as what others ask, refused or not: wrong keys, paths that are none, the schema. Who
    waits holds no thread. A connection gets its answers one after the other, so a client's requests wait, too. An
    open server answers its own machine only, and probes must not wait: neither is held back.
    """

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        if is_known(request) or not conf.get().REQUIRE_LOGIN or _is_probe(request):
            return response
        address = client_block(Connection.from_request(request))
        if wait := _pace.delay(address, time.monotonic()):
            await asyncio.sleep(wait)
        return response

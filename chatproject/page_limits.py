"""How many pages at a time, and how many of one caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from conversations.access.credentials import Connection
from conversations.access.rules import Caller
from conversations.exceptions import RateLimited
from conversations.limits.rates import check_rate
from conversations.web.pace import mark_known

from .asked import takes_a_password

# How many at a time.
PAGES, PASSWORDS = 8, 2


class TurnMiddleware(MiddlewareMixin):
    """Few pages at a time: each takes a thread, and a login half a second of a processor for its password.

    Logins have turns of their own, so that many of them hold up no other page. Who waits holds no thread.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, asyncio.Semaphore]]
        self._turns = WeakKeyDictionary()

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        loop = asyncio.get_running_loop()
        pages, passwords = self._turns.setdefault(loop, (asyncio.Semaphore(PAGES), asyncio.Semaphore(PASSWORDS)))
        async with passwords if takes_a_password(request) else pages:
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))


class RateMiddleware(MiddlewareMixin):
    """Counts pages as the API counts its calls: of who is logged in, else of the address."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Refuse one too many."""
        caller = None
        if request.user.is_authenticated:
            caller = Caller.of(request.user)
            mark_known(request)
        try:
            check_rate(Connection.from_request(request), caller)
        except RateLimited as refusal:
            content = render_to_string("error.html", {"status": refusal.status, "detail": refusal.detail})
            headers = {**refusal.headers, "Retry-After": str(refusal.retry_after)}
            return HttpResponse(content, status=refusal.status, headers=headers)
        return None

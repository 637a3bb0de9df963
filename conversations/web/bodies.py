"""How large a request's body may be, by its route, and how bodies come in.

They are read whole before any view runs, which is what Django does, too; no ASGI server limits them. What is larger
than ``MAX_BODY_BYTES`` is read only where the route takes that, of whom may call, and of so many at a time.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Future
from io import BytesIO
from typing import Any, Self

from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..access.credentials import Connection, identify
from ..database import db
from ..exceptions import BodyTooLarge, BodyTooSlow, ChatError, DatabaseBusy, ServerBusy
from .asgi import ClientLeftError, Message, Receive, header, path_in, with_body
from .errors import as_chat_error
from .turns import LoopTurns, Turns

# What carries images, or a whole history. Everything else is text.
LARGE_ROUTES = re.compile(r"(^|/)(attachments|api/chat|api/agui|v1/.+)$")
# How long a large body waits for its turn (seconds).
TURN_SECONDS = 10.0
# How long it may take to come in once it has that (seconds): 20 MB at 1.4 Mbit/s. A slow one keeps others waiting.
INTAKE_SECONDS = 120.0
# Key of the ASGI scope: the body was not read, for that reason. The view raises it, once it knows who calls.
UNREAD = "conversations.body_unread"
# Another: the ``Intake`` of a large body, which has its turn.
INTAKE = "conversations.body_intake"


def takes_large(match: ResolverMatch | None) -> bool:
    """Whether a route of ours takes large bodies."""
    return match is not None and match.app_names[-1:] == ["conversations"] and bool(LARGE_ROUTES.search(match.route))


def limit_of(match: ResolverMatch | None) -> int:
    """Return how many bytes the body of a request to a route may have."""
    return conf.get().MAX_LARGE_BODY_BYTES if takes_large(match) else conf.get().MAX_BODY_BYTES


def too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a body over the limit."""
    # In words as it is read, not as it is made: that may be before anything knows the language.
    return BodyTooLarge(format_lazy(_("The body is larger than {limit} bytes."), limit=limit))


class TooLargeError(Exception):
    """The body is over the limit of a route that takes no large ones: to be refused before any view."""


class UnreadError(Exception):
    """The body was not read; ``why`` is for the view to raise."""

    def __init__(self, why: ChatError) -> None:
        self.why = why
        super().__init__()


# Bodies over the limit of text that are in memory.
_turns = LoopTurns(lambda: conf.get().LARGE_BODIES_AT_ONCE, lambda: conf.get().LARGE_BODIES_PER_CALLER)


class Intake:
    """One request's body on its way in. As a context manager it holds its turn, if it needs one, until it is left.

    ``let_go`` gives that back before: of what was parsed nobody needs the body any more. ``parsed`` is what came of
    that, where it was done before the view runs (``parsers.parse_ahead``): then ``stream``, from which the body was
    read, is closed, too, as a call may wait for minutes.
    """

    parsed: Future[Any] | None = None
    stream: BytesIO | None = None

    def __init__(self, scope: Message) -> None:
        self._scope = scope
        self._limit = conf.get().MAX_BODY_BYTES
        self._holds: tuple[Turns, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.let_go()

    async def read(self, receive: Receive) -> tuple[Message, Receive]:
        """Return what the request is answered with, the whole body in its first message.

        Raises ``ClientLeftError``, ``TooLargeError`` and ``UnreadError``; what is left of the body is not read then.
        """
        try:
            async with asyncio.timeout(None) as self._time:
                body = await self._whole(receive)
        except TimeoutError:
            raise UnreadError(BodyTooSlow()) from None
        scope = self._scope if self._holds is None else {**self._scope, INTAKE: self}
        return with_body(scope, receive, body)

    async def _whole(self, receive: Receive) -> bytes:
        body, size, more = bytearray(), _declared_length(self._scope), True
        await self._check(size)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            body += message.get("body", b"")
            size = max(size, len(body))
            await self._check(size)
            more = message.get("more_body", False)
        return bytes(body)

    async def _check(self, size: int) -> None:
        if size > self._limit and self._holds is None:
            self._limit = await self._admitted()
        if size > self._limit:
            raise UnreadError(too_large(self._limit))

    async def _admitted(self) -> int:
        """Return the limit of a large body, which has its turn now."""
        if not takes_large(_match_of(self._scope)):
            raise TooLargeError
        try:
            caller = await db.read(identify, Connection.from_scope(self._scope))
        except Exception as error:
            raise UnreadError(as_chat_error(error) or DatabaseBusy()) from error
        turns = _turns.here()
        try:
            await turns.take(caller.user_identifier, TURN_SECONDS)
        except ServerBusy as error:
            raise UnreadError(error) from None
        self._holds = turns, caller.user_identifier
        self._time.reschedule(asyncio.get_running_loop().time() + INTAKE_SECONDS)
        return conf.get().MAX_LARGE_BODY_BYTES

    def let_go(self) -> None:
        """Give the turn back, if it is still held."""
        if self._holds is not None:
            turns, who = self._holds
            self._holds = None
            turns.give_back(who)
            if self.parsed is not None and self.stream is not None:
                self.stream.close()


def intake_of(request: HttpRequest) -> Intake | None:
    """Return how a request's body came in, if it is a large one."""
    intake: Intake | None = getattr(request, "scope", {}).get(INTAKE)
    return intake


def let_go(request: HttpRequest) -> None:
    """Give back the turn of a request's body, if it has one: the body was parsed, or is not needed."""
    if intake := intake_of(request):
        intake.let_go()


def _match_of(scope: Message) -> ResolverMatch | None:
    path = path_in(scope)
    try:
        return resolve(path.rstrip("/") or "/")
    except Resolver404:
        return None


def _declared_length(scope: Message) -> int:
    """Return the request's Content-Length, 0 where there is none or it is no number."""
    value = header(scope, b"content-length")
    return int(value) if value.isdigit() and len(value) < 20 else 0

"""HTTP calls to models: the only module here that knows the HTTP client.

One client for each running event loop and each policy (``policy.py``), shared by all calls under it: so a
connection that the operator's calls opened is never reused for a user's. httpx is the interface and aiohttp the
transport: httpx's own loses its connection pool when requests are cancelled (httpcore issue 1093) and is
several times slower.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from django.utils.translation import gettext_noop
from httpx_aiohttp import AiohttpTransport

from . import conf
from .connector import Connector, no_answer
from .exceptions import (
    AnswerCut,
    AnswerTooLarge,
    ProviderError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from .policy import Policy

T = TypeVar("T")

logger = logging.getLogger("llmproviders")
# At INFO these log whole URLs, and a URL's query may hold a key.
for _name in ("httpx", "httpcore", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.WARNING)

KEEP_ALIVE_SECONDS = 30.0
_NOT_HTTP = (aiohttp.ClientError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)
_clients: WeakKeyDictionary[AbstractEventLoop, dict[Policy, httpx.AsyncClient]] = WeakKeyDictionary()


class Deadline:
    """Bounds the waits of one call, by the loop's monotonic clock. Use it in a ``with`` block.

    ``set`` says until when the next waits may last; none outlasts ``total`` seconds from the start. Between
    waits nothing is interrupted, so that a slow consumer is not taken for a slow upstream. A wait has no
    timer of its own, as with ``asyncio.timeout``: one is armed, and sees when it fires whether the deadline
    has moved (measured: 0.7 µs a wait against 3.5).
    """

    def __init__(self, total: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._due = self._loop.time() + total
        self._message = ""
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._expired = False

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disarm()

    def set(self, seconds: float, message: str) -> None:
        """Let waits last until ``seconds`` from now; ``message`` is what the error says after that."""
        due = self._loop.time() + seconds
        if due > self._ends:
            due, message = self._ends, gettext_noop("The model did not finish its answer in time.")
        self._due, self._message = due, message

    def check(self) -> None:
        """Raise ``UpstreamTimeout`` if the deadline has passed: also an upstream that never pauses has one."""
        if self._loop.time() >= self._due:
            raise UpstreamTimeout(self._message)

    def leaves(self, seconds: float) -> bool:
        """Whether the call may go on for more than ``seconds``."""
        return self._loop.time() + seconds < self._ends

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Await it; raise ``UpstreamTimeout`` if the deadline passes first. What needs no waiting is not stopped."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A deadline needs a task to interrupt.")
        cancelled_before = task.cancelling()
        self._arm()
        self._waiting = task
        try:
            return await awaitable
        except BaseException:
            if self._expired and task.cancelling() - 1 <= cancelled_before:
                raise UpstreamTimeout(self._message) from None
            raise
        finally:
            self._waiting = None
            if self._expired:
                self._expired = False
                task.uncancel()

    def _arm(self) -> None:
        if self._timer is None or self._timer.when() > self._due:
            self._disarm()
            self._timer = self._loop.call_at(self._due, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._due:
            self._arm()
        else:
            self._expired = True
            self._waiting.cancel()


class Reply:
    """An upstream's answer whose head has arrived. ``headers`` ignores case; values are as they were sent."""

    def __init__(self, response: httpx.Response, deadline: Deadline) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._deadline = deadline
        self._chunks = response.aiter_raw()

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Return the next bytes of the body as they came, or ``b""`` at its end.

        Raises ``AnswerCut`` when the connection breaks, ``UpstreamTimeout`` past the deadline.
        """
        self._deadline.check()
        try:
            return await self._deadline.wait(anext(self._chunks, b""))
        except _NOT_HTTP as error:
            raise AnswerCut(gettext_noop("The model's server broke off its answer.")) from error

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises ``AnswerTooLarge`` when it has more than ``limit`` bytes."""
        body = bytearray()
        while chunk := await self.read():
            body += chunk
            if len(body) > limit:
                raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
        return bytes(body)


@asynccontextmanager
async def post_stream(
    url: str, *, policy: Policy, body: bytes, headers: Mapping[str, str], model: str, deadline: Deadline
) -> AsyncIterator[Reply]:
    """POST ``body`` and give the reply once its head is here, whatever its status; no redirect is followed.

    Leaving the block closes the connection at once unless the body was read to its end. Raises
    ``AddressRefused`` where ``policy`` does not let the call out, ``UpstreamUnavailable`` where there is no
    connection or no answer, ``UpstreamTimeout`` and ``UpstreamProtocolError``. ``model`` is for the log.
    """
    client = _client(policy)
    started = time.monotonic()
    outcome = "cancelled"
    response: httpx.Response | None = None
    try:
        try:
            request = client.build_request("POST", url, content=body, headers=dict(headers))
            response = await deadline.wait(client.send(request, stream=True))
        except _NOT_HTTP as error:
            # The transport gives ``ConnectTimeout`` for nearly all failures.
            cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
            raise no_answer(cause, _host(url), policy) from error
        outcome = str(response.status_code)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            # A few kilobytes may unpack to gigabytes, so that compression is not asked for and not taken.
            raise UpstreamProtocolError(gettext_noop("The model's server sent a compressed answer."))
        yield Reply(response, deadline)
    except ProviderError as error:
        outcome = f"{outcome} {error.code}" if response else error.code
        raise
    finally:
        if response is not None:
            await response.aclose()
        milliseconds = (time.monotonic() - started) * 1000
        logger.info("upstream call host=%s model=%s status=%s ms=%.0f", _host(url), model, outcome, milliseconds)


async def close_client() -> None:
    """Close the running loop's clients and their connections; the next call makes a new one."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()


def _client(policy: Policy) -> httpx.AsyncClient:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _forget_closed_loops()
    clients = _clients.setdefault(loop, {})
    if policy not in clients:
        clients[policy] = _new_client(policy)
    return clients[policy]


def _forget_closed_loops() -> None:
    """A client keeps its loop alive, so that the weak references alone would never let go of either."""
    for loop in [loop for loop in _clients if loop.is_closed()]:
        del _clients[loop]


def _new_client(policy: Policy) -> httpx.AsyncClient:
    settings = conf.get()
    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=_tls(), client=partial(_new_session, policy)),
        trust_env=False,
        follow_redirects=False,
        # Waits for the head and the body are the deadline's; `pool` also bounds a slow name server.
        timeout=httpx.Timeout(None, connect=settings.CONNECT_TIMEOUT, pool=settings.CONNECT_TIMEOUT),
        headers={"Accept-Encoding": "identity", "User-Agent": "llmproviders"},
        # What one person's upstream sets as a cookie is not sent for the next person.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


def _new_session(policy: Policy) -> aiohttp.ClientSession:
    connector = Connector(
        policy, ssl=_tls(), limit=conf.get().MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, use_dns_cache=False
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


@cache
def _tls() -> SSLContext:
    # `trust_env` here means SSL_CERT_FILE and SSL_CERT_DIR only: the operator's own certificate authority.
    return httpx.create_ssl_context(trust_env=True)


def _host(url: str) -> str:
    return httpx.URL(url).host

"""Calls to models: one POST, its answer with a time limit, and what went wrong as an error of ours."""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httpx
from django.utils.translation import gettext_noop

from .. import conf
from ..exceptions import (
    AnswerCut,
    AnswerTooLarge,
    ProviderError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from ..failures import CLOSED, PLAIN, UNREACHABLE
from .deadline import Deadline
from .errors import ConnectionClosedError, MalformedAnswerError, NotConnectedError
from .exchange import Answer
from .policy import Policy
from .pool import Pool, is_compressed

logger = logging.getLogger("llmproviders")
# At INFO these log whole URLs, and a URL's query may hold a key.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_BROKEN = (ConnectionClosedError, MalformedAnswerError)
_NO_ANSWER = (*_BROKEN, NotConnectedError, TimeoutError, httpx.InvalidURL, ValueError)
_pools: WeakKeyDictionary[AbstractEventLoop, dict[Policy, Pool]] = WeakKeyDictionary()


class Reply:
    """An upstream's answer whose head has arrived."""

    def __init__(self, answer: Answer, deadline: Deadline) -> None:
        self.status = answer.status
        self._answer = answer
        self._deadline = deadline
        # The media type in lower case, without parameters.
        self.content_type = answer.header(b"content-type").partition(";")[0].strip().lower()

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """All of them; names ignore case, values are as they were sent."""
        return httpx.Headers(self._answer.headers)

    async def read(self) -> bytes:
        """Return the next bytes of the body as they came, or ``b""`` at its end.

        Raises ``AnswerCut`` when the connection broke and all that came before is read, ``UpstreamTimeout`` where it
        waits past the deadline. What is here already is given whatever the time: whoever reads on and on checks that.
        """
        if self._answer.at_end:  # most often, when it is asked for: without a wait, no timer is set for one
            return b""
        try:
            return await self._deadline.wait(self._answer.read())
        except _BROKEN as error:
            raise AnswerCut(gettext_noop("The model's server broke off its answer.")) from error

    def take(self, most: int) -> bytes | None:
        """Return what is there of the body; None where it is more than ``most``, or ``read`` has to tell its end."""
        return self._answer.take(most)

    @property
    def waits(self) -> bool:
        """Whether something has come that was not read."""
        return self._answer.waits

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, though what came may not have been read."""
        return self._answer.is_over

    def tell(self, on_news: Callable[[], None] | None) -> None:
        """Call this whenever something has come."""
        self._answer.on_news = on_news

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises ``AnswerTooLarge`` when it has more than ``limit`` bytes."""
        body = bytearray()
        while chunk := await self.read():
            body += chunk
            if len(body) > limit:
                raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
            self._deadline.check()
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
    pool = _pool(policy)
    started = time.monotonic()
    outcome = "cancelled"
    answer: Answer | None = None
    try:
        try:
            answer = await deadline.wait(pool.post(url, headers, body))
        except _NO_ANSWER as error:
            raise _no_answer(error, _host(url), policy) from error
        outcome = str(answer.status)
        if 200 <= answer.status < 300 and is_compressed(answer):  # a refusal is one all the same
            raise UpstreamProtocolError(gettext_noop("The model's server sent a compressed answer."))
        yield Reply(answer, deadline)
    except ProviderError as error:
        outcome = f"{outcome} {error.code}" if answer else error.code
        raise
    finally:
        if answer is not None:
            answer.release()
        milliseconds = (time.monotonic() - started) * 1000
        logger.info("upstream call host=%s model=%s status=%s ms=%.0f", _host(url), model, outcome, milliseconds)


class WholeReply(NamedTuple):
    """An answer with all of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def get_whole(
    url: str, *, policy: Policy, headers: Mapping[str, str], seconds: float, max_bytes: int
) -> WholeReply:
    """GET what is no answer's way, such as a list of models; no redirect is followed. Raises ``ProviderError``."""
    try:
        async with (
            asyncio.timeout(seconds),
            client_for(policy) as client,
            client.stream("GET", url, headers=headers, timeout=seconds) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
            return WholeReply(response.status_code, response.headers, bytes(body))
    except (TimeoutError, httpx.TimeoutException):
        raise UpstreamTimeout(PLAIN[UpstreamTimeout]) from None
    except httpx.ConnectError as error:
        raise UpstreamUnavailable(str(error)) from error
    except httpx.RemoteProtocolError as error:
        raise UpstreamProtocolError(PLAIN[UpstreamProtocolError]) from error
    except httpx.HTTPError as error:
        raise UpstreamUnavailable(CLOSED) from error


async def close_client() -> None:
    """Close the running loop's connections; the next call makes new ones."""
    for pool in _pools.pop(asyncio.get_running_loop(), {}).values():
        await pool.aclose()
    # A connection is closed one step of the loop after it was told to, and the loop may end with this.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def client_for(policy: Policy) -> httpx.AsyncClient:
    """Return a client for what is no answer's way, such as lists of models: over the same pool, under the same rules.

    Closing it closes nothing but itself.
    """
    return httpx.AsyncClient(transport=_Shared(_pool(policy)), trust_env=False, timeout=conf.get().CONNECT_TIMEOUT)


class _Shared(httpx.AsyncBaseTransport):
    """A pool that outlives the client that uses it."""

    def __init__(self, pool: Pool) -> None:
        self.handle_async_request = pool.handle_async_request  # type: ignore[method-assign]


def _pool(policy: Policy) -> Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _forget_closed_loops()
    pools = _pools.setdefault(loop, {})
    if policy not in pools:
        pools[policy] = Pool(policy)
    return pools[policy]


def _no_answer(cause: Exception, host: str, policy: Policy) -> ProviderError:
    """Class what came before the answer's head. To a user all that prevents a connection looks the same."""
    error = _classed(cause)
    was_reached = isinstance(cause, _BROKEN) or (isinstance(cause, NotConnectedError) and cause.was_reached)
    if policy.tells_reasons or was_reached:
        return error
    logger.warning("upstream not reached host=%s set_by=%s reason=%s", host, policy.set_by, error)
    return UpstreamUnavailable(UNREACHABLE)


def _classed(cause: Exception) -> ProviderError:
    if isinstance(cause, MalformedAnswerError):
        return UpstreamProtocolError(gettext_noop("The model's server did not answer with valid HTTP."))
    if isinstance(cause, ConnectionClosedError):
        return UpstreamUnavailable(CLOSED)
    if isinstance(cause, NotConnectedError):
        return UpstreamUnavailable(cause.reason)
    if isinstance(cause, TimeoutError):
        return UpstreamTimeout(gettext_noop("The model's server did not accept a connection in time."))
    return UpstreamUnavailable(UNREACHABLE)


def _forget_closed_loops() -> None:
    """A pool keeps its loop alive, so that the weak references alone would never let go of either."""
    for reference in _pools.keyrefs():  # a list: other threads have loops too
        if (loop := reference()) is not None and loop.is_closed():
            _pools.pop(loop, None)


def _host(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or "-"
    return "-"

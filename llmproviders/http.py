"""HTTP calls to models: the only module here that knows the HTTP client.

One transport for each running event loop and each policy (``policy.py``), shared by all calls under it: so a
connection that the operator's calls opened is never reused for a user's. httpx is the interface and aiohttp the
transport: httpx's own loses its connection pool when requests are cancelled (httpcore issue 1093) and is
several times slower. There is no client around it: its redirects, cookies, authentication and hooks would all be
off here, and cost more than the call itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache, lru_cache
from ssl import SSLContext
from typing import TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from django.utils.translation import gettext_noop
from httpx_aiohttp import AiohttpTransport

from . import conf
from .connector import Connector, no_answer
from .deadline import Deadline
from .exceptions import (
    AnswerCut,
    AnswerTooLarge,
    ProviderError,
    UpstreamProtocolError,
)
from .policy import Policy

T = TypeVar("T")

logger = logging.getLogger("llmproviders")
# At INFO these log whole URLs, and a URL's query may hold a key.
for _name in ("httpx", "httpcore", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.WARNING)

KEEP_ALIVE_SECONDS = 30.0
HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "keep-alive", "User-Agent": "llmproviders"}
_NOT_HTTP = (aiohttp.ClientError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)
_transports: WeakKeyDictionary[AbstractEventLoop, dict[Policy, Transport]] = WeakKeyDictionary()


class Reply:
    """An upstream's answer whose head has arrived. ``headers`` ignores case; values are as they were sent."""

    def __init__(self, response: httpx.Response, deadline: Deadline) -> None:
        assert isinstance(response.stream, Body)
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._deadline = deadline
        self._body = response.stream
        # The media type in lower case, without parameters.
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Return the next bytes of the body as they came, or ``b""`` at its end.

        Raises ``AnswerCut`` when the connection broke and all that came before is read, ``UpstreamTimeout`` where it
        waits past the deadline. What is here already is given whatever the time: whoever reads on and on checks that.
        """
        if self._body.at_end():  # most often, when it is asked for: without a wait, no timer is set for one
            return b""
        try:
            return await self._deadline.wait(self._body.read())
        except _NOT_HTTP as error:
            if left := self._body.left():
                return left
            raise AnswerCut(gettext_noop("The model's server broke off its answer.")) from error

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises ``AnswerTooLarge`` when it has more than ``limit`` bytes."""
        body = bytearray()
        while chunk := await self.read():
            body += chunk
            if len(body) > limit:
                raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
            self._deadline.check()
        return bytes(body)


class Body(httpx.AsyncByteStream):
    """The bytes of an answer, all that are there at a time, without a generator around each layer's generator."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.at_end = answer.content.at_eof
        self.read = answer.content.readany

    def left(self) -> bytes:
        """Return what came before the connection broke; aiohttp itself raises the error first, and would lose it."""
        return self._answer.content._read_nowait(-1)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def aclose(self) -> None:
        self._answer.release()
        await self._answer.wait_for_close()


class Transport(AiohttpTransport):
    """httpx-aiohttp's transport, with a body that can be read as it comes. Its errors are aiohttp's own."""

    client: aiohttp.ClientSession

    def __init__(self, policy: Policy) -> None:
        super().__init__(verify=_tls(), client=_new_session(policy))
        # Waits for the head and the body are the deadline's; `connect` also bounds a slow name server.
        seconds = conf.get().CONNECT_TIMEOUT
        self._timeout = aiohttp.ClientTimeout(sock_connect=seconds, connect=seconds)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """POST and return the answer, its body unread. Whoever calls closes its stream."""
        sent = _all_headers(tuple(headers.items()))
        request = httpx.Request("POST", _parsed(url), headers=sent, stream=httpx.ByteStream(body))
        request.read()
        return await self.handle_async_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.client.request(
            request.method,
            str(request.url),
            headers=_fields(tuple(request.headers.raw)),
            data=request.content,
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._timeout,
        )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=Body(answer), request=request)


@asynccontextmanager
async def post_stream(
    url: str, *, policy: Policy, body: bytes, headers: Mapping[str, str], model: str, deadline: Deadline
) -> AsyncIterator[Reply]:
    """POST ``body`` and give the reply once its head is here, whatever its status; no redirect is followed.

    Leaving the block closes the connection at once unless the body was read to its end. Raises
    ``AddressRefused`` where ``policy`` does not let the call out, ``UpstreamUnavailable`` where there is no
    connection or no answer, ``UpstreamTimeout`` and ``UpstreamProtocolError``. ``model`` is for the log.
    """
    transport = _transport(policy)
    started = time.monotonic()
    outcome = "cancelled"
    response: httpx.Response | None = None
    try:
        try:
            response = await deadline.wait(transport.post(url, headers, body))
        except _NOT_HTTP as error:
            raise no_answer(error, _host(url), policy) from error
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
    """Close the running loop's transports and their connections; the next call makes a new one."""
    for transport in _transports.pop(asyncio.get_running_loop(), {}).values():
        await transport.aclose()


def _transport(policy: Policy) -> Transport:
    loop = asyncio.get_running_loop()
    if loop not in _transports:
        _forget_closed_loops()
    transports = _transports.setdefault(loop, {})
    if policy not in transports:
        transports[policy] = Transport(policy)
    return transports[policy]


def _forget_closed_loops() -> None:
    """A transport keeps its loop alive, so that the weak references alone would never let go of either."""
    for loop in [loop for loop in _transports if loop.is_closed()]:
        del _transports[loop]


def _new_session(policy: Policy) -> aiohttp.ClientSession:
    connector = Connector(
        policy, ssl=_tls(), limit=conf.get().MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, use_dns_cache=False
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


@cache
def _tls() -> SSLContext:
    # `trust_env` here means SSL_CERT_FILE and SSL_CERT_DIR only: the operator's own certificate authority.
    return httpx.create_ssl_context(trust_env=True)


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


@lru_cache(maxsize=256)
def _all_headers(given: tuple[tuple[str, str], ...]) -> httpx.Headers:
    """The headers of a call. httpx copies them for each request, and keeps them encoded."""
    headers = httpx.Headers(HEADERS)
    headers.update(given)
    return headers


@lru_cache(maxsize=256)
def _fields(raw: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[str, str], ...]:
    """httpx's headers as aiohttp takes them."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)


def _host(url: str) -> str:
    return _parsed(url).host

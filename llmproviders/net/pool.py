"""The pool of connections to models' servers: ours for the calls on an answer's way, httpx's for all else.

One for each policy, so that a connection which the operator's calls opened is never reused for a user's. It follows
no redirect, keeps no cookie, and takes no proxy from the environment.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, lru_cache, partial
from http import HTTPStatus
from ssl import SSLContext

import httpx

from .. import conf
from ..failures import UNREACHABLE
from .connection import BUFFER_BYTES, Connection, PlainConnection, SecureConnection
from .dial import Origin, connect
from .errors import ConnectionClosedError, MalformedAnswerError, NoAnswerError, NotConnectedError
from .exchange import Answer
from .policy import PORTS, Policy

KEEP_ALIVE_SECONDS = 30.0
_DEFAULTS = (
    (b"Accept", b"*/*"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", b"llmproviders"),
)
# Written by us, whatever a request says.
_OWN = frozenset({b"host", b"accept-encoding", b"content-length", b"transfer-encoding"})
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Pool(httpx.AsyncBaseTransport):
    """Connections of one event loop under one policy: at most ``MAX_CONNECTIONS`` in use, who asks for more waits."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(conf.get().MAX_CONNECTIONS)
        self._buffer = bytearray(BUFFER_BYTES)
        self._used: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST and return the answer once its head is here. Whoever calls releases it.

        Raises ``AddressRefused``, ``NotConnectedError``, ``TimeoutError`` where there is no connection in time,
        ``ConnectionClosedError``, ``MalformedAnswerError``, and ``httpx.InvalidURL``.
        """
        origin, begin = _begin_of_post(url, tuple(headers.items()))
        return await self._exchange(origin, b"%bContent-Length: %d\r\n\r\n%b" % (begin, len(body), body))

    async def _exchange(self, origin: Origin, request: bytes, *, has_body: bool = True) -> Answer:
        await self._take_room()
        if connection := await self._idle_one(origin):
            try:
                answer = await connection.ask(request, has_body=has_body)
            except NoAnswerError:
                pass
            else:
                if answer.status != HTTPStatus.REQUEST_TIMEOUT:
                    return answer
                answer.release()
            # Most likely the server closed it while it was idle, or says so (408), and has not seen this request.
            await self._take_room()
        return await (await self._new(origin)).ask(request, has_body=has_body)

    async def _take_room(self) -> None:
        async with asyncio.timeout(conf.get().CONNECT_TIMEOUT if self._room.locked() else None):
            await self._room.acquire()

    async def _new(self, origin: Origin) -> Connection:
        connection = self._made(origin)
        self._used.add(connection)
        try:
            async with asyncio.timeout(conf.get().CONNECT_TIMEOUT):
                await connect(origin, self._policy, _tls(), lambda: connection)
        except BaseException:
            connection.abort()
            self._closed(connection)
            raise
        return connection

    def _made(self, origin: Origin) -> Connection:
        if origin.scheme == "https":
            return SecureConnection(origin, on_free=self._free, on_close=self._closed)
        return PlainConnection(self._buffer, origin, on_free=self._free, on_close=self._closed)

    async def _idle_one(self, origin: Origin) -> Connection | None:
        """Return a connection that carries nothing and is still good."""
        while idle := self._idle.get(origin):
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            if origin.scheme == "https":
                await self._heard(connection)
            if connection.is_usable():
                self._used.add(connection)
                return connection
            connection.abort()
        return None

    async def _heard(self, connection: Connection) -> None:
        """Let an idle connection hear what TLS has read and not handed on yet: it ends with it."""
        try:
            await asyncio.sleep(0)
        except BaseException:
            connection.abort()
            self._room.release()
            raise

    def _free(self, connection: Connection) -> None:
        self._used.discard(connection)
        self._room.release()
        if self._is_closed:
            connection.abort()
            return
        connection.free_since = self._loop.time()
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(KEEP_ALIVE_SECONDS, self._sweep)

    def _closed(self, connection: Connection) -> None:
        if connection in self._used:
            self._used.discard(connection)
            self._room.release()
        elif connection in (idle := self._idle.get(connection.origin, [])):
            idle.remove(connection)
            if not idle:
                del self._idle[connection.origin]

    def _sweep(self) -> None:
        """Close what was idle for long."""
        self._sweep_timer = None
        oldest = self._loop.time() - KEEP_ALIVE_SECONDS
        for connection in [connection for idle in self._idle.values() for connection in idle]:
            if connection.free_since <= oldest:
                connection.abort()
        if self._idle:
            self._sweep_timer = self._loop.call_later(KEEP_ALIVE_SECONDS / 2, self._sweep)

    async def aclose(self) -> None:
        """Close all connections; those that are in use by who does not know yet, once they are free."""
        self._is_closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in [*self._used, *(connection for idle in self._idle.values() for connection in idle)]:
            connection.abort()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of httpx's, with errors of httpx's; ``AddressRefused`` where it may not go out."""
        body = await request.aread()
        with self._as_httpx(request):
            origin, begin = _begin(request.method, request.url, request.headers.raw)
        length = b"Content-Length: %d\r\n" % len(body) if body or request.method in _WITH_BODY else b""
        seconds = request.extensions.get("timeout", {}).get("read")
        with self._as_httpx(request):
            async with asyncio.timeout(seconds):
                answer = await self._exchange(
                    origin, b"%b%b\r\n%b" % (begin, length, body), has_body=request.method != "HEAD"
                )
            if is_compressed(answer):
                answer.release()
                raise MalformedAnswerError("a compressed answer, which nobody asked for")
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer, seconds, partial(self._as_httpx, request))
        )

    @contextmanager
    def _as_httpx(self, request: httpx.Request) -> Iterator[None]:
        """Raise what goes wrong as httpx names it."""
        try:
            yield
        except NotConnectedError as error:
            told = self._policy.tells_reasons or error.was_reached
            raise httpx.ConnectError(error.reason if told else UNREACHABLE, request=request) from error
        except ConnectionClosedError as error:
            raise httpx.ReadError(str(error), request=request) from error
        except MalformedAnswerError as error:
            raise httpx.RemoteProtocolError(str(error), request=request) from error
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout("the server took too long", request=request) from error


def is_compressed(answer: Answer) -> bool:
    """Whether a few kilobytes may unpack to gigabytes: compression is not asked for, and not taken."""
    return answer.header(b"content-encoding").strip().lower() not in ("", "identity")


class _Body(httpx.AsyncByteStream):
    """An answer's body as httpx reads it: of at most ``MAX_ANSWER_BYTES``."""

    def __init__(
        self, answer: Answer, seconds: float | None, as_httpx: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._answer = answer
        self._seconds = seconds
        self._as_httpx = as_httpx

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = conf.get().MAX_ANSWER_BYTES
        while True:
            with self._as_httpx():
                async with asyncio.timeout(self._seconds):
                    chunk = await self._answer.read()
                left -= len(chunk)
                if left < 0:
                    raise MalformedAnswerError("the answer is larger than MAX_ANSWER_BYTES")
            if not chunk:
                return
            yield chunk

    async def aclose(self) -> None:
        self._answer.release()


def _begin(method: str, url: httpx.URL, headers: Sequence[tuple[bytes, bytes]]) -> tuple[Origin, bytes]:
    """Return whom a request is to, and its head up to ``Content-Length``. Raises ``ValueError`` for what is none."""
    if url.scheme not in PORTS:
        raise ValueError("a URL of another scheme")
    # The host as it goes over the wire: `url.host` is what an xn-- name stands for, which may be spelt in two ways.
    origin = Origin(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme])
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), url.raw_path), b"Host: " + url.netloc]
    lines.append(b"Accept-Encoding: identity")
    given = {name.lower() for name, _value in headers}
    defaults = [(name, value) for name, value in _DEFAULTS if name.lower() not in given]
    for name, value in [*defaults, *headers]:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("a header that cannot be sent")
        if name.lower() not in _OWN:
            lines.append(name + b": " + value)
    return origin, b"\r\n".join([*lines, b""])


@lru_cache(maxsize=256)
def _begin_of_post(url: str, headers: tuple[tuple[str, str], ...]) -> tuple[Origin, bytes]:
    return _begin("POST", httpx.URL(url), [(name.encode(), value.encode("latin-1")) for name, value in headers])


@cache
def _tls() -> SSLContext:
    # `trust_env` here means SSL_CERT_FILE and SSL_CERT_DIR only: the operator's own certificate authority.
    return httpx.create_ssl_context(trust_env=True)

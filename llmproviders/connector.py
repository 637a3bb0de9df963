"""The pool of connections to models: aiohttp's, with what it does not look at itself."""

from __future__ import annotations

import ipaddress
import logging
import select
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from django.utils.translation import gettext_noop

from .exceptions import ProviderError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from .failures import UNREACHABLE
from .guard import refused
from .policy import Policy

logger = logging.getLogger("llmproviders")


class Connector(aiohttp.TCPConnector):
    """Connects only where ``policy`` lets it, and only to addresses that it has judged.

    All its connections were opened under that one policy, so that none that the operator may have is reused
    for a user. It never reuses one on which bytes came while it was idle: they would be read as the next answer.
    """

    def __init__(self, policy: Policy, **options: Any) -> None:
        super().__init__(**options)
        self._policy = policy

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        """Judge scheme and host as they are dialled: another reader of the URL may have seen others."""
        host = req.url.raw_host or ""
        if why := self._policy.why_not_host(req.url.scheme, host, req.port or 0):
            raise refused(self._policy, host, why)
        return await super().connect(req, traces, timeout)

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Trace] | None = None) -> list[ResolveResult]:
        """Look up ``host`` once and return what may be dialled; aiohttp asks here for literal addresses too."""
        answer = await super()._resolve_host(host, port, traces=traces)
        reasons = [self._why_not(item["host"], host, port) for item in answer]
        judged = [item for item, why in zip(answer, reasons, strict=True) if not why]
        # A machine's own name may stand for its link-local addresses too: where private addresses are allowed,
        # those are passed over. Otherwise a mixed answer is an attempt.
        if not judged or (len(judged) < len(answer) and not self._policy.private):
            raise refused(self._policy, host, next(filter(None, reasons), "no address"))
        return judged

    def _why_not(self, address: str, host: str, port: int) -> str:
        try:
            return self._policy.why_not_address(ipaddress.ip_address(address), host, port)
        except ValueError:
            return "no address"

    async def _get(self, *args: Any, **kwargs: Any) -> Connection | None:
        while (connection := await super()._get(*args, **kwargs)) is not None:
            if not _has_unread_bytes(connection):
                return connection
            connection.close()
        return None


def no_answer(cause: BaseException, host: str, policy: Policy) -> ProviderError:
    """Class what came before the answer's head. To a user all that prevents a connection looks the same."""
    error = _classed(cause)
    if policy.tells_reasons or _was_connected(cause):
        return error
    logger.warning("upstream not reached host=%s set_by=%s reason=%s", host, policy.set_by, error)
    return UpstreamUnavailable(UNREACHABLE)


def _was_connected(cause: BaseException) -> bool:
    """Whether there was a connection, which is to an address that was judged: what went wrong then may be told."""
    if isinstance(cause, aiohttp.ClientConnectorError):
        return isinstance(cause, aiohttp.ClientSSLError)
    return isinstance(cause, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError))


def _classed(cause: BaseException) -> ProviderError:
    if isinstance(cause, TimeoutError):
        return UpstreamTimeout(gettext_noop("The model's server did not accept a connection in time."))
    if isinstance(cause, aiohttp.ClientResponseError):
        return UpstreamProtocolError(gettext_noop("The model's server did not answer with valid HTTP."))
    return UpstreamUnavailable(_reason(cause))


def _reason(cause: BaseException) -> str:
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return gettext_noop("The name of the model's server is not known.")
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return gettext_noop("The certificate of the model's server is not valid.")
    if isinstance(cause, aiohttp.ClientSSLError):
        return gettext_noop("No secure connection to the model's server could be made.")
    if isinstance(cause, aiohttp.ClientConnectorError):
        if isinstance(cause.os_error, ConnectionRefusedError):
            return gettext_noop("The model's server refused the connection.")
        return UNREACHABLE
    if isinstance(cause, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        return gettext_noop("The model's server closed the connection without an answer.")
    return UNREACHABLE


def _has_unread_bytes(connection: Connection) -> bool:
    """Whether bytes, or the connection's end, wait in the parser or in the socket."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))

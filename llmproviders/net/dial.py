"""How a connection is made: its addresses judged right before, dialled in turn, through a proxy where there is one.

No socket is made for an address that ``policy`` does not let out, whoever asks and whatever resolved the name.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, zip_longest
from ssl import SSLCertVerificationError, SSLContext
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from .. import conf
from ..failures import BAD_CERTIFICATE, CONNECTION_REFUSED, NO_TLS, UNKNOWN_NAME, UNREACHABLE
from .addresses import is_public, literal
from .errors import NotConnectedError
from .guard import refused
from .policy import Policy, is_inner_name, plain

# RFC 8305: how long one address may take before the next is tried beside it (seconds).
STAGGER_SECONDS = 0.25
# What a proxy may say before it has connected us.
MAX_PROXY_BYTES = 16_384
_CONNECTED = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}[ \r]")

P = TypeVar("P", bound=asyncio.BaseProtocol)
# Family and where, as ``socket.connect`` takes it.
Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class Origin(NamedTuple):
    """Whom a connection is to. ``host`` is a name or an address without brackets."""

    scheme: str
    host: str
    port: int


async def connect(origin: Origin, policy: Policy, tls: SSLContext, make: Callable[[], P]) -> P:
    """Return a new connection, made by ``make``. Raises ``AddressRefused`` or ``NotConnectedError``."""
    if why := policy.why_not_host(origin.scheme, origin.host, origin.port):
        raise refused(policy, origin.host, why)
    proxy = proxy_for(origin, policy)
    sock = await (_through(proxy, origin) if proxy else _to(await _addresses(origin, policy)))
    secured: dict[str, Any] = {}
    if origin.scheme == "https":
        secured = {"ssl": tls, "server_hostname": plain(origin.host)}
    try:
        _transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=sock, **secured)
    except BaseException as error:
        # Its transport closes it, a step of the loop later at the soonest, and in the first steps of TLS not before
        # it fails. Closed here, its number could be another socket's while the loop still takes it for this one.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        if isinstance(error, SSLCertVerificationError):
            raise NotConnectedError(BAD_CERTIFICATE, was_reached=True) from error
        if isinstance(error, OSError):
            raise NotConnectedError(NO_TLS, was_reached=True) from error
        raise
    return protocol


def proxy_for(origin: Origin, policy: Policy) -> str:
    """Return the URL of the proxy to ``origin``, ``""`` for none: it is for the operator's endpoints outside alone.

    What is listed, or by its address or name on this machine or in its network, is dialled.
    """
    if policy.set_by != "operator" or policy.lists(origin.host, origin.port):
        return ""
    address = literal(plain(origin.host))
    is_outside = is_public(address) if address else not is_inner_name(plain(origin.host))
    return conf.get().UPSTREAM_PROXY if is_outside else ""


async def _addresses(origin: Origin, policy: Policy) -> list[Address]:
    """Look a name up, once, and return the addresses that may be dialled."""
    found = await _resolved(origin.host, origin.port)
    reasons = [_why_not(policy, str(where[0]), origin) for _family, where in found]
    judged = [address for address, why in zip(found, reasons, strict=True) if not why]
    # A machine's own name may stand for its link-local addresses too: where private addresses are allowed, those are
    # passed over. Otherwise a mixed answer is an attempt.
    if not judged or (len(judged) < len(found) and not policy.private):
        raise refused(policy, origin.host, next(filter(None, reasons), "no address"))
    return judged


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
        return [(family, (host, port))]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except (socket.gaierror, UnicodeError) as error:
        raise NotConnectedError(UNKNOWN_NAME) from error
    return [(family, where) for family, _kind, _protocol, _name, where in found]


def _why_not(policy: Policy, address: str, origin: Origin) -> str:
    try:
        return policy.why_not_address(ipaddress.ip_address(address), origin.host, origin.port)
    except ValueError:
        return "no address"


async def _to(addresses: Iterable[Address]) -> socket.socket:
    """Return a socket to the first address that accepts: of both families in turn, each with a start on the next."""
    waiting = deque(_in_turn(list(addresses)))
    trying: set[asyncio.Task[socket.socket]] = set()
    failures: list[BaseException] = []
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.create_task(_dialled(*waiting.popleft())))
            done, _pending = await asyncio.wait(
                trying, timeout=STAGGER_SECONDS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if (failure := task.exception()) is None:
                    trying.discard(task)
                    return task.result()
                trying.discard(task)
                failures.append(failure)
    finally:
        # Nothing is waited for here: whoever is cancelled now would lose the one that succeeded.
        _give_up(trying)
    was_refused = any(isinstance(failure, ConnectionRefusedError) for failure in failures)
    raise NotConnectedError(CONNECTION_REFUSED if was_refused else UNREACHABLE) from failures[-1]


def _in_turn(addresses: list[Address]) -> Iterable[Address]:
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return (address for address in chain.from_iterable(zip_longest(first, others)) if address)


async def _dialled(family: socket.AddressFamily, where: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _give_up(trying: Iterable[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that are left; one may have succeeded meanwhile."""
    for task in trying:
        task.cancel()
        task.add_done_callback(_close)


def _close(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


# Through a proxy ------------------------------------------------------------------------------------------------


async def _through(proxy: str, origin: Origin) -> socket.socket:
    """Return a socket that the proxy, which resolves the name, has connected with ``origin`` (RFC 9110, 9.3.6)."""
    parts = urlsplit(proxy)
    sock = await _to(await _resolved(parts.hostname or "", parts.port or 80))
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, _connect_request(origin, parts.username, parts.password))
        head = b""
        while (end := head.find(b"\r\n\r\n")) < 0:
            received = await loop.sock_recv(sock, MAX_PROXY_BYTES)
            head += received
            if not received or len(head) > MAX_PROXY_BYTES:
                raise NotConnectedError(UNREACHABLE)
        # Whatever came behind the head came from somebody who was not asked yet.
        if not _CONNECTED.match(head) or len(head) > end + 4:
            raise NotConnectedError(UNREACHABLE)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise NotConnectedError(UNREACHABLE) from error
        raise
    return sock


def _connect_request(origin: Origin, user: str | None, password: str | None) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    lines = [f"CONNECT {host}:{origin.port} HTTP/1.1", f"Host: {host}:{origin.port}"]
    if user is not None:
        secret = f"{unquote(user)}:{unquote(password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")

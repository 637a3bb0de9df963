"""Who is calling: what a connection shows, and whether it holds. For every door; ``rules`` says what they may do.

With login a caller shows an API key (``Authorization: Bearer …``; a socket may also offer the sub-protocol
``key.…``), or the session of a browser. Nothing is remembered: what was good for one call is judged again at the
next, so that a revoked key, a logout or a deactivated account counts from then on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, parse_cookie
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..exceptions import NotAuthenticated, PermissionRefused, Text
from ..models import ApiKey, Scope
from . import api_keys
from .hosts import header_of_a_proxy, is_same_origin, names_this_machine
from .rules import OPEN, Caller, Credential

BEARER = "bearer "
# Of the sub-protocols that a socket's client offers, the one that carries its key; it is never chosen.
KEY_PROTOCOL = "key."
# Sessions that live in their cookie are as long as a cookie may be.
MAX_SESSION_KEY = 4096

OF_ANOTHER_SITE = _("Only pages of this site and of the origins in CORS_ALLOWED_ORIGINS may call.")


@dataclass(frozen=True, slots=True)
class Connection:
    """What a door knows of the other side: the peer's address, the headers (names in lower case), the protocol."""

    peer: str
    headers: Mapping[str, str]
    scheme: str = "http"
    http_version: str = "1.1"

    @classmethod
    def from_request(cls, request: HttpRequest) -> Connection:
        """Of a Django request, over ASGI or WSGI."""
        meta = request.META
        headers = {key[5:].replace("_", "-").lower(): value for key, value in meta.items() if key.startswith("HTTP_")}
        scope: Mapping[str, Any] = getattr(request, "scope", {})
        return cls(
            str(meta.get("REMOTE_ADDR") or ""),
            headers,
            str(scope.get("scheme") or meta.get("wsgi.url_scheme") or "http"),
            str(scope.get("http_version") or str(meta.get("SERVER_PROTOCOL") or "1.1").rpartition("/")[2]),
        )

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> Connection:
        """Of an ASGI scope. A header that came twice is one, joined as Django joins it."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            separator = "; " if name == "cookie" else ","
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
        client = scope.get("client") or ("",)
        scheme, version = str(scope.get("scheme") or "http"), str(scope.get("http_version") or "1.1")
        return cls(str(client[0] or ""), headers, scheme, version)

    @property
    def is_local(self) -> bool:
        """Whether it comes from this machine, and nothing shows that somebody passed it on."""
        return not self.why_not_local()

    def why_not_local(self) -> Text:
        """Return ``""`` for a call from this machine, else what shows that it is none.

        A proxy here that adds nothing, speaks HTTP/1.1 and names a loopback host cannot be told from a program here.
        """
        if not _is_loopback_address(self.peer):
            return _("It came from elsewhere.")
        if name := header_of_a_proxy(self.headers):
            return _("Its header %(name)s shows that a proxy passed it on.") % {"name": name[:64]}
        if self.http_version in ("1.0", "0.9"):
            return _("It was HTTP/1.0, which proxies speak; programs on this machine have to speak HTTP/1.1.")
        # What adds no header still passes on, as a rule, which server was meant.
        if "host" in self.headers and not names_this_machine(_name_in(self.headers["host"])):
            return _("Its Host is not a name of this machine.")
        return ""

    @property
    def is_secure(self) -> bool:
        """Whether the caller speaks TLS: with us, or with the proxy that ``SECURE_PROXY_SSL_HEADER`` trusts."""
        if settings.SECURE_PROXY_SSL_HEADER:
            name, secure = settings.SECURE_PROXY_SSL_HEADER
            said = self.headers.get(name.removeprefix("HTTP_").replace("_", "-").lower())
            if said is not None:
                return said.partition(",")[0].strip().lower() in (secure.lower(), "wss")
        return self.scheme in ("https", "wss")

    @property
    def is_own_page(self) -> bool:
        """Whether a page of this very server sent it: same scheme, host and port."""
        scheme, host = "https" if self.is_secure else "http", self.headers.get("host", "")
        return is_same_origin(self.headers.get("origin", ""), scheme=scheme, host=host)

    @property
    def protocols(self) -> list[str]:
        """The sub-protocols that a socket's client offers."""
        offered = self.headers.get("sec-websocket-protocol", "").split(",")
        return [name for name in map(str.strip, offered) if name]

    @property
    def api_key(self) -> str | None:
        """The API key that it shows, whatever it may be worth."""
        authorization = self.headers.get("authorization", "")
        if authorization.lower().startswith(BEARER):
            return authorization[len(BEARER) :].strip()
        return next((name[len(KEY_PROTOCOL) :] for name in self.protocols if name.startswith(KEY_PROTOCOL)), None)


def check_origin(connection: Connection) -> None:
    """Refuse what a foreign web page sent: browsers send cookies, and reach loopback, for any page.

    A client without `Origin` is no browser. Pages of ``CORS_ALLOWED_ORIGINS`` pass; what they may do, `credential_of`
    says. The `Host` must be one of ``ALLOWED_HOSTS`` too, or a page could reach us under a name of its own that
    resolves to our address.
    """
    request = HttpRequest()
    request.META = {"HTTP_HOST": connection.headers.get("host", "")}
    try:
        request.get_host()
    except DisallowedHost:
        raise PermissionRefused(code="host_not_allowed") from None
    origin = connection.headers.get("origin")
    if origin is None or origin in getattr(settings, "CORS_ALLOWED_ORIGINS", ()):
        return
    if not connection.is_own_page:
        raise PermissionRefused(OF_ANOTHER_SITE, code="origin_not_allowed")


def credential_of(connection: Connection) -> Credential | None:
    """Return what the connection shows, None if it shows nothing; looks nothing up.

    Raises ``PermissionRefused`` (``login_required``) when an open server is called from elsewhere.
    """
    if not conf.get().REQUIRE_LOGIN:
        if why := connection.why_not_local():
            raise PermissionRefused(
                _("Without login this server answers its own machine only; set REQUIRE_LOGIN=true. %(why)s")
                % {"why": why},
                code="login_required",
            )
        return OPEN
    if (key := connection.api_key) is not None:
        return Credential("key", key)
    session_key = parse_cookie(connection.headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME)
    return Credential("session", session_key) if session_key else None


def client_address(connection: Connection) -> str:
    """Return the address of who calls, ``""`` where there is none (a Unix socket).

    It is the peer's, or behind ``TRUSTED_PROXIES`` what they say: ``X-Forwarded-For`` is read from the right, where
    each proxy adds whom it saw, up to the first address that is no proxy of ours. What stands further left anybody
    may have written.
    """
    proxies = _networks(tuple(conf.get().TRUSTED_PROXIES))
    address = _address_in(connection.peer)
    seen = connection.headers.get("x-forwarded-for", "").split(",")
    while seen and address is not None and any(address in proxy for proxy in proxies):
        before = _address_in(seen.pop().strip())
        if before is None:
            break
        address = before
    return "" if address is None else str(address)


def client_block(connection: Connection) -> str:
    """Return whose attempts count together: an IPv4 address, or the /64 that an IPv6 one has to itself."""
    address = client_address(connection)
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)


@cache
def _networks(names: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(name, strict=False) for name in names]


def _address_in(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address in ``text``, which may have a port or a zone; None if there is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback_address(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _name_in(host: str) -> str:
    """Return the name or address in a `Host` header, without the port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def credential_of_socket(connection: Connection) -> Credential | None:
    """Return what a socket shows at its handshake, as `credential_of` does.

    A browser adds its cookie to whatever page opens a socket, and no token proves which one did. So a session counts
    from a page of our own only; a page of ``CORS_ALLOWED_ORIGINS`` shows a key, and its cookie is not looked at.
    Raises ``PermissionRefused`` (``origin_not_allowed``) for a cookie without an `Origin`: no browser sends that.
    """
    credential = credential_of(connection)
    if credential is None or credential.kind != "session" or connection.is_own_page:
        return credential
    if "origin" in connection.headers:
        return None
    raise PermissionRefused(OF_ANOTHER_SITE, code="origin_not_allowed")


def caller_of(credential: Credential | None) -> Caller:
    """Return whose credential it is. Reads the database, except on an open server.

    Raises ``NotAuthenticated`` for one that does not hold (any more).
    """
    if credential is None:
        raise NotAuthenticated()
    if credential.kind == "open":
        return Caller(sees_all=True)
    if credential.kind == "key":
        key = api_keys.find(credential.secret)
        return Caller.of(key.user, scopes=_scopes(key.scopes), key_id=key.pk, credential=credential)
    return _caller_of_session(credential)


@lru_cache(256)
def _scopes(words: str) -> frozenset[Scope]:
    """Return the scopes of a key: few sets of words are in use."""
    return ApiKey(scopes=words).scope_set


class _Content(dict[str, Any]):
    """What a session holds, for who only reads it.

    Django renews a session that an older SECRET_KEY signed, and deletes one of an older password. Both are for pages:
    here no cookie goes back, so a renewed session would be lost, and this runs where nothing may be written.
    """

    def cycle_key(self) -> None:
        """Keep its key."""

    def flush(self) -> None:
        """Let it be."""


def is_session_key(text: str) -> bool:
    """Whether a cookie can name a session: NUL and the like are an error in some databases."""
    return len(text) <= MAX_SESSION_KEY and text.isascii() and text.isprintable()


def _caller_of_session(credential: Credential) -> Caller:
    if not is_session_key(credential.secret):
        raise NotAuthenticated()
    store = import_module(settings.SESSION_ENGINE).SessionStore(credential.secret)
    request: Any = HttpRequest()
    request.session = _Content(store.load() if store.session_key else {})
    # Looks at the account's backend, whether it is active, and whether its password is still the session's.
    user = get_user(request)
    if user.is_anonymous:
        raise NotAuthenticated()
    return Caller.of(user, credential=credential)


def identify(connection: Connection) -> Caller:
    """Return who is calling: ``credential_of`` and ``caller_of`` in one; runs on a database thread."""
    return caller_of(credential_of(connection))

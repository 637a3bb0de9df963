"""Who is calling, and what they may do: for every edge, and nowhere else.

An *open* server (``REQUIRE_LOGIN`` off) is for one person on their own machine: whoever reaches it over
loopback sees everything, and ``user_id`` is a label that filters lists and picks the model settings. With
login, the caller is an account and sees what is theirs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from . import conf
from .exceptions import NotAuthenticated, NotFound, PermissionRefused

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Identifiers of accounts begin so; a `user_id` given on an open server may not.
ACCOUNT_PREFIX = "user:"


class Action(Enum):
    """What a caller wants to do."""

    LIST = "list"
    CREATE = "create"
    READ = "read"
    CHANGE = "change"
    DELETE = "delete"
    CHAT = "chat"
    STOP = "stop"
    CONFIGURE = "configure"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. ``sees_all`` is the one person of an open server."""

    user_identifier: str = ""
    user: User | None = None
    sees_all: bool = False

    @property
    def is_authenticated(self) -> bool:
        """Whether this caller may call at all (Django REST framework asks so)."""
        return self.sees_all or bool(self.user_identifier)

    def labelled(self, user_id: str | None) -> Caller:
        """Return the caller as ``user_id`` names them: a filter on an open server, else it must be themselves.

        Raises ``PermissionRefused`` when an account names another.
        """
        if not user_id:
            return self
        if self.sees_all:
            return replace(self, user_identifier=user_id, sees_all=False)
        if self.user is None or user_id != self.user.get_username():
            raise PermissionRefused(_("user_id is not yours: leave it out, or give your own user name."))
        return self


@dataclass(frozen=True, slots=True)
class Connection:
    """What an edge knows of the other side: the peer's address and the headers, names in lower case."""

    peer: str
    headers: Mapping[str, str]

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Connection:
        """Of a Django request's ``META``."""
        headers = {key[5:].replace("_", "-").lower(): value for key, value in meta.items() if key.startswith("HTTP_")}
        return cls(str(meta.get("REMOTE_ADDR") or ""), headers)

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any]) -> Connection:
        """Of an ASGI scope."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client") or ("",)
        return cls(str(client[0] or ""), headers)

    @property
    def is_local(self) -> bool:
        """Whether it comes straight from this machine: a proxy's word for it does not count."""
        if any(name == "forwarded" or name.startswith("x-forwarded-") for name in self.headers):
            return False
        try:
            address = ipaddress.ip_address(self.peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def check_origin(connection: Connection) -> None:
    """Refuse a socket that a foreign web page opened: browsers send cookies, and reach loopback, for any page.

    A client without `Origin` is no browser. The `Host` must be one of ``ALLOWED_HOSTS`` too, or a page could
    reach us under a name of its own that resolves to our address.
    """
    request = HttpRequest()
    request.META = {"HTTP_HOST": connection.headers.get("host", "")}
    try:
        host = request.get_host()
    except DisallowedHost:
        raise PermissionRefused(code="host_not_allowed") from None
    origin = connection.headers.get("origin")
    if origin is None or origin in getattr(settings, "CORS_ALLOWED_ORIGINS", ()):
        return
    if origin.lower().partition("://")[2] != host.lower():
        raise PermissionRefused(code="origin_not_allowed")


def identify(connection: Connection) -> Caller:
    """Return who is calling.

    Raises ``PermissionRefused`` (``login_required``) when an open server is called from elsewhere, and
    ``NotAuthenticated`` when login is required and nobody is logged in.
    """
    if conf.get().REQUIRE_LOGIN:
        raise NotAuthenticated()
    if not connection.is_local:
        raise PermissionRefused(
            _("Without login this server answers its own machine only; set REQUIRE_LOGIN=true."),
            code="login_required",
        )
    return Caller(sees_all=True)


def authorize(caller: Caller, action: Action, item: Any = None) -> None:
    """Let ``caller`` do ``action``, to ``item`` where there is one, or raise.

    Somebody else's item is ``NotFound``: that it exists is not to be told. Queries start from
    ``for_owner(caller)`` all the same.
    """
    if not caller.is_authenticated:
        raise NotAuthenticated()
    if item is not None and not caller.sees_all and item.user_identifier != caller.user_identifier:
        raise NotFound()

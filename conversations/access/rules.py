"""Who may do what: for every door, and nowhere else. ``credentials`` says who is calling.

An *open* server (``REQUIRE_LOGIN`` off) is for one person on their own machine: whoever reaches it over loopback,
through a proxy that does not show too, sees everything, and ``user_id`` is a label that filters lists and picks the
model settings. With login, the caller is an account and sees what is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from django.utils.translation import gettext_lazy as _

from ..exceptions import NotAuthenticated, NotFound, PermissionRefused
from ..models import Scope

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
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
    MANAGE_KEYS = "manage_keys"


NEEDED_SCOPE = {
    Action.LIST: Scope.READ,
    Action.READ: Scope.READ,
    Action.CREATE: Scope.CHAT,
    Action.CHANGE: Scope.CHAT,
    Action.DELETE: Scope.CHAT,
    Action.CHAT: Scope.CHAT,
    Action.STOP: Scope.CHAT,
    Action.CONFIGURE: Scope.CONFIG,
    Action.MANAGE_KEYS: Scope.KEYS,
}
ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller showed: nothing on an open server, else a session's key or an API key."""

    kind: Literal["open", "session", "key"]
    secret: str = field(default="", repr=False)


OPEN = Credential("open")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. ``sees_all`` is the one person of an open server."""

    user_identifier: str = ""
    user: User | None = None
    sees_all: bool = False
    scopes: frozenset[Scope] = ALL_SCOPES
    key_id: int | None = None
    credential: Credential = OPEN

    @classmethod
    def of(cls, user: User, **more: Any) -> Caller:
        """Return the account ``user`` as a caller; ``more`` are other fields."""
        return cls(user_identifier=identifier_of(user), user=user, **more)

    @property
    def is_authenticated(self) -> bool:
        """Whether this caller may call at all (Django REST framework asks so)."""
        return self.sees_all or bool(self.user_identifier)

    @property
    def subject(self) -> str:
        """Whose limits count: the account's, over all its keys and sessions; ``""`` on an open server without any."""
        return self.user_identifier if self.user else ""

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


def identifier_of(user: AbstractBaseUser) -> str:
    """Return the ``user_identifier`` of an account's rows."""
    return f"{ACCOUNT_PREFIX}{user.pk}"


def authorize(caller: Caller, action: Action, item: Any = None) -> None:
    """Let ``caller`` do ``action``, to ``item`` where there is one, or raise.

    Somebody else's item is ``NotFound``: that it exists is not to be told. Queries start from
    ``for_owner(caller)`` all the same.
    """
    if not caller.is_authenticated:
        raise NotAuthenticated()
    if (scope := NEEDED_SCOPE[action]) not in caller.scopes:
        detail = _("This API key may not do this: it lacks the scope “%(scope)s”.") % {"scope": scope.value}
        raise PermissionRefused(detail, code="scope_missing")
    if item is not None and not caller.sees_all and item.user_identifier != caller.user_identifier:
        raise NotFound()

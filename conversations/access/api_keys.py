"""API keys: made, shown once, found again by their hash, revoked.

A key is ``chatkey_`` and 32 random bytes in URL-safe base64. What is stored is its SHA-256: with so much chance in
it there is nothing to guess, so that a slow hash would buy nothing and cost every request.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..database.compiled import Select, Update, given
from ..database.transactions import replayed
from ..exceptions import NotAuthenticated, NotFound, PermissionRefused, TooManyKeys
from ..models import ApiKey, Scope
from .rules import Action, Caller, authorize

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PREFIX = "chatkey_"
RANDOM_BYTES = 32
HINT_LENGTH = len(PREFIX) + 4
MAX_LENGTH = 200
DEFAULT_SCOPES = (Scope.READ, Scope.CHAT, Scope.CONFIG)
MAX_KEYS = 100
MAX_DAYS = 3650

audit = logging.getLogger("conversations.audit")

_by_hash = Select(lambda: ApiKey.objects.select_related("user").filter(hash=given(ApiKey, "hash")))
_mark_used = Update(
    lambda: ApiKey.objects.filter(
        Q(last_used_at=None) | Q(last_used_at__lt=given(ApiKey, "last_used_at")), pk=given(ApiKey, "id")
    ),
    lambda: {"last_used_at": given(ApiKey, "last_used_at")},
)
_used: dict[int, datetime] = {}
_used_lock = Lock()


def find(token: str) -> ApiKey:
    """Return the key that ``token`` is, with its user; raises ``NotAuthenticated`` unless it lets in."""
    if len(token) <= MAX_LENGTH:
        key = _by_hash.first(hash=hash_of(token))
        if key is not None and key.is_usable:
            with _used_lock:
                _used[key.pk] = timezone.now()
            return key
    raise NotAuthenticated(_("This API key is not known, or it has expired or been revoked."), code="invalid_key")


def write_last_used() -> None:
    """Note when keys were used last. The engine calls it every few seconds: not every call needs a write."""
    with _used_lock:
        used = dict(_used)
        _used.clear()
    if not used:
        return
    try:
        with transaction.atomic(savepoint=False):
            for pk, moment in sorted(used.items()):  # in one order, or two processes would wait for each other
                _mark_used.run(id=pk, last_used_at=moment)
    except DatabaseError:
        with _used_lock:
            _used.update({**used, **_used})  # for the next time
        raise


def hash_of(token: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()


@replayed
def make(
    *, user: User, name: str, scopes: Iterable[str] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key of ``user`` (an account); return its row, and the key itself, which nobody can read again."""
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    key = ApiKey.objects.create(
        user=user,
        name=name,
        hint=token[:HINT_LENGTH],
        hash=hash_of(token),
        scopes=" ".join(sorted(scopes)),
        expires_at=expires_at,
    )
    audit.info("API key %d of user %s made, scopes: %s", key.pk, key.user_id, key.scopes)
    return key, token


@replayed
def revoke(key: ApiKey) -> None:
    """End a key for good. Idempotent."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.info("API key %d of user %s revoked", key.pk, key.user_id)


def in_days(days: int | None) -> datetime | None:
    """Return when a key ends that is made now, for so many days; None for never."""
    return timezone.now() + timedelta(days=days) if days else None


# For callers ------------------------------------------------------------------------------------------------


def list_keys(*, caller: Caller) -> list[ApiKey]:
    """Return the caller's keys that are not revoked, newest first."""
    _authorize(caller)
    return list(ApiKey.objects.for_owner(caller).filter(revoked_at=None).order_by("-pk"))


def create_key(
    *, caller: Caller, name: str, scopes: Iterable[str] | None = None, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key of the caller's. One that is made with a key has no more scopes, and lives no longer, than that."""
    _authorize(caller)
    wanted = frozenset(Scope(scope) for scope in (DEFAULT_SCOPES if scopes is None else scopes))
    if not wanted <= caller.scopes:
        raise PermissionRefused(_("A key cannot make a key that may do more than itself."), code="scope_missing")
    if ApiKey.objects.for_owner(caller).filter(revoked_at=None).count() >= MAX_KEYS:
        raise TooManyKeys(_("You have %(limit)d API keys; revoke one first.") % {"limit": MAX_KEYS})
    if caller.key_id is not None:
        limit = ApiKey.objects.values_list("expires_at", flat=True).get(pk=caller.key_id)
        expires_at = min((moment for moment in (limit, expires_at) if moment is not None), default=None)
    assert caller.user is not None
    return make(user=caller.user, name=name, scopes=wanted, expires_at=expires_at)


def revoke_key(*, caller: Caller, key_id: int) -> None:
    """Revoke one of the caller's keys; raises ``NotFound``."""
    _authorize(caller)
    key = ApiKey.objects.for_owner(caller).filter(pk=key_id, revoked_at=None).first()
    if key is None:
        raise NotFound()
    revoke(key)


def _authorize(caller: Caller) -> None:
    authorize(caller, Action.MANAGE_KEYS)
    if caller.user is None:
        raise PermissionRefused(_("API keys belong to accounts; this server asks for no login."))

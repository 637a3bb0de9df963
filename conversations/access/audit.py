"""Who came, left and was refused, told to the audit log: the logger ``conversations.audit``.

API keys are told there by ``api_keys``; changes that are made in admin are in admin's own history. Never a password.
"""

from __future__ import annotations

import logging
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import post_save
from django.http import HttpRequest

from .credentials import Connection, client_address

NAME_LENGTH = 150

audit = logging.getLogger("conversations.audit")


def logged_in(*, request: HttpRequest | None, user: Any, **_kwargs: Any) -> None:
    audit.info("User %s logged in from %s", user.pk, _address(request))


def logged_out(*, request: HttpRequest | None, user: Any, **_kwargs: Any) -> None:
    if user is not None:
        audit.info("User %s logged out from %s", user.pk, _address(request))


def login_failed(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_kwargs: Any) -> None:
    if getattr(request, "axes_locked_out", False) and not getattr(request, "axes_failures_since_start", None):
        return  # not judged at all: `locked_out` tells of it
    name = credentials.get(get_user_model().USERNAME_FIELD) or credentials.get("username")
    audit.info("Login as %s failed from %s", _quoted(name), _address(request))


def locked_out(*, request: HttpRequest | None, username: str | None = None, **_kwargs: Any) -> None:
    audit.info("Login as %s is locked from %s", _quoted(username), _address(request))


def password_set(*, instance: Any, raw: bool = False, **_kwargs: Any) -> None:
    # Django keeps the new password here until the row is saved, and forgets it when it only renews the hash.
    if not raw and getattr(instance, "_password", None) is not None:
        audit.info("The password of user %s was set", instance.pk)


def _quoted(name: Any) -> str:
    """Return what somebody gave as a user name as one short line."""
    text = str(name or "")
    return ascii(text[:NAME_LENGTH]) + ("…" if len(text) > NAME_LENGTH else "")


def _address(request: HttpRequest | None) -> str:
    return (client_address(Connection.from_request(request)) if request else "") or "-"


user_logged_in.connect(logged_in)
user_logged_out.connect(logged_out)
user_login_failed.connect(login_failed)
post_save.connect(password_set, sender=get_user_model())
if apps.is_installed("axes"):
    from axes.signals import user_locked_out

    user_locked_out.connect(locked_out)

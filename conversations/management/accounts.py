"""Accounts as commands name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def account_named(name: str) -> User:
    """Return the account with this user name; raise ``CommandError`` if there is none."""
    accounts: Any = get_user_model()._default_manager
    account: User | None = accounts.filter(**{get_user_model().USERNAME_FIELD: name}).first()
    if account is None:
        raise CommandError(_("There is no account %(user)s.") % {"user": repr(name)})
    return account

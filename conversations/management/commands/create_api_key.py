"""`manage.py create_api_key USER --name N [--expires DAYS] [--scopes …]`"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.translation import gettext as _

from conversations import api_keys
from conversations.access import Scope


class Command(BaseCommand):
    help = "Make an API key for an account and print it, alone, on standard output. It is never shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the account's user name")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--expires", type=int, metavar="DAYS", help="after how many days it ends (default: never)")
        parser.add_argument(
            "--scopes",
            nargs="+",
            choices=Scope.values,
            default=[scope.value for scope in api_keys.DEFAULT_SCOPES],
            help="what it may be used for (default: %(default)s)",
        )

    def handle(self, *, user: str, name: str, expires: int | None, scopes: list[str], **_options: Any) -> None:
        accounts = get_user_model()._default_manager
        account = accounts.filter(**{get_user_model().USERNAME_FIELD: user}).first()
        if account is None:
            raise CommandError(_("There is no account %(user)s.") % {"user": repr(user)})
        if not account.is_active:
            raise CommandError(_("The account %(user)s is not active: its keys would let nobody in.") % {"user": user})
        if not 0 < len(name.strip()) <= 100:
            raise CommandError(_("The name has to have 1 to 100 characters."))
        if expires is not None and not 1 <= expires <= 3650:
            raise CommandError(_("The days have to be from 1 to 3650."))
        _key, token = api_keys.make(
            user=account,
            name=name.strip(),
            scopes=set(scopes),
            expires_at=None if expires is None else timezone.now() + timedelta(days=expires),
        )
        self.stdout.write(token)

"""`manage.py create_api_key USER --name N [--expires DAYS] [--scopes …]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from conversations.access import api_keys
from conversations.management.accounts import account_named
from conversations.models import Scope
from conversations.models.api_keys import NAME_LENGTH


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
        account = account_named(user)
        if not account.is_active:
            raise CommandError(_("The account %(user)s is not active: its keys would let nobody in.") % {"user": user})
        if not 0 < len(name.strip()) <= NAME_LENGTH:
            raise CommandError(_("The name has to have 1 to 100 characters."))
        if not name.strip().isprintable():
            raise CommandError(_("Control characters are not allowed."))
        if expires is not None and not 1 <= expires <= api_keys.MAX_DAYS:
            raise CommandError(_("The days have to be from 1 to 3650."))
        _key, token = api_keys.make(
            user=account,
            name=name.strip(),
            scopes=set(scopes),
            expires_at=api_keys.in_days(expires),
        )
        self.stdout.write(token)

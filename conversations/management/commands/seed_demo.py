"""``manage.py seed_demo``: fill the database with made-up conversations."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from conversations.access.rules import identifier_of
from conversations.management import seeding
from conversations.management.accounts import account_named

BAR = 30
MOST = 100_000_000


def amount(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MOST):
        raise ArgumentTypeError(_("%(text)s is not a whole number from 0 to 100000000") % {"text": repr(text)})
    return int(text)


class Command(BaseCommand):
    help = "Store made-up conversations, to try lists, history, search, admin and pruning at size."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--conversations", type=amount, default=100, metavar="N", help="how many (100)")
        parser.add_argument("--messages", type=amount, default=1000, metavar="M", help="how many in all (1000)")
        parser.add_argument("--user", help="all of one account, by its user name (default: nobody's)")
        parser.add_argument(
            "--identifiers", type=amount, metavar="K", help="spread over the identifiers demo-1 to demo-K instead"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        total = options["conversations"]
        seeding.seed(
            conversations=total,
            messages=options["messages"],
            owners=self._owners(options["user"], options["identifiers"]),
            tell=lambda done: self._progress(done, total),
        )
        if self.stderr.isatty():
            self.stderr.write("")
        self.stdout.write(
            _("%(conversations)d conversations with %(messages)d messages in %(seconds).0f s")
            % {"conversations": total, "messages": options["messages"], "seconds": time.monotonic() - started}
        )

    def _owners(self, user: str | None, identifiers: int | None) -> list[tuple[str, int | None]]:
        if user is None:
            return [(f"demo-{number + 1}", None) for number in range(identifiers)] if identifiers else [("", None)]
        account = account_named(user)
        return [(identifier_of(account), account.pk)]

    def _progress(self, done: int, total: int) -> None:
        """Draw a bar, where somebody looks."""
        if self.stderr.isatty():
            filled = BAR * done // max(total, 1)
            self.stderr.write(f"\r[{'#' * filled}{'.' * (BAR - filled)}] {done}/{total}", ending="")
            self.stderr.flush()

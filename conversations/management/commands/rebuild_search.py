"""``manage.py rebuild_search``: give every message its text in the search index."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Max, Min

from conversations.services import searching


class Command(BaseCommand):
    help = (
        "Take every message's text into the search index, in short transactions: those that are missing, or with "
        "--all every one anew. It can be broken off and run again at any time, beside a server. Prints how many."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="every text anew, as after another SEARCH was set")
        parser.add_argument("--from", dest="begin", type=int, default=0, metavar="ID", help="go on at this message")

    def handle(self, *args: Any, **options: Any) -> None:
        last, done = options["begin"] - 1, 0
        bounds = searching.to_index().aggregate(first=Min("pk"), last=Max("pk"))
        while page := searching.rebuild_page(after=last, anew=options["all"]):
            last = page.last_id
            done += page.added
            self._show(last, bounds["first"], bounds["last"], options["verbosity"])
        if options["verbosity"] and self.stderr.isatty():
            self.stderr.write("")
        self.stdout.write(str(done))

    def _show(self, at: int, first: int, last: int, verbosity: int) -> None:
        """Show how far it is, and from where to go on."""
        if verbosity and self.stderr.isatty():
            share = min(100, 100 * (at - first + 1) // max(1, last - first + 1))
            bar = "#" * (share // 4)
            self.stderr.write(f"\r[{bar:<25}] {share:3d} %  --from {at + 1} ", ending="")

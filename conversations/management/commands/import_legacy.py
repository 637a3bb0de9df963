"""``manage.py import_legacy``: bring the old service's conversations over."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from conversations.management.legacy import Importer, SourceError, Tally, open_source


class Command(BaseCommand):
    help = (
        "Bring conversations, messages and user settings of the old FastAPI service over. The old database is "
        "only read. To run it again adds what is new since, without doubles."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "source",
            metavar="PATH_OR_URL",
            help="a SQLite file, or the old DATABASE_URL (sqlite:///, mysql+pymysql://, postgresql://)",
        )
        parser.add_argument(
            "--timezone",
            help="what its times without a zone mean: UTC, the default, or Asia/Shanghai for a service with logins",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be imported, and store nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with open_source(options["source"], zone=_zone(options["timezone"] or "UTC")) as source:
                if source.has_accounts and not options["timezone"]:
                    self._note(
                        _("the old service had logins; such versions kept Beijing time: --timezone Asia/Shanghai")
                    )
                tally = Importer(source, dry_run=options["dry_run"], note=self._note).run()
        except SourceError as error:
            raise CommandError(str(error)) from error
        self._report(tally, dry_run=options["dry_run"])

    def _note(self, text: str) -> None:
        self.stderr.write(text, style_func=str)

    def _report(self, tally: Tally, *, dry_run: bool) -> None:
        for old, new in tally.renamed:
            self.stdout.write(_("session %(old)s is now %(new)s") % {"old": repr(old), "new": new})
        for line in (
            _(
                "conversations: %(conversations_added)d added, %(conversations_continued)d continued, "
                "%(conversations_unchanged)d unchanged"
            ),
            _("messages: %(messages_added)d added, %(messages_skipped)d left out"),
            _("user settings: %(configs_added)d added, %(configs_kept)d kept as they are here"),
        ):
            self.stdout.write(line % asdict(tally))
        if dry_run:
            self._note(_("dry run: nothing was stored"))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problem = _("There is no time zone %(name)s; use a name such as UTC or Asia/Shanghai.")
        raise CommandError(problem % {"name": repr(name)}) from None

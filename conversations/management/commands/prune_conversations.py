"""``manage.py prune_conversations``: delete what each owner has beyond the newest conversations."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone
from django.utils.translation import gettext as _

from conversations import conf
from conversations.engine import pruning
from conversations.files import storage


def whole_number(text: str) -> int:
    """Parse a number of conversations or days."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1_000_000:
        raise ArgumentTypeError(_("%(text)s is not a whole number from 0 to 1000000") % {"text": repr(text)})
    return number


class Command(BaseCommand):
    help = (
        "Keep the newest conversations of each owner and delete the others. Pinned ones are kept beside them, "
        "one that is being answered always. What was temporary, or deleted with an undo, goes when its time is over. "
        "Prints how many were deleted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--keep", type=whole_number, metavar="N", help="how many, else the setting KEEP_LATEST")
        parser.add_argument(
            "--older-than", type=whole_number, metavar="DAYS", help="delete also what was last active before that"
        )
        parser.add_argument("--user", metavar="U", help="of this user identifier only; '' is nobody's")
        parser.add_argument("--dry-run", action="store_true", help="say how many, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        keep = conf.get().KEEP_LATEST if options["keep"] is None else options["keep"]
        before = _days_ago(options["older_than"])
        total = 0
        for owner in pruning.owners() if options["user"] is None else [options["user"]]:
            total += (count := _prune(owner, keep, before, dry_run=options["dry_run"]))
            if count:
                name = owner or _("(nobody)")
                self.stderr.write(f"{name}: {count}", style_func=str)
        total += _expired(dry_run=options["dry_run"])
        if options["dry_run"]:
            self.stderr.write(_("dry run: nothing was deleted"), style_func=str)
        else:
            storage.sweep()
        self.stdout.write(str(total))


def _days_ago(days: int | None) -> datetime | None:
    try:
        return None if days is None else timezone.now() - timedelta(days=days)
    except OverflowError:  # before the year 1
        return None


def _expired(*, dry_run: bool) -> int:
    """Delete what has been hidden, or was temporary, for long enough; return how many."""
    doomed = pruning.expired()
    return sum(len(batch) if dry_run else pruning.delete_expired(batch) for batch in doomed)


def _prune(owner: str, keep: int, before: datetime | None, *, dry_run: bool) -> int:
    if dry_run:
        return len(pruning.prunable(user_identifier=owner, keep=keep, before=before))
    return pruning.prune_owner(user_identifier=owner, keep=keep, before=before)

"""``manage.py claim_conversations``: give an account what an open server kept under a name."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict, dataclass
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from conversations import conf
from conversations.access.rules import ACCOUNT_PREFIX, identifier_of
from conversations.database.transactions import replayed
from conversations.management.accounts import account_named
from conversations.models import KEPT_COUNTS, Attachment, Conversation, DailyUsage, Generation, UserConfig

BATCH = 500

audit = logging.getLogger("conversations.audit")


@dataclass(slots=True)
class Claim:
    """What was moved, and what has to be said about it."""

    conversations: int = 0
    generations: int = 0
    configs: int = 0
    config_left: bool = False
    keys_dropped: int = 0
    names_dropped: int = 0
    owned: int = 0


def identifier(text: str) -> str:
    """Parse a user identifier of an open server."""
    if text.startswith(ACCOUNT_PREFIX):
        problem = _("%(text)s is an account's; only what an open server kept can be claimed")
        raise ArgumentTypeError(problem % {"text": repr(text)})
    return text


class Command(BaseCommand):
    help = (
        "Give an account the conversations, answers, attachments and model settings that an open server kept under a "
        "user_id. Run it after login was switched on; to run it again moves what is left. What the account has stays."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--identifier", type=identifier, required=True, metavar="X", help="the user_id; '' is what was nobody's"
        )
        parser.add_argument("--user", required=True, metavar="U", help="the account's user name")
        parser.add_argument("--dry-run", action="store_true", help="say what would be moved, and move nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        account = account_named(options["user"])
        claim = _move_or_try(options["identifier"], account, dry_run=options["dry_run"])
        self._report(claim)
        if options["dry_run"]:
            self._note(_("dry run: nothing was moved"))
        elif claim.conversations or claim.configs:
            details = (claim.conversations, options["identifier"][:150], account.pk)
            audit.info("%d conversations of %a, and the settings, were claimed for user %s", *details)

    def _report(self, claim: Claim) -> None:
        counts = _("conversations: %(conversations)d, answers: %(generations)d, model settings: %(configs)d")
        self.stdout.write(counts % asdict(claim))
        if claim.config_left:
            self._note(_("the account keeps its own model settings; the others stay where they are"))
        if claim.keys_dropped:
            self._note(
                _("idempotency keys that the account has used itself were dropped: %(keys_dropped)d") % asdict(claim)
            )
        if claim.names_dropped:
            self._note(
                _("clients' ids that conversations of the account have themselves were dropped: %(names_dropped)d")
                % asdict(claim)
            )
        keep = conf.get().KEEP_LATEST
        if claim.owned > keep:
            self._note(
                _("the account has %(owned)d conversations now; pruning will keep the newest %(keep)d")
                % {"owned": claim.owned, "keep": keep}
            )

    def _note(self, text: str) -> None:
        self.stderr.write(text, style_func=str)


@replayed
def _move_or_try(identifier: str, account: Any, *, dry_run: bool) -> Claim:
    claim = move(identifier, account)
    transaction.set_rollback(dry_run)
    return claim


def move(identifier: str, account: Any) -> Claim:
    """Move everything of ``identifier`` to ``account``; to be called in a transaction."""
    whose = {"owner": account, "user_identifier": identifier_of(account)}
    claim = Claim(
        keys_dropped=_drop_clashing_keys(identifier, whose["user_identifier"]),
        names_dropped=_drop_clashing_names(identifier, whose["user_identifier"]),
    )
    claim.generations = Generation.objects.filter(user_identifier=identifier).update(**whose)
    moved = Conversation.objects.filter(user_identifier=identifier)
    claim.conversations = moved.update(**whose, changed_at=timezone.now())
    _move_attachments(identifier, whose)
    _move_usage(identifier, whose["user_identifier"])
    configs = UserConfig.objects.filter(user_identifier=identifier)
    if UserConfig.objects.filter(user_identifier=whose["user_identifier"]).exists():
        claim.config_left = configs.exists()
    else:
        claim.configs = configs.update(**whose)
    claim.owned = Conversation.objects.filter(user_identifier=whose["user_identifier"]).count()
    return claim


def _move_attachments(identifier: str, whose: dict[str, Any]) -> None:
    """Move the images of what is the account's now, whatever name they were sent under, and those in nothing yet."""
    theirs = Conversation.objects.filter(user_identifier=whose["user_identifier"])
    unused = Q(conversation=None, user_identifier=identifier)
    Attachment.objects.filter(Q(conversation__in=theirs) | unused).update(**whose)


def _move_usage(identifier: str, own_identifier: str) -> None:
    """Move what was used, day by day; where the account has used something itself, it is added to that."""
    for row in DailyUsage.objects.filter(user_identifier=identifier).order_by("pk"):
        own = DailyUsage.objects.filter(user_identifier=own_identifier, day=row.day, model_type=row.model_type)
        if own.update(**{name: F(name) + getattr(row, name) for name in KEPT_COUNTS}):
            row.delete()
        else:
            DailyUsage.objects.filter(pk=row.pk).update(user_identifier=own_identifier)


def _drop_clashing_keys(identifier: str, own_identifier: str) -> int:
    """Free the idempotency keys that both have used: an account has each once."""
    freed = {"idempotency_key": None, "idempotency_hash": ""}
    return _drop_clashing(Generation.objects.all(), "idempotency_key", freed, identifier, own_identifier)


def _drop_clashing_names(identifier: str, own_identifier: str) -> int:
    """Free the names that clients gave to conversations of both: an account has each once."""
    return _drop_clashing(Conversation.objects.all(), "client_id", {"client_id": None}, identifier, own_identifier)


def _drop_clashing(
    rows: QuerySet[Any], column: str, freed: dict[str, Any], identifier: str, own_identifier: str
) -> int:
    """Let the rows that are moved be as ``freed`` where the account has one with the same value of ``column``."""
    used = rows.filter(user_identifier=identifier).exclude(**{column: None})
    dropped = 0
    values = list(used.values_list(column, flat=True))
    for first in range(0, len(values), BATCH):
        batch = {f"{column}__in": values[first : first + BATCH]}
        own = rows.filter(user_identifier=own_identifier, **batch).values_list(column, flat=True)
        dropped += used.filter(**{f"{column}__in": list(own)}).update(**freed)
    return dropped

"""``manage.py rotate_encryption``: encrypt what is stored anew, with the first of the encryption keys.

A rotation has four steps, and servers run on through all of them:

1. Put the new key first in ``LLMPROVIDERS["ENCRYPTION_KEYS"]`` (``FIELD_ENCRYPTION_KEYS``), before the old one.
2. Restart every server, so that none goes on writing with the old key.
3. Run this command.
4. Once it exits with 0, take the old key off the list and restart. Keep it as long as backups need it.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.utils.translation import gettext as _

from llmproviders.fields import DecryptionFailed, EncryptedTextField, as_stored, ciphertext

# So many ciphertexts are read at a time.
BATCH = 500


@dataclass(slots=True)
class Tally:
    """How many values of a column were encrypted anew, had the first key already, could not be opened."""

    rotated: int = 0
    current: int = 0
    unreadable: int = 0


class Command(BaseCommand):
    help = (
        "Encrypt every stored secret anew with the first of the encryption keys. Servers may go on meanwhile. "
        "Fails if a value can be opened with none of the keys; such values are named and left as they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and store nothing")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="which of the databases"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable = 0
        for field in encrypted_fields(options["database"]):
            tally = self._rotate(field, options["database"], dry_run=options["dry_run"])
            unreadable += tally.unreadable
            line = _(
                "%(column)s: %(rotated)d encrypted anew, %(current)d already current, %(unreadable)d unreadable"
            ) % {
                "column": column_of(field),
                "rotated": tally.rotated,
                "current": tally.current,
                "unreadable": tally.unreadable,
            }
            self.stdout.write(line)
        if options["dry_run"]:
            self.stderr.write(_("dry run: nothing was stored"), style_func=str)
        if unreadable:
            problem = _("Values that no encryption key opens: %(count)d. Do not take a key off the list yet.")
            raise CommandError(problem % {"count": unreadable})

    def _rotate(self, field: EncryptedTextField, database: str, *, dry_run: bool) -> Tally:
        tally = Tally()
        for pk, token in _tokens(field, database):
            try:
                if _rotate_one(field, database, pk, token, dry_run=dry_run):
                    tally.rotated += 1
                else:
                    tally.current += 1
            except DecryptionFailed:
                tally.unreadable += 1
                problem = _("%(column)s of the row %(pk)s cannot be decrypted with any of the encryption keys")
                self.stderr.write(problem % {"column": column_of(field), "pk": repr(pk)}, style_func=str)
        return tally


def encrypted_fields(database: str) -> list[EncryptedTextField]:
    """Return the encrypted fields of all installed models whose tables are in ``database``."""
    return [
        field
        for model in apps.get_models(include_auto_created=True)
        if router.allow_migrate_model(database, model)
        # Local ones: an inherited column is found once, in the table that has it.
        for field in model._meta.local_concrete_fields
        if isinstance(field, EncryptedTextField)
    ]


def column_of(field: EncryptedTextField) -> str:
    return f"{field.model._meta.db_table}.{field.column}"


def _rows(field: EncryptedTextField, database: str) -> models.QuerySet[Any]:
    """Return the rows that hold a ciphertext, as ``token``."""
    every = field.model._base_manager.using(database)
    rows: models.QuerySet[Any] = every.annotate(token=ciphertext(field.name)).filter(token__gt="")
    return rows


def _tokens(field: EncryptedTextField, database: str) -> Iterator[tuple[Any, str]]:
    """Yield primary keys and ciphertexts, in pages by primary key."""
    page = rows = _rows(field, database).order_by("pk").values_list("pk", "token")
    while found := list(page[:BATCH]):
        yield from found
        page = rows.filter(pk__gt=found[-1][0])


def _rotate_one(field: EncryptedTextField, database: str, pk: Any, token: str, *, dry_run: bool) -> bool:
    """Encrypt one value anew, unless it is current. Raises ``DecryptionFailed``.

    A value that somebody changes at the same time stays theirs: it is looked at again.
    """
    row = _rows(field, database).filter(pk=pk)
    while (fresh := field.rotated(token)) is not None:
        if dry_run or row.filter(token=token).update(**{field.name: as_stored(fresh)}):
            return True
        changed = row.values_list("token", flat=True).first()
        if changed is None:  # deleted or cleared meanwhile
            return False
        token = changed
    return False

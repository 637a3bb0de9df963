"""`migrate`, one at a time, and with one line where the database cannot be used."""

from __future__ import annotations

import os
from typing import Any

from django.apps import apps
from django.core.management import CommandError, find_commands, load_command_class
from django.core.management.base import BaseCommand
from django.core.management.commands.migrate import Command as Migrate
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from conversations.database import outages
from conversations.database.encoding import unfit
from conversations.database.migration_lock import migration_lock

# As `python -m chatproject` ends where the database cannot be used.
NO_DATABASE = 3


def _next() -> type[BaseCommand]:
    """The command that would run without this one: another app of the project may have its own."""
    for config in apps.get_app_configs():
        if config.name != "conversations" and "migrate" in find_commands(os.path.join(config.path, "management")):
            return type(load_command_class(config.name, "migrate"))
    return Migrate


class Command(_next()):  # type: ignore[misc]
    def execute(self, *args: Any, **options: Any) -> Any:
        connection = connections[options.get("database") or DEFAULT_DB_ALIAS]
        # A migration may take longer than an answer should.
        given = connection.settings_dict["OPTIONS"]
        connection.settings_dict["OPTIONS"] = {name: value for name, value in given.items() if name != "read_timeout"}
        try:
            self._look(connection)
            with migration_lock(connection, waiting=self._say_that_it_waits):
                return super().execute(*args, **options)
        except Error as error:
            if not outages.is_outage(error):
                raise
            raise self._unusable(connection, str(error)) from error
        finally:
            connection.settings_dict["OPTIONS"] = given

    def _look(self, connection: BaseDatabaseWrapper) -> None:
        """Raise ``CommandError`` unless the database answers, and can hold every character.

        Only of ours: what a project keeps in its others is its own matter.
        """
        if connection.alias != DEFAULT_DB_ALIAS:
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            reason = unfit(connection)
        except (Error, TypeError, ValueError) as error:  # the last two: OPTIONS that a driver cannot take
            raise self._unusable(connection, str(error)) from error
        if reason:
            raise self._unusable(connection, reason)

    def _unusable(self, connection: BaseDatabaseWrapper, reason: str) -> CommandError:
        password = str(connection.settings_dict.get("PASSWORD") or "")
        line = " ".join((reason.replace(password, "***") if password else reason).split())
        problem = _("the database cannot be used (%(reason)s); DATABASE_URL, or DATABASES, says which it is.")
        return CommandError(problem % {"reason": line}, returncode=NO_DATABASE)

    def _say_that_it_waits(self) -> None:
        self.stderr.write(_("Another process migrates this database; waiting for it."))

"""Checks of the databases themselves, and of where routers send our rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.utils.translation import gettext as _

from ..database.encoding import OUR_APPS, unfit

Apps = Sequence[AppConfig] | None


@register(Tags.database)
def check_fitness(app_configs: Apps, databases: Iterable[str] | None, **_kwargs: Any) -> list[CheckMessage]:
    """Ask the default database what it can hold: in ``migrate`` and ``check --database default``."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    reason = unfit(connections[DEFAULT_DB_ALIAS])
    if not reason:
        return []
    return [Error(_("Unfit for this app: %(reason)s.") % {"reason": reason}, id="conversations.E013")]


@register()
def check_routers(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Everything here is in the default database, and is read where it was written."""
    ours = [model for app in OUR_APPS if apps.is_installed(app) for model in apps.get_app_config(app).get_models()]
    return list(_misled([*ours, _user_model()])) if settings.DATABASE_ROUTERS else []


def _user_model() -> type[models.Model]:
    return apps.get_model(settings.AUTH_USER_MODEL, require_ready=False)


def _misled(wanted: Iterable[type[models.Model]]) -> Iterator[CheckMessage]:
    for model in wanted:
        aliases = {router.db_for_read(model), router.db_for_write(model)} - {DEFAULT_DB_ALIAS}
        if not router.allow_migrate_model(DEFAULT_DB_ALIAS, model):
            aliases.add(_("none"))
        if aliases:
            yield Error(
                _("DATABASE_ROUTERS sends %(model)s to %(alias)s.")
                % {"model": model._meta.label, "alias": ", ".join(sorted(aliases))},
                hint=_(
                    "The apps and the accounts they belong to live in the database 'default', and have to read what "
                    "was just written. Let the routers return None or 'default' for these models."
                ),
                id="conversations.E014",
                obj=model,
            )

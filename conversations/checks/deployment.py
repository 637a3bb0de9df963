"""Checks of what the app stands on: the database, the channel layer, the other app."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.translation import gettext as _

from .. import conf

PLAIN_FILES = "django.core.files.storage.FileSystemStorage"
Apps = Sequence[AppConfig] | None


@register()
def check_database_settings(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Look at the settings of databases, most of all the default one's; nothing connects."""
    database = settings.DATABASES.get("default") or {}
    vendor = str(database.get("ENGINE", "")).rpartition(".")[2]
    found = [*_check_atomic_requests(), *_check_persistence(database)]
    if vendor in ("sqlite3", "spatialite"):
        found += _check_sqlite(database.get("OPTIONS") or {})
    elif vendor == "mysql":
        found += _check_mysql(database.get("OPTIONS") or {})
    return found


def _check_atomic_requests() -> Iterator[CheckMessage]:
    """Of all databases: views know nothing of which of them they use."""
    for alias, database in settings.DATABASES.items():
        if database.get("ATOMIC_REQUESTS"):
            yield Error(
                _("ATOMIC_REQUESTS is on for the database %(alias)s.") % {"alias": repr(alias)},
                hint=_("Async views refuse it, and a stream must not hold a transaction open. Turn it off."),
                id="conversations.E007",
            )


def _check_persistence(database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if database.get("CONN_MAX_AGE", 0) != 0:
        yield Warning(
            _("CONN_MAX_AGE is not 0 for the default database."),
            hint=_(
                "Under ASGI Django serves each request in a thread of its own, whose connection would stay open "
                "and never be used again (Django ticket 33497). This app's own threads keep theirs anyway."
            ),
            id="conversations.W003",
        )


def _check_sqlite(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if str(options.get("transaction_mode") or "").upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            _("SQLite transactions of the default database begin as DEFERRED."),
            hint=_(
                "One that reads and then writes fails at once when another connection wrote in between, whatever "
                "the timeout. Set OPTIONS['transaction_mode'] to 'IMMEDIATE'."
            ),
            id="conversations.W001",
        )
    if "journal_mode=wal" not in str(options.get("init_command") or "").replace(" ", "").lower():
        yield Warning(
            _("SQLite of the default database keeps no write-ahead log."),
            hint=_(
                "Readers and the writer of answers block each other. Put 'PRAGMA journal_mode=WAL; "
                "PRAGMA synchronous=NORMAL' into OPTIONS['init_command']."
            ),
            id="conversations.W002",
        )


def _check_mysql(options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if str(options.get("charset", "utf8mb4")).lower() != "utf8mb4":
        yield Error(
            _("The default database's connection has the character set %(charset)s.")
            % {"charset": repr(options["charset"])},
            hint=_("It cannot carry emoji and many Chinese characters. Set OPTIONS['charset'] to 'utf8mb4'."),
            id="conversations.E008",
        )
    level = options.get("isolation_level", "read committed")
    if str(level or "").lower() != "read committed":
        yield Warning(
            _("The default database's isolation level is %(level)s.")
            % {"level": repr(level) if level else _("the one of the server")},
            hint=_(
                "The engine has to see what other processes committed. Set OPTIONS['isolation_level'] to "
                "'read committed'."
            ),
            id="conversations.W004",
        )


@register()
def check_time_zones(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Moments that are stored are compared with those that clients name."""
    if settings.USE_TZ:
        return []
    return [
        Error(
            _("USE_TZ is False."),
            hint=_("Lists and searches compare what is stored with times in UTC. Set it to True."),
            id="conversations.E017",
        )
    ]


@register()
def check_channel_layer(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Stops and new text travel between processes over the channel layer."""
    if "default" in (getattr(settings, "CHANNEL_LAYERS", None) or {}):
        return []
    return [
        Warning(
            _("There is no channel layer: CHANNEL_LAYERS has no 'default'."),
            hint=_(
                "Other processes then learn by polling that an answer was stopped. One process does well with "
                "{'default': {'BACKEND': 'channels.layers.InMemoryChannelLayer'}}, several need Redis."
            ),
            id="conversations.W005",
        )
    ]


@register()
def check_attachment_storage(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Attachments are for their owners: their files must not be among those that a URL gives to anybody."""
    known: Mapping[str, Any] = settings.STORAGES
    storage = known.get(str(conf.get().ATTACHMENT_STORAGE)) or {}
    if storage.get("BACKEND") != PLAIN_FILES or (storage.get("OPTIONS") or {}).get("location"):
        return []
    return [
        Warning(
            _("Attachments are kept among the files of MEDIA_ROOT."),
            hint=_(
                "Those are usually given to anybody who has their URL. Name a storage of its own, with a location, in "
                "STORAGES and in CONVERSATIONS['ATTACHMENT_STORAGE']."
            ),
            id="conversations.W007",
        )
    ]


@register()
def check_asgi(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Nothing of the API works under WSGI; `runserver` serves it unless daphne is installed before staticfiles."""
    serves_wsgi = bool(settings.WSGI_APPLICATION) or "runserver" in sys.argv[1:2]
    if not serves_wsgi or apps.is_installed("daphne"):
        return []
    return [
        Warning(
            _("This project can be served by WSGI, where every call of the API is refused."),
            hint=_(
                "Serve ASGI_APPLICATION with an ASGI server, remove WSGI_APPLICATION, and for `runserver` put "
                "'daphne' first into INSTALLED_APPS."
            ),
            id="conversations.W006",
        )
    ]


@register()
def check_providers_installed(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Models answer through the other app."""
    if apps.is_installed("llmproviders"):
        return []
    missing = _("'llmproviders' is not in INSTALLED_APPS.")
    return [Error(missing, hint=_("Add it there."), id="conversations.E009")]

"""System checks: settings that this app cannot work with (E), or works badly with (W).

========  =====================================================================
E001      ``CONVERSATIONS`` is not a dict
E002      a key of it that does not exist
E003      a value of the wrong type
E004      a value out of range
E005      a word that is none of the known ones
E006      no login is asked for, but ``ALLOWED_HOSTS`` names more than this machine
E007      ``ATOMIC_REQUESTS`` is on
E008      MySQL with a character set other than utf8mb4
E009      ``llmproviders`` is not installed
E010      ``TRUSTED_PROXIES`` names something that is no address or network
W001      SQLite whose transactions do not begin as IMMEDIATE
W002      SQLite without write-ahead log
W003      ``CONN_MAX_AGE`` is not 0
W004      MySQL with an isolation level other than READ COMMITTED
W005      no channel layer
========  =====================================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils.translation import gettext as _

from . import conf
from .credentials import is_loopback

Apps = Sequence[AppConfig] | None

# Lowest and highest value of a number, both allowed. A duration of 0 would make a busy loop of its timer.
RANGES: Mapping[str, tuple[float, float]] = {
    "KEEP_LATEST": (1, 1_000_000),
    "TITLE_TIMEOUT": (0.1, 3600),
    "DB_THREADS": (0, 64),
    "DRAIN_SECONDS": (0, 86_400),
    "MAX_BODY_BYTES": (1024, 2**31 - 1),
    "MAX_MESSAGE_LENGTH": (1, 10_000_000),
    "MAX_SYSTEM_PROMPT_LENGTH": (1, 10_000_000),
    "MAX_TOKENS": (1, 131_072),
    "TEMPERATURE": (0, 2),
    "PING_INTERVAL": (0.1, 3600),
    "CREDENTIAL_INTERVAL": (0.1, 3600),
    "AUTHENTICATE_TIMEOUT": (0.1, 3600),
    "BEAT_INTERVAL": (0.05, 60),
    "BEATS_TO_GIVE_UP": (2, 1000),
    "FOLLOW_INTERVAL": (0.01, 10),
    "STORAGE_TIMEOUT": (0.1, 3600),
}
LOWEST_ANY, HIGHEST_ANY = 0, 2**31 - 1


@register()
def check_app_settings(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Look at every key of ``CONVERSATIONS``."""
    given = getattr(settings, conf.NAME, {})
    if not isinstance(given, Mapping):
        names = {"setting": conf.NAME, "type": type(given).__name__}
        return [Error(_("%(setting)s is a %(type)s, not a dict.") % names, id="conversations.E001")]
    return [message for key, value in given.items() for message in _check_key(key, value)]


def _check_key(key: Any, value: Any) -> Iterator[CheckMessage]:
    types = get_type_hints(conf.Settings)
    if key not in types:
        yield _unknown_key(key)
    elif get_origin(types[key]) is Literal:
        yield from _check_word(key, value, get_args(types[key]))
    elif not _is_of(types[key], value):
        yield Error(
            _("%(setting)s has to be %(wanted)s, not %(type)s.")
            % {"setting": _setting(key), "wanted": _name_of(types[key]), "type": type(value).__name__},
            id="conversations.E003",
        )
    elif types[key] in (int, float):
        yield from _check_range(key, value)
    elif key == "TRUSTED_PROXIES":
        yield from _check_networks(key, value)


def _unknown_key(key: Any) -> CheckMessage:
    known = [item.name for item in fields(conf.Settings)]
    close = get_close_matches(str(key).upper(), known, n=1)
    meant = _("Did you mean %(key)s?") % {"key": repr(close[0])} if close else ""
    return Error(
        _("%(setting)s has no key %(key)s.") % {"setting": conf.NAME, "key": repr(key)},
        hint=meant or _("Known keys: %(keys)s.") % {"keys": ", ".join(known)},
        id="conversations.E002",
    )


def _check_word(key: str, value: Any, words: tuple[str, ...]) -> Iterator[CheckMessage]:
    if value not in words:
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": _setting(key), "value": repr(value)},
            hint=_("Use one of: %(words)s.") % {"words": ", ".join(repr(word) for word in words)},
            id="conversations.E005",
        )


def _check_range(key: str, value: float) -> Iterator[CheckMessage]:
    low, high = RANGES.get(key, (LOWEST_ANY, HIGHEST_ANY))
    if not low <= value <= high:  # also what is not a number
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": _setting(key), "value": repr(value)},
            hint=_("It has to be from %(low)s to %(high)s.") % {"low": low, "high": high},
            id="conversations.E004",
        )


def _check_networks(key: str, value: Sequence[Any]) -> Iterator[CheckMessage]:
    for name in value:
        try:
            ipaddress.ip_network(name, strict=False)
        except ValueError:
            yield Error(
                _("%(setting)s has %(value)s, which is no address or network.")
                % {"setting": _setting(key), "value": repr(name)},
                hint=_("Write for example 127.0.0.1 or 10.0.0.0/8."),
                id="conversations.E010",
            )


def _setting(key: str) -> str:
    return f"{conf.NAME}[{key!r}]"


def _is_of(wanted: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    if get_origin(wanted) is Sequence:
        return isinstance(value, (list, tuple))
    return isinstance(value, (int, float) if wanted is float else wanted)


def _name_of(wanted: Any) -> str:
    names = {bool: _("True or False"), int: _("a whole number"), float: _("a number"), str: _("a text")}
    if get_origin(wanted) is Sequence:
        return _("a list")
    return names.get(wanted, str(wanted))


@register(Tags.security)
def check_login(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Without login whoever reaches the server sees everything."""
    given = getattr(settings, conf.NAME, {})
    if not isinstance(given, Mapping) or given.get("REQUIRE_LOGIN", True):
        return []
    return [
        Error(
            _("Nobody has to log in, but ALLOWED_HOSTS has %(host)s, which may be more than this machine.")
            % {"host": repr(host)},
            hint=_("Set %(setting)s to True, or name only localhost, 127.0.0.1 and [::1].")
            % {"setting": _setting("REQUIRE_LOGIN")},
            id="conversations.E006",
        )
        for host in settings.ALLOWED_HOSTS
        if not is_loopback(host)
    ]


@register()
def check_database_settings(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Look at the default database's settings; nothing connects."""
    database = settings.DATABASES.get("default") or {}
    vendor = str(database.get("ENGINE", "")).rpartition(".")[2]
    found = [*_check_atomic_requests(database), *_check_persistence(database)]
    if vendor in ("sqlite3", "spatialite"):
        found += _check_sqlite(database.get("OPTIONS") or {})
    elif vendor == "mysql":
        found += _check_mysql(database.get("OPTIONS") or {})
    return found


def _check_atomic_requests(database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if database.get("ATOMIC_REQUESTS"):
        yield Error(
            _("ATOMIC_REQUESTS is on for the default database."),
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
def check_providers_installed(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Models answer through the other app."""
    if apps.is_installed("llmproviders"):
        return []
    missing = _("'llmproviders' is not in INSTALLED_APPS.")
    return [Error(missing, hint=_("Add it there."), id="conversations.E009")]

"""Checks of ``CONVERSATIONS``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from llmproviders.settings_dict import SettingsDict

from .. import conf
from ..access.hosts import names_this_machine

Apps = Sequence[AppConfig] | None

SETTING = SettingsDict(conf.NAME, conf.Settings)
# Lowest and highest value of a number, both allowed. A duration of 0 would make a busy loop of its timer.
RANGES: Mapping[str, tuple[float, float]] = {
    "KEEP_LATEST": (1, 1_000_000),
    "TITLE_TIMEOUT": (0.1, 3600),
    "DB_THREADS": (0, 64),
    "DB_JOB_TIMEOUT": (0.1, 3600),
    "LOCK_TIMEOUT": (0.01, 3600),
    "DRAIN_LISTEN_SECONDS": (0, 86_400),
    "DRAIN_SECONDS": (0, 86_400),
    "MAX_BODY_BYTES": (1024, 2**31 - 1),
    "MAX_LARGE_BODY_BYTES": (1024, 2**31 - 1),
    "LARGE_BODIES_AT_ONCE": (1, 10_000),
    "LARGE_BODIES_PER_CALLER": (1, 10_000),
    "ATTACHMENT_BYTES_PER_OWNER": (0, 2**50),
    "ATTACHMENTS_PER_OWNER": (0, 1_000_000_000),
    "KEEP_UNUSED_ATTACHMENTS_SECONDS": (1, 31_536_000),
    "MAX_IMAGE_PIXELS": (1, 150_000_000),
    "IMAGE_SIDE": (64, 16_000),
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
    "KEEP_TEMPORARY_SECONDS": (1, 31_536_000),
    "MAX_ANSWERS_PER_CALLER": (0, 1_000_000),
    "MAX_ANSWERS_PER_PROCESS": (0, 1_000_000),
    "TOKENS_PER_DAY": (0, 1_000_000_000_000),
}
INDEX = "conversations.search.index.Index"
LOWEST_ANY, HIGHEST_ANY = 0, 2**31 - 1


@register()
def check_app_settings(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Look at every key of ``CONVERSATIONS``."""
    given = SETTING.given()
    if not isinstance(given, Mapping):
        names = {"setting": conf.NAME, "type": type(given).__name__}
        return [Error(_("%(setting)s is a %(type)s, not a dict.") % names, id="conversations.E001")]
    return [message for key, value in given.items() for message in _check_key(key, value)]


def _check_key(key: Any, value: Any) -> Iterator[CheckMessage]:
    types = SETTING.types
    if key not in types:
        yield _unknown_key(key)
    elif get_origin(types[key]) is Literal:
        yield from _check_word(key, value, get_args(types[key]))
    elif not SETTING.fits(key, value):
        yield Error(
            _("%(setting)s has to be %(wanted)s, not %(type)s.")
            % {"setting": SETTING.shown(key), "wanted": _name_of(types[key]), "type": type(value).__name__},
            id="conversations.E003",
        )
    elif types[key] in (int, float):
        yield from _check_range(key, value)
    elif key == "TRUSTED_PROXIES":
        yield from _check_networks(key, value)
    elif key == "SEARCH":
        yield from _check_index(key, value)
    elif key == "ATTACHMENT_STORAGE":
        yield from _check_storage(key, value)


def _unknown_key(key: Any) -> CheckMessage:
    likely = SETTING.likely(key)
    meant = _("Did you mean %(key)s?") % {"key": repr(likely)} if likely else ""
    return Error(
        _("%(setting)s has no key %(key)s.") % {"setting": conf.NAME, "key": repr(key)},
        hint=meant or _("Known keys: %(keys)s.") % {"keys": SETTING.known()},
        id="conversations.E002",
    )


def _check_word(key: str, value: Any, words: tuple[str, ...]) -> Iterator[CheckMessage]:
    if not SETTING.fits(key, value):
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": SETTING.shown(key), "value": repr(value)},
            hint=_("Use one of: %(words)s.") % {"words": ", ".join(repr(word) for word in words)},
            id="conversations.E005",
        )


def _check_range(key: str, value: float) -> Iterator[CheckMessage]:
    low, high = RANGES.get(key, (LOWEST_ANY, HIGHEST_ANY))
    if not low <= value <= high:  # also what is not a number
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": SETTING.shown(key), "value": repr(value)},
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
                % {"setting": SETTING.shown(key), "value": repr(name)},
                hint=_("Write for example 127.0.0.1 or 10.0.0.0/8."),
                id="conversations.E010",
            )


def _check_index(key: str, value: str) -> Iterator[CheckMessage]:
    try:
        found = import_string(value)
    except (ImportError, ValueError, TypeError):  # the last two: it begins with a dot
        found = None
    if not (isinstance(found, type) and all(hasattr(found, name) for name in ("add", "find", "missing", "forget"))):
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": SETTING.shown(key), "value": repr(value)},
            hint=_("Name a class by its dotted path that extends %(base)s.") % {"base": INDEX},
            id="conversations.E015",
        )


def _check_storage(key: str, value: str) -> Iterator[CheckMessage]:
    if value not in settings.STORAGES:
        yield Error(
            _("%(setting)s is %(value)s.") % {"setting": SETTING.shown(key), "value": repr(value)},
            hint=_("Name one of STORAGES: %(words)s.") % {"words": ", ".join(map(repr, settings.STORAGES))},
            id="conversations.E016",
        )


def _name_of(wanted: Any) -> str:
    names = {bool: _("True or False"), int: _("a whole number"), float: _("a number"), str: _("a text")}
    if get_origin(wanted) is Sequence:
        return _("a list")
    return names.get(wanted, str(wanted))


@register()
def check_rate_limit(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Look at how often somebody may call, and where that is counted. The URL may hold a password: it is not shown."""
    given = SETTING.given()
    if not isinstance(given, Mapping):
        return []
    found: list[CheckMessage] = []
    rate, storage = given.get("RATE_LIMIT", ""), given.get("RATE_LIMIT_STORAGE", "")
    if isinstance(rate, str) and rate and not conf.RATE.fullmatch(rate):
        found.append(
            Error(
                _("%(setting)s is %(value)s.") % {"setting": SETTING.shown("RATE_LIMIT"), "value": repr(rate)},
                hint=_("Write a number and second, minute, hour or day, such as '300/minute'; '' is no limit."),
                id="conversations.E011",
            )
        )
    if isinstance(storage, str) and storage and not storage.startswith(conf.STORAGE_SCHEMES):
        found.append(
            Error(
                _("%(setting)s is no URL of a Redis.") % {"setting": SETTING.shown("RATE_LIMIT_STORAGE")},
                hint=_("Write redis://HOST:PORT/NUMBER; '' counts in each process."),
                id="conversations.E011",
            )
        )
    return found


@register(Tags.security)
def check_login(app_configs: Apps, **_kwargs: Any) -> list[CheckMessage]:
    """Without login whoever reaches the server sees everything."""
    given = SETTING.given()
    if not isinstance(given, Mapping) or given.get("REQUIRE_LOGIN", True):
        return []
    return [
        Error(
            _("Nobody has to log in, but ALLOWED_HOSTS has %(host)s, which may be more than this machine.")
            % {"host": repr(host)},
            hint=_("Set %(setting)s to True, or name only localhost, 127.0.0.1 and [::1].")
            % {"setting": SETTING.shown("REQUIRE_LOGIN")},
            id="conversations.E006",
        )
        for host in settings.ALLOWED_HOSTS
        if not names_this_machine(host)
    ]

"""System checks of the ``LLMPROVIDERS`` setting: each key by its declared type, then what belongs together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_origin
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from . import conf
from .base import Provider
from .conf import NAME
from .exceptions import InvalidEndpoint
from .net.guard import validate_key, validate_model_name, validate_url
from .net.policy import parse_entry
from .settings_dict import SettingsDict

SETTING = SettingsDict(NAME, conf.Settings)
MAY_BE_ZERO = frozenset({"MAX_RETRIES", "MAX_RETRY_WAIT"})
KEY_COMMAND = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


@register("llmproviders")
def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check names and types; only if those are right, what the values mean."""
    given = SETTING.given()
    if not isinstance(given, Mapping):
        return [Error(_("%(setting)s is not a dictionary.") % {"setting": NAME}, id="llmproviders.E001")]
    messages = [*_unknown_keys(given), *_wrong_values(given)]
    if any(message.id == "llmproviders.E003" for message in messages):
        return messages
    return [*messages, *_encryption_keys(), *_allowed_hosts(), *_proxy(), *_default_endpoint(), *_backends()]


def _key_hint() -> str:
    return _("Make one: %(command)s") % {"command": KEY_COMMAND}


def _unknown_keys(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key in sorted(set(given) - set(SETTING.types), key=str):
        likely = SETTING.likely(key)
        meant = _("Did you mean %(key)s?") % {"key": likely} if likely else ""
        hint = meant or _("Known keys: %(keys)s.") % {"keys": SETTING.known()}
        problem = _("%(setting)s has an unknown key: %(key)s.") % {"setting": NAME, "key": repr(key)}
        yield Error(problem, hint=hint, id="llmproviders.E002")


def _wrong_values(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key in SETTING.types:
        if key in given and (wanted := _complaint(key, given[key])):
            # The value stays out of it: it may be a secret.
            problem = _("%(setting)s has to be %(wanted)s.") % {"setting": SETTING.shown(key), "wanted": wanted}
            yield Error(problem, id="llmproviders.E003")


def _complaint(key: str, value: Any) -> str:
    """What the value would have to be, or ``""`` if it is that."""
    fits, wanted = SETTING.fits(key, value), SETTING.types[key]
    if wanted is bool:
        return "" if fits else _("True or False")
    if wanted in (int, float):
        return "" if fits and _is_in_range(key, value) else _number(key, whole=wanted is int)
    if wanted is str:
        return "" if fits else _("text")
    if get_origin(wanted) is list:
        return "" if fits and _all_text(value) else _("a list of texts")
    return "" if fits and _all_text(value) and _all_text(value.values()) else _("a dictionary of texts")


def _is_in_range(key: str, value: float) -> bool:
    return math.isfinite(value) and (value >= 0 if key in MAY_BE_ZERO else value > 0)


def _number(key: str, *, whole: bool) -> str:
    if key in MAY_BE_ZERO:
        return _("a whole number of at least 0") if whole else _("a number of at least 0")
    return _("a whole number above 0") if whole else _("a number above 0")


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _encryption_keys() -> Iterator[CheckMessage]:
    keys = conf.get().ENCRYPTION_KEYS
    if not keys:
        yield Error(
            _("%(setting)s is empty: keys of models cannot be stored.")
            % {"setting": SETTING.shown("ENCRYPTION_KEYS")},
            hint=_key_hint(),
            id="llmproviders.E004",
        )
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                _("%(setting)s: key %(number)d is not a Fernet key (32 url-safe base64-encoded bytes).")
                % {"setting": SETTING.shown("ENCRYPTION_KEYS"), "number": number},
                hint=_key_hint(),
                id="llmproviders.E005",
            )


def _allowed_hosts() -> Iterator[CheckMessage]:
    for entry in conf.get().ALLOWED_UPSTREAM_HOSTS:
        if parse_entry(entry) is None:
            problem = _("%(setting)s: %(entry)s is no host.")
            yield Error(
                problem % {"setting": SETTING.shown("ALLOWED_UPSTREAM_HOSTS"), "entry": repr(entry)},
                hint=_("Write a name or an address, perhaps with a port: llm.internal, 10.0.0.5:8000, [fd00::1]."),
                id="llmproviders.E010",
            )


def _proxy() -> Iterator[CheckMessage]:
    url = conf.get().UPSTREAM_PROXY
    try:
        parts = urlsplit(url)
        fits = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        fits = False
    if url and not (fits and url.isascii() and url.isprintable()):
        yield Error(
            _("%(setting)s is no proxy.") % {"setting": SETTING.shown("UPSTREAM_PROXY")},
            hint=_("Write its address as a URL: http://proxy:3128, perhaps with http://user:password@ before it."),
            id="llmproviders.E012",
        )


def _default_endpoint() -> Iterator[CheckMessage]:
    settings = conf.get()
    if not settings.API_URL:
        if settings.MODEL or settings.API_KEY:
            unused = _("%(setting)s has a MODEL or an API_KEY, but no API_URL: they are not used.")
            yield Warning(unused % {"setting": NAME}, id="llmproviders.W001")
        return
    if not settings.MODEL:
        missing = _("%(setting)s has an API_URL, but no MODEL.") % {"setting": NAME}
        yield Error(missing, hint=_("Set LLM_MODEL."), id="llmproviders.E006")
    yield from _invalid("API_URL", validate_url, settings.API_URL)
    if settings.MODEL:
        yield from _invalid("MODEL", validate_model_name, settings.MODEL)
    if settings.API_KEY:
        yield from _invalid("API_KEY", validate_key, settings.API_KEY)


def _invalid(name: str, validate: Callable[[str], str], value: str) -> Iterator[CheckMessage]:
    try:
        validate(value)
    except InvalidEndpoint as error:
        problem = _("%(setting)s cannot be used. %(reason)s") % {
            "setting": SETTING.shown(name),
            "reason": error.message,
        }
        yield Error(problem, id="llmproviders.E007")


def _backends() -> Iterator[CheckMessage]:
    for name, path in conf.get().BACKENDS.items():
        try:
            backend = import_string(path)
        except (ImportError, ValueError, TypeError) as error:  # the last two: it begins with a dot
            problem = _("The backend %(backend)s cannot be imported: %(reason)s")
            yield Error(problem % {"backend": repr(name), "reason": error}, id="llmproviders.E008")
            continue
        if not (isinstance(backend, type) and issubclass(backend, Provider)):
            problem = _("The backend %(backend)s (%(path)s) is no subclass of Provider.")
            yield Error(problem % {"backend": repr(name), "path": path}, id="llmproviders.E009")
        else:
            yield from backend.check()

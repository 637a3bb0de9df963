"""System checks of the ``LLMPROVIDERS`` setting: each key by its default's type, then what belongs together."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from . import conf
from .base import Provider
from .conf import NAME
from .exceptions import InvalidEndpoint
from .guard import validate_key, validate_model_name, validate_url
from .policy import parse_entry

MAY_BE_ZERO = frozenset({"MAX_RETRIES", "MAX_RETRY_WAIT"})
KEY_COMMAND = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


@register("llmproviders")
def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check names and types; only if those are right, what the values mean."""
    given = getattr(django_settings, NAME, {})
    if not isinstance(given, Mapping):
        return [Error(_("%(setting)s is not a dictionary.") % {"setting": NAME}, id="llmproviders.E001")]
    messages = [*_unknown_keys(given), *_wrong_values(given)]
    if any(message.id == "llmproviders.E003" for message in messages):
        return messages
    return [*messages, *_encryption_keys(), *_allowed_hosts(), *_default_endpoint(), *_backends()]


def _setting(key: str) -> str:
    return f"{NAME}[{key!r}]"


def _key_hint() -> str:
    return _("Make one: %(command)s") % {"command": KEY_COMMAND}


def _unknown_keys(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    known = [item.name for item in fields(conf.Settings)]
    for key in sorted(set(given) - set(known), key=str):
        close = difflib.get_close_matches(str(key).upper(), known, n=1)
        meant = _("Did you mean %(key)s?") % {"key": close[0]} if close else ""
        hint = meant or _("Known keys: %(keys)s.") % {"keys": ", ".join(known)}
        problem = _("%(setting)s has an unknown key: %(key)s.") % {"setting": NAME, "key": repr(key)}
        yield Error(problem, hint=hint, id="llmproviders.E002")


def _wrong_values(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    defaults = conf.Settings()
    for item in fields(conf.Settings):
        if item.name in given:
            wanted = _complaint(item.name, given[item.name], getattr(defaults, item.name))
            if wanted:
                # The value stays out of it: it may be a secret.
                problem = _("%(setting)s has to be %(wanted)s.") % {"setting": _setting(item.name), "wanted": wanted}
                yield Error(problem, id="llmproviders.E003")


def _complaint(name: str, value: object, default: object) -> str:
    """What the value would have to be, or ``""`` if it is that."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else _("True or False")
    if isinstance(default, (int, float)):
        return _number_complaint(name, value, whole=isinstance(default, int))
    if isinstance(default, str):
        return "" if isinstance(value, str) else _("text")
    if isinstance(default, list):
        return "" if isinstance(value, (list, tuple)) and _all_text(value) else _("a list of texts")
    mapped = isinstance(value, Mapping) and _all_text(value) and _all_text(value.values())
    return "" if mapped else _("a dictionary of texts")


def _number_complaint(name: str, value: object, *, whole: bool) -> str:
    allowed = int if whole else (int, float)
    if not isinstance(value, bool) and isinstance(value, allowed):
        assert isinstance(value, (int, float))
        if math.isfinite(value) and (value >= 0 if name in MAY_BE_ZERO else value > 0):
            return ""
    if name in MAY_BE_ZERO:
        return _("a whole number of at least 0") if whole else _("a number of at least 0")
    return _("a whole number above 0") if whole else _("a number above 0")


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _encryption_keys() -> Iterator[CheckMessage]:
    keys = conf.get().ENCRYPTION_KEYS
    if not keys:
        yield Error(
            _("%(setting)s is empty: keys of models cannot be stored.") % {"setting": _setting("ENCRYPTION_KEYS")},
            hint=_key_hint(),
            id="llmproviders.E004",
        )
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                _("%(setting)s: key %(number)d is not a Fernet key (32 url-safe base64-encoded bytes).")
                % {"setting": _setting("ENCRYPTION_KEYS"), "number": number},
                hint=_key_hint(),
                id="llmproviders.E005",
            )


def _allowed_hosts() -> Iterator[CheckMessage]:
    for entry in conf.get().ALLOWED_UPSTREAM_HOSTS:
        if parse_entry(entry) is None:
            problem = _("%(setting)s: %(entry)s is no host.")
            yield Error(
                problem % {"setting": _setting("ALLOWED_UPSTREAM_HOSTS"), "entry": repr(entry)},
                hint=_("Write a name or an address, perhaps with a port: llm.internal, 10.0.0.5:8000, [fd00::1]."),
                id="llmproviders.E010",
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
        problem = _("%(setting)s cannot be used. %(reason)s") % {"setting": _setting(name), "reason": error.message}
        yield Error(problem, id="llmproviders.E007")


def _backends() -> Iterator[CheckMessage]:
    for name, path in conf.get().BACKENDS.items():
        try:
            backend = import_string(path)
        except ImportError as error:
            problem = _("The backend %(backend)s cannot be imported: %(reason)s")
            yield Error(problem % {"backend": repr(name), "reason": error}, id="llmproviders.E008")
            continue
        if not (isinstance(backend, type) and issubclass(backend, Provider)):
            problem = _("The backend %(backend)s (%(path)s) is no subclass of Provider.")
            yield Error(problem % {"backend": repr(name), "path": path}, id="llmproviders.E009")
        elif hasattr(backend, "check"):
            yield from backend.check()

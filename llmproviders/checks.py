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

from . import conf
from .base import Provider
from .conf import NAME
from .exceptions import InvalidEndpoint
from .guard import validate_key, validate_model_name, validate_url

MAY_BE_ZERO = frozenset({"MAX_RETRIES", "MAX_RETRY_WAIT"})
KEY_HINT = "Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


@register("llmproviders")
def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check names and types; only if those are right, what the values mean."""
    given = getattr(django_settings, NAME, {})
    if not isinstance(given, Mapping):
        return [Error(f"{NAME} is not a dictionary.", id="llmproviders.E001")]
    messages = [*_unknown_keys(given), *_wrong_values(given)]
    if any(message.id == "llmproviders.E003" for message in messages):
        return messages
    return [*messages, *_encryption_keys(), *_default_endpoint(), *_backends()]


def _unknown_keys(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    known = [item.name for item in fields(conf.Settings)]
    for key in sorted(set(given) - set(known), key=str):
        close = difflib.get_close_matches(str(key).upper(), known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}."
        yield Error(f"{NAME} has an unknown key: {key!r}.", hint=hint, id="llmproviders.E002")


def _wrong_values(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    defaults = conf.Settings()
    for item in fields(conf.Settings):
        if item.name in given:
            wanted = _complaint(item.name, given[item.name], getattr(defaults, item.name))
            if wanted:
                # The value stays out of it: it may be a secret.
                yield Error(f"{NAME}[{item.name!r}] has to be {wanted}.", id="llmproviders.E003")


def _complaint(name: str, value: object, default: object) -> str:
    """What the value would have to be, or ``""`` if it is that."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "True or False"
    if isinstance(default, (int, float)):
        return _number_complaint(name, value, whole=isinstance(default, int))
    if isinstance(default, str):
        return "" if isinstance(value, str) else "text"
    if isinstance(default, list):
        return "" if isinstance(value, (list, tuple)) and _all_text(value) else "a list of texts"
    mapped = isinstance(value, Mapping) and _all_text(value) and _all_text(value.values())
    return "" if mapped else "a dictionary of texts"


def _number_complaint(name: str, value: object, *, whole: bool) -> str:
    kind = "a whole number" if whole else "a number"
    low = "of at least 0" if name in MAY_BE_ZERO else "above 0"
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        return f"{kind} {low}"
    assert isinstance(value, (int, float))
    fits = math.isfinite(value) and (value >= 0 if name in MAY_BE_ZERO else value > 0)
    return "" if fits else f"{kind} {low}"


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _encryption_keys() -> Iterator[CheckMessage]:
    keys = conf.get().ENCRYPTION_KEYS
    if not keys:
        yield Error(
            f"{NAME}['ENCRYPTION_KEYS'] is empty: keys of models cannot be stored.",
            hint=KEY_HINT,
            id="llmproviders.E004",
        )
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                f"{NAME}['ENCRYPTION_KEYS']: key {number} is not a Fernet key (32 url-safe base64-encoded bytes).",
                hint=KEY_HINT,
                id="llmproviders.E005",
            )


def _default_endpoint() -> Iterator[CheckMessage]:
    settings = conf.get()
    if not settings.API_URL:
        if settings.MODEL or settings.API_KEY:
            yield Warning(
                f"{NAME} has a MODEL or an API_KEY, but no API_URL: they are not used.", id="llmproviders.W001"
            )
        return
    if not settings.MODEL:
        yield Error(f"{NAME} has an API_URL, but no MODEL.", hint="Set LLM_MODEL.", id="llmproviders.E006")
    yield from _invalid("API_URL", validate_url, settings.API_URL)
    if settings.MODEL:
        yield from _invalid("MODEL", validate_model_name, settings.MODEL)
    if settings.API_KEY:
        yield from _invalid("API_KEY", validate_key, settings.API_KEY)


def _invalid(name: str, validate: Callable[[str], str], value: str) -> Iterator[CheckMessage]:
    try:
        validate(value)
    except InvalidEndpoint as error:
        yield Error(f"{NAME}[{name!r}] cannot be used. {error.message}", id="llmproviders.E007")


def _backends() -> Iterator[CheckMessage]:
    for name, path in conf.get().BACKENDS.items():
        try:
            backend = import_string(path)
        except ImportError as error:
            yield Error(f"The backend {name!r} cannot be imported: {error}", id="llmproviders.E008")
            continue
        if not (isinstance(backend, type) and issubclass(backend, Provider)):
            yield Error(f"The backend {name!r} ({path}) is no subclass of Provider.", id="llmproviders.E009")
        elif hasattr(backend, "check"):
            yield from backend.check()

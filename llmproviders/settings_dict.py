"""A setting that is one dict whose keys a dataclass declares: what the system checks of both apps ask of it.

How they say it is their own: each app has its texts, ids and translations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django.conf import settings


class SettingsDict:
    """The setting ``name``, with the declared keys and their ``types``."""

    def __init__(self, name: str, declared: type) -> None:
        self.name = name
        self.types: Mapping[str, Any] = get_type_hints(declared)

    def given(self) -> Any:
        """Return what the project set, whatever that is; an empty dict where it is silent."""
        return getattr(settings, self.name, {})

    def shown(self, key: object) -> str:
        """Return a key as messages name it: ``CONVERSATIONS['TITLES']``."""
        return f"{self.name}[{key!r}]"

    def likely(self, key: object) -> str:
        """Return the declared key that was probably meant, ``""`` where none is near."""
        return next(iter(get_close_matches(str(key).upper(), list(self.types), n=1)), "")

    def known(self) -> str:
        return ", ".join(self.types)

    def fits(self, key: str, value: object) -> bool:
        """Whether ``value`` is of the type of ``key``; what is in a list or a dict is not looked at."""
        wanted = self.types[key]
        if isinstance(value, bool):
            return wanted is bool
        kind = get_origin(wanted) or wanted
        if kind is Literal:
            return value in get_args(wanted)
        if kind in (list, Sequence):
            return isinstance(value, (list, tuple))
        return isinstance(value, (int, float) if kind is float else kind)

"""Encodings that requests name: Python remembers each name that it was ever asked for, and for good."""

from __future__ import annotations

import codecs
import encodings
import pkgutil
from encodings.aliases import aliases

_modules = (module.name for module in pkgutil.iter_modules(encodings.__path__))
KNOWN = frozenset((*aliases, *aliases.values(), *_modules))


def forget_others() -> None:
    """Look none up that Python has not: it would keep the name, which may be any text of any length."""
    codecs.unregister(encodings.search_function)
    codecs.register(_found)


def _found(name: str) -> codecs.CodecInfo | None:
    plain = encodings.normalize_encoding(name)
    return encodings.search_function(plain) if plain in KNOWN else None

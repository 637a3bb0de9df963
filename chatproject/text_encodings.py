"""Encodings that requests name: Python remembers each name that it was ever asked for, and for good."""

from __future__ import annotations

import codecs
import encodings
from encodings.aliases import aliases

from conversations.web.media_types import CODECS

KNOWN = CODECS.union(aliases, aliases.values())


def forget_others() -> None:
    """Look none up that Python has not: it would keep the name, which may be any text of any length."""
    codecs.unregister(encodings.search_function)
    codecs.register(_found)


def _found(name: str) -> codecs.CodecInfo | None:
    plain = encodings.normalize_encoding(name)
    return encodings.search_function(plain) if plain in KNOWN else None

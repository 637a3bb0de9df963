"""Media types as requests name them, made such that Django reads them quickly and without an exception.

Django asks Python's ``email`` package, which takes time by the square of a type's length (a minute for 60 kB) and
fails for some parameters; and Python remembers, for good, each name of an encoding that it was ever asked for.
"""

from __future__ import annotations

import encodings
import pkgutil
import re
from collections import Counter
from encodings.aliases import aliases

from .asgi import Message

# Longer ones, all of a request together, are taken for none. One as long takes two milliseconds to read.
MOST_BYTES = {b"content-type": 1_000, b"accept": 4_000}
# Nothing has to be looked at in one of so few bytes and no parameters.
SHORT = 200
# Names with stars, continued or with an encoding of their own, are no media type's.
PARAMETER = re.compile(
    rb""";[ \t]*+([A-Za-z0-9_.-]++)[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^\s";\\]*+)[ \t]*+(?=;|$)""", re.DOTALL
)
# Codecs that make no text of bytes, or of some bytes alone.
_NO_TEXT = frozenset(
    {
        "aliases", "base64_codec", "bz2_codec", "charmap", "hex_codec", "idna", "mbcs", "oem", "punycode",
        "quopri_codec", "raw_unicode_escape", "rot_13", "undefined", "unicode_escape", "uu_codec", "zlib_codec",
    }
)  # fmt: skip
CODECS = frozenset(module.name for module in pkgutil.iter_modules(encodings.__path__))
_texts = CODECS - _NO_TEXT
CHARSETS = _texts.union(alias for alias, codec in aliases.items() if codec in _texts)


def with_readable(scope: Message) -> Message:
    """Return the scope with media types that can be read: without odd parameters, none where they are too long."""
    headers = scope["headers"]
    if not any(b";" in value or len(value) > SHORT for name, value in headers if name in MOST_BYTES):
        return scope
    sizes: Counter[bytes] = Counter()
    for name, value in headers:
        sizes[name] += len(value) + 1
    too_long = {name for name, most in MOST_BYTES.items() if sizes[name] > most}
    return {**scope, "headers": [(name, _read(name, value)) for name, value in headers if name not in too_long]}


def _read(name: bytes, value: bytes) -> bytes:
    if name == b"accept":
        return b",".join(map(_readable, value.split(b",")))
    return _readable(value) if name in MOST_BYTES else value


def _readable(media_type: bytes) -> bytes:
    """Return a media type without those parameters that cannot be read."""
    name, semicolon, rest = media_type.partition(b";")
    if not semicolon:
        return media_type
    found = PARAMETER.finditer(semicolon + rest)
    return name + b"".join([each[0] for each in found if each[1].lower() != b"charset" or _is_charset(each[2])])


def _is_charset(value: bytes) -> bool:
    name = value.strip(b'"').decode("latin-1")
    return encodings.normalize_encoding(name).lower() in CHARSETS

"""Cookies as requests bring them, made such that Python reads them quickly.

Before 3.11.10 and 3.12.6 it takes time by the square of the escapes in a quoted value (CVE-2024-7592): half a minute
for a head of 60 kB.
"""

from __future__ import annotations

import sys

from .asgi import Message

# Backslashes of all fields of a request, which Django joins. With so many it takes some milliseconds.
MOST_ESCAPES = 200
IS_QUICK = sys.version_info >= (3, 12, 6) or (3, 11, 10) <= sys.version_info < (3, 12)


def with_readable(scope: Message) -> Message:
    """Return the scope with cookies that can be read: of too many escapes, without the cookies that have any."""
    if IS_QUICK or sum(value.count(b"\\") for name, value in scope["headers"] if name == b"cookie") <= MOST_ESCAPES:
        return scope
    fields = [(name, _without_escapes(value) if name == b"cookie" else value) for name, value in scope["headers"]]
    return {**scope, "headers": fields}


def _without_escapes(value: bytes) -> bytes:
    return b";".join([cookie for cookie in value.split(b";") if b"\\" not in cookie])

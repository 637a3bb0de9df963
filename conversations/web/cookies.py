"""Cookies as requests bring them, made such that Python reads them quickly.

Before 3.11.10 and 3.12.6 it takes time by the square of the escapes in a quoted value (CVE-2024-7592): half a minute
for a head of 60 kB. Some systems have mended an older one.
"""

from __future__ import annotations

from http import cookies

from .asgi import Message

# Backslashes in a header. With so many it takes some milliseconds.
MOST_ESCAPES = 200
IS_QUICK = hasattr(cookies, "_unquote_replace")


def with_readable(scope: Message) -> Message:
    """Return the scope with cookies that can be read: of too many escapes, without the cookies that have any."""
    if IS_QUICK or not any(_is_slow(name, value) for name, value in scope["headers"]):
        return scope
    return {
        **scope,
        "headers": [
            (name, _without_escapes(value) if _is_slow(name, value) else value) for name, value in scope["headers"]
        ],
    }


def _is_slow(name: bytes, value: bytes) -> bool:
    return name == b"cookie" and value.count(b"\\") > MOST_ESCAPES


def _without_escapes(value: bytes) -> bytes:
    return b";".join([cookie for cookie in value.split(b";") if b"\\" not in cookie])

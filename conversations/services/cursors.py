"""Keyset cursors: where a page ended, as text that goes into a URL. None is of use in another list."""

from __future__ import annotations

import base64
import binascii

from ..exceptions import InvalidCursor

LARGEST = 2**63


def encode(which: str, *place: int) -> str:
    """Return the cursor of a place in a list of that name."""
    return base64.urlsafe_b64encode(":".join((which, *map(str, place))).encode()).decode().rstrip("=")


def decode(which: str, cursor: str, numbers: int) -> list[int]:
    """Return the place in that list, which has so many numbers; raises ``InvalidCursor``."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        name, *parts = text.split(":")
        place = [int(part) for part in parts]
    except (ValueError, binascii.Error):
        raise InvalidCursor() from None
    if name != which or len(place) != numbers or any(abs(number) >= LARGEST for number in place):
        raise InvalidCursor()
    return place

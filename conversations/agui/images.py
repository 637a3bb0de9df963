"""Images in messages: parts of AG-UI 1.0, and the binary parts of clients before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..web.images import check_url, once_each

IMAGE, BINARY = "image", "binary"
# What a user may send beside text.
MEDIA = (IMAGE, BINARY, "audio", "video", "document")
# What a binary part calls what an image's source has as its ``value``, by the source's type.
NAMES = {"data": "data", "url": "url", "file": "id"}


def sent_in(media: Sequence[tuple[str, Mapping[str, Any]]], where: str) -> list[str]:
    """Return the URLs of the images among a message's media, each with its place; raises ``InvalidRequest``."""
    return once_each([check_url(_url(part), place) for place, part in media], where)


def _url(part: Mapping[str, Any]) -> str | None:
    """Return the URL of what a part shows; None for what is no image, or has none."""
    if part["type"] == BINARY:
        kind = next((kind for kind, name in NAMES.items() if part.get(name) is not None), None)
        return _url_of(kind, part.get(NAMES.get(kind or "", "")), part.get("mimeType"))
    source = part.get("source")
    if part["type"] != IMAGE or not isinstance(source, dict):
        return None
    return _url_of(source.get("type"), source.get("value"), source.get("mimeType"))


def _url_of(kind: Any, value: Any, mime_type: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if kind == "data":
        return f"data:{mime_type};base64,{value}"
    if kind == "file":  # its id, as `POST /attachments` gave it
        return f"attachments/{value}"
    return value if kind == "url" else None

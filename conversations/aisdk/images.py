"""Images in messages: what a user sends as files, and how those are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.urls import reverse

from ..web.images import check_url, once_each

FILE = "file"


def sent_in(parts: Iterable[Any], where: str) -> list[str]:
    """Return the URLs of the images among the parts of a message; raises ``InvalidRequest`` for what is none."""
    files = ((place, part) for place, part in enumerate(parts) if isinstance(part, dict) and part.get("type") == FILE)
    return once_each([check_url(part.get("url"), f"{where}[{place}]") for place, part in files], where)


def shown(attachment_id: str, images: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the part of a message that shows an attachment; ``images`` say what is known of those."""
    media_type = images.get(attachment_id, {}).get("content_type", "image/*")
    return {"type": FILE, "mediaType": media_type, "url": reverse("conversations:attachment", args=[attachment_id])}

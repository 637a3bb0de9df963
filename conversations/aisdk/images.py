"""Images in messages: what a user sends as files, and how those are shown."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from ..web.calls import refused
from ..web.images import Keep
from ..web.serializers.replies import MOST_ATTACHMENTS

FILE = "file"
# How an attachment of ours is shown, and sent again.
OURS = re.compile(r"(?:^|/)attachments/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$")


def sent_in(parts: Iterable[Any], where: str) -> list[str]:
    """Return the URLs of the images among the parts of a message; raises ``InvalidRequest`` for what is none."""
    urls = []
    for place, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") != FILE:
            continue
        url = part.get("url")
        if not isinstance(url, str) or not (url.startswith("data:image/") or OURS.search(url)):
            reason = _("Of files, images can be sent: as data: URLs, or as the URL of an attachment.")
            raise refused(f"{where}[{place}]", reason)
        urls.append(url)
    if len(urls) > MOST_ATTACHMENTS:
        raise refused(where, _("At most %(limit)d images.") % {"limit": MOST_ATTACHMENTS})
    return list(dict.fromkeys(urls))


def known(urls: Iterable[str]) -> list[uuid.UUID | None]:
    """Return which attachments images are; None for one that is sent as such."""
    found = (OURS.search(url) for url in urls)
    return [uuid.UUID(ours[1]) if ours else None for ours in found]


async def kept(keep: Keep, urls: Iterable[str]) -> list[uuid.UUID]:
    """Return the attachments that images are, each once; those that are new are kept. Raises as ``keep`` does."""
    sent = list(urls)
    return list(dict.fromkeys([key or await keep(url) for url, key in zip(sent, known(sent), strict=True)]))


def shown(attachment_id: str, images: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the part of a message that shows an attachment; ``images`` say what is known of those."""
    media_type = images.get(attachment_id, {}).get("content_type", "image/*")
    return {"type": FILE, "mediaType": media_type, "url": reverse("conversations:attachment", args=[attachment_id])}

"""Images on their way in: decoded in turn, and kept for a message that is yet to be stored."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from django.utils.translation import gettext_lazy as _

from ..access.rules import Caller
from ..database import db
from ..services import attachments
from .calls import refused
from .serializers.replies import MOST_ATTACHMENTS
from .turns import LoopTurns

T = TypeVar("T")
# How an attachment of ours is shown, and sent again: under any name, prefix and scheme, as a proxy or a page's own
# server, which this one knows nothing of, may stand before it. The id says which, and its owner alone may show it.
OURS = re.compile(r"(?:^|/)attachments/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$", re.IGNORECASE)

# As many at a time as there are threads for it, one of each caller, so that nobody's hold up all others'. How long
# one waits (seconds).
_turns = LoopTurns(lambda: db.FILE_THREADS, lambda: 1)
TURN_SECONDS = 60.0


def turn(caller: Caller) -> AbstractAsyncContextManager[None]:
    """Take a caller's turn at decoding an image; raises ``ServerBusy``."""
    return _turns.here().turn(caller.user_identifier, TURN_SECONDS)


def check_url(url: Any, where: str) -> str:
    """Return the URL of an image that can be sent; raises ``InvalidRequest`` for what is none, or is elsewhere."""
    if not isinstance(url, str) or not (url.startswith("data:image/") or OURS.search(url)):
        raise refused(where, _("Of files, images can be sent: as data: URLs, or as the URL of an attachment."))
    return url


def check_number(number: int, where: str) -> None:
    """Raise ``InvalidRequest`` for more images than one message may have."""
    if number > MOST_ATTACHMENTS:
        raise refused(where, _("At most %(limit)d images in one message.") % {"limit": MOST_ATTACHMENTS})


def once_each(urls: Sequence[str], where: str) -> list[str]:
    """Return the URLs of one message's images, each once; raises ``InvalidRequest`` for too many."""
    check_number(len(urls), where)
    return list(dict.fromkeys(urls))


def known(urls: Iterable[str]) -> list[uuid.UUID | None]:
    """Return which attachments images are; None for one that is sent as such."""
    # An image itself may have millions of characters, and none that names one of ours.
    found = (None if url.startswith("data:") else OURS.search(url) for url in urls)
    return [uuid.UUID(ours[1]) if ours else None for ours in found]


async def begin_with(caller: Caller, urls: Sequence[str], begin: Callable[[dict[str, uuid.UUID]], T]) -> T:
    """Keep the images that are not here yet, and return what ``begin`` does with the attachments, by their URLs.

    What no message got is deleted soon: something was raised, the client left, or another call was quicker. Raises as
    ``attachments.store_data_url`` and ``begin`` do, or ``ServerBusy``.
    """
    kept: list[uuid.UUID] = []

    async def keep(url: str) -> uuid.UUID:
        async with turn(caller):
            attachment = await db.files(attachments.store_data_url, caller=caller, url=url)
        kept.append(attachment.pk)
        return attachment.pk

    try:
        return await db.write(begin, {url: key or await keep(url) for url, key in zip(urls, known(urls), strict=True)})
    finally:
        if kept:
            await db.write(attachments.let_go, kept)

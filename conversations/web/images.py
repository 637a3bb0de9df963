"""Images on their way in: decoded in turn, and kept for a message that is yet to be stored."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from django.utils.translation import gettext_lazy as _

from ..access.rules import Caller
from ..database import db
from ..services import attachments
from .calls import refused
from .serializers.replies import MOST_ATTACHMENTS
from .turns import LoopTurns

T = TypeVar("T")
# How an attachment of ours is shown, and sent again.
OURS = re.compile(r"(?:^|/)attachments/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$", re.IGNORECASE)

# As many at a time as there are threads for it, one of each caller, so that nobody's hold up all others'. How long
# one waits (seconds).
_turns = LoopTurns(lambda: db.FILE_THREADS, lambda: 1)
TURN_SECONDS = 60.0

Keep = Callable[[str], Awaitable[uuid.UUID]]


def turn(caller: Caller) -> AbstractAsyncContextManager[None]:
    """Take a caller's turn at decoding an image; raises ``ServerBusy``."""
    return _turns.here().turn(caller.user_identifier, TURN_SECONDS)


@asynccontextmanager
async def keeping(caller: Caller) -> AsyncIterator[Keep]:
    """Give what keeps the image in a ``data:`` URL as an attachment, for a message that is stored before this ends.

    What it gives returns the attachment's id, and raises as ``attachments.store_data_url`` does, or ``ServerBusy``.
    What no message got is deleted soon: something was raised, the client left, or another call was quicker.
    """
    kept: list[uuid.UUID] = []

    async def keep(url: str) -> uuid.UUID:
        async with turn(caller):
            attachment = await db.files(attachments.store_data_url, caller=caller, url=url)
        kept.append(attachment.pk)
        return kept[-1]

    try:
        yield keep
    finally:
        if kept:
            await db.write(attachments.let_go, kept)


def check_url(url: Any, where: str) -> str:
    """Return the URL of an image that can be sent; raises ``InvalidRequest`` for what is none, or is elsewhere."""
    if not isinstance(url, str) or not (url.startswith("data:image/") or OURS.search(url)):
        raise refused(where, _("Of files, images can be sent: as data: URLs, or as the URL of an attachment."))
    return url


def once_each(urls: Sequence[str], where: str) -> list[str]:
    """Return the URLs of one message's images, each once; raises ``InvalidRequest`` for too many."""
    if len(urls) > MOST_ATTACHMENTS:
        raise refused(where, _("At most %(limit)d images.") % {"limit": MOST_ATTACHMENTS})
    return list(dict.fromkeys(urls))


def known(urls: Iterable[str]) -> list[uuid.UUID | None]:
    """Return which attachments images are; None for one that is sent as such."""
    # An image itself may have millions of characters, and none that names one of ours.
    found = (None if url.startswith("data:") else OURS.search(url) for url in urls)
    return [uuid.UUID(ours[1]) if ours else None for ours in found]


async def begin_with(caller: Caller, urls: Sequence[str], begin: Callable[[list[uuid.UUID]], T]) -> T:
    """Return what ``begin`` does with the attachments that images are, each once; those that are new are kept.

    Raises as ``keeping`` and ``begin`` do.
    """
    async with keeping(caller) as keep:
        ids = [key or await keep(url) for url, key in zip(urls, known(urls), strict=True)]
        return await db.write(begin, list(dict.fromkeys(ids)))

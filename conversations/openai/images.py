"""Images in messages that are to be stored: so many, and kept before."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from django.utils.translation import gettext_lazy as _

from ..access.rules import Caller
from ..database import db
from ..engine import said
from ..engine.completions import ChatMessage, Image
from ..web.calls import refused
from ..web.images import Keep, keeping
from ..web.serializers.replies import MOST_ATTACHMENTS

# Of one call: each takes seconds to decode.
MOST_IMAGES = 20
T = TypeVar("T")


def are_in(messages: Sequence[ChatMessage]) -> bool:
    """Whether any is shown."""
    return any(message.parts for message in messages)


def check(messages: Sequence[ChatMessage], where: str) -> None:
    """Raise ``InvalidRequest`` for too many, in one message or in all together."""
    counts = [sum(isinstance(part, Image) for part in message.parts) for message in messages]
    if max(counts) > MOST_ATTACHMENTS:
        raise refused(where, _("At most %(limit)d images in one message.") % {"limit": MOST_ATTACHMENTS})
    if sum(counts) > MOST_IMAGES:
        raise refused(where, _("At most %(limit)d images can be stored with one call.") % {"limit": MOST_IMAGES})


async def begin_with(
    caller: Caller, messages: Sequence[ChatMessage], begin: Callable[[Sequence[ChatMessage]], T]
) -> T:
    """Keep the images of messages, and ``begin`` with them; where that fails they go.

    Raises as ``attachments.store_data_url`` and ``begin`` do, or ``ServerBusy``.
    """
    async with keeping(caller) as keep:
        return await db.write(begin, [await _kept(keep, message) for message in messages])


async def _kept(keep: Keep, message: ChatMessage) -> ChatMessage:
    parts = [
        Image(said.image_of(str(await keep(part.url))))
        if isinstance(part, Image) and not said.is_attachment(part)
        else part
        for part in message.parts
    ]
    return replace(message, parts=tuple(parts))


def ids_in(message: ChatMessage) -> list[uuid.UUID]:
    """Return the attachments that a user's message shows."""
    return [uuid.UUID(key) for key in said.images_in([message])]

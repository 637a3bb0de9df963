"""Images in messages that are to be stored: so many, and kept before."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from django.utils.translation import gettext_lazy as _

from ..access.rules import Caller
from ..engine import said
from ..engine.completions import ChatMessage, Image
from ..web import images
from ..web.calls import refused

# Of one call: each takes seconds to decode.
MOST_IMAGES = 20
T = TypeVar("T")


def are_in(messages: Sequence[ChatMessage]) -> bool:
    """Whether any is shown."""
    return any(message.parts for message in messages)


def check(messages: Sequence[ChatMessage], where: str) -> None:
    """Raise ``InvalidRequest`` for too many, in one message or in all together."""
    counts = [sum(isinstance(part, Image) for part in message.parts) for message in messages]
    images.check_number(max(counts), where)
    if sum(counts) > MOST_IMAGES:
        raise refused(where, _("At most %(limit)d images can be stored with one call.") % {"limit": MOST_IMAGES})


async def begin_with(
    caller: Caller, messages: Sequence[ChatMessage], begin: Callable[[Sequence[ChatMessage]], T]
) -> T:
    """Keep the images of messages, and ``begin`` with them; raises as ``images.begin_with`` does."""
    shown = (part for message in messages for part in message.parts if isinstance(part, Image))
    new = dict.fromkeys(image.url for image in shown if not said.is_attachment(image))

    def begun(kept: Mapping[str, uuid.UUID]) -> T:
        return begin([_with_kept(message, kept) for message in messages])

    return await images.begin_with(caller, list(new), begun)


def _with_kept(message: ChatMessage, kept: Mapping[str, uuid.UUID]) -> ChatMessage:
    parts = (
        Image(said.image_of(str(kept[part.url]))) if isinstance(part, Image) and part.url in kept else part
        for part in message.parts
    )
    return replace(message, parts=tuple(parts))


def ids_in(message: ChatMessage) -> list[uuid.UUID]:
    """Return the attachments that a user's message shows."""
    return [uuid.UUID(key) for key in said.images_in([message])]

"""Images on their way in: decoded in turn, and kept for a message that is yet to be stored."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ..access.rules import Caller
from ..database import db
from ..services import attachments
from .turns import LoopTurns

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
    Where something is raised, what was kept is deleted soon.
    """
    kept: list[uuid.UUID] = []

    async def keep(url: str) -> uuid.UUID:
        async with turn(caller):
            attachment = await db.files(attachments.store_data_url, caller=caller, url=url)
        kept.append(attachment.pk)
        return kept[-1]

    try:
        yield keep
    except Exception:
        await db.write(attachments.let_go, kept)
        raise

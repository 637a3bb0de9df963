"""A conversation read by those who run the server: None where they ask for what is not in it."""

from __future__ import annotations

from ..exceptions import NotFound
from ..models import Conversation
from . import branches
from .branches import MessagePage


def leaf_through(conversation: Conversation, message_id: int) -> int | None:
    """Return where the newest branch through a message ends."""
    try:
        return branches.shown_through(conversation, message_id).active_leaf_id
    except NotFound:
        return None


def page_up_to(conversation: Conversation, message_id: int, *, limit: int) -> MessagePage | None:
    """Return a message and those above it, so many at most, oldest first."""
    try:
        return branches.list_messages(conversation=conversation, leaf_id=message_id, limit=limit)
    except NotFound:
        return None

"""Conversations locked for who begins an answer, and what else is being answered there."""

from __future__ import annotations

import uuid

from ..access.rules import Action, Caller, authorize
from ..database.compiled import Select, given
from ..exceptions import NotFound, ReplyInProgress
from ..models import Conversation, Generation
from .deletion import end_with_job

_running_in = Select(
    lambda: Generation.objects.filter(active_for=given(Generation, "active_for")).values_list("pk", flat=True)
)


def running_in(conversation_id: int) -> uuid.UUID | None:
    """Return the answer that is being made in a conversation."""
    return _running_in.first(active_for=conversation_id)


def make_way(caller: Caller, session_id: uuid.UUID) -> None:
    """End what is being answered, before all locks of the transaction: an answer that ends takes its own first."""
    if conversation := Conversation.objects.for_owner(caller).filter(session_id=session_id).first():
        authorize(caller, Action.STOP, conversation)
        end_with_job(conversation.pk)


def locked(*, caller: Caller, session_id: uuid.UUID, instead: bool = False) -> Conversation:
    """Return a conversation that is not being answered, locked against another that begins to.

    What is being answered is ended by what is said ``instead`` (``make_way`` first), and else ``ReplyInProgress``.
    Raises ``NotFound``.
    """
    conversations = Conversation.objects.for_owner(caller).select_for_update()
    conversation = conversations.filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    authorize(caller, Action.CHAT, conversation)
    if instead:
        end_with_job(conversation.pk)
    elif running_in(conversation.pk):
        raise ReplyInProgress()
    return conversation

"""Conversations that are there for a time only: temporary ones, and those that were deleted and may come back."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from .. import conf
from ..access.rules import Caller
from ..database.transactions import replayed
from ..exceptions import NotFound
from ..models import Conversation, Generation, Message
from ..models.querysets import ConversationQuerySet
from .deletion import Ended, end_answers, lock


def of_temporary() -> datetime:
    """Return until when a temporary conversation is kept if nothing happens in it."""
    return timezone.now() + timedelta(seconds=conf.get().KEEP_TEMPORARY_SECONDS)


def hidden(caller: Caller) -> ConversationQuerySet:
    """Return the conversations that ``caller`` has deleted and may bring back."""
    return Conversation.objects.belonging_to(caller).filter(is_hidden=True, expires_at__gt=timezone.now())


@replayed
def hide(conversation_id: int, until: datetime) -> list[Ended]:
    """Let nobody find a conversation any more; return the answers that ended so. Raises ``NotFound``."""
    ended = end_answers(conversation_id)
    lock(conversation_id)
    ended += end_answers(conversation_id)
    changes = {"is_hidden": True, "expires_at": until, "changed_at": timezone.now()}
    if not Conversation.objects.filter(pk=conversation_id, is_hidden=False).update(**changes):
        raise NotFound()
    # As after a deletion, their keys are free.
    messages = Message.objects.filter(conversation=conversation_id)
    keyed = Generation.objects.filter(message__in=messages).exclude(idempotency_key=None)
    keyed.update(idempotency_key=None, idempotency_hash="")
    return ended


@replayed
def restore(conversation: Conversation) -> None:
    """Bring a conversation back; raises ``NotFound`` if it is gone meanwhile."""
    conversation.is_hidden = False
    conversation.expires_at = of_temporary() if conversation.is_temporary else None
    changes = {"is_hidden": False, "expires_at": conversation.expires_at, "changed_at": timezone.now()}
    if not Conversation.objects.filter(pk=conversation.pk, is_hidden=True).update(**changes):
        raise NotFound()

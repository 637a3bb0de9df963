"""What clients call messages: any text, which one message of a conversation has."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import Conversation, Message

# Of an id of ours.
MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class MessageName:
    """What a client calls a new message. ``instead_of`` is one that gives this name up: it is edited."""

    client_id: str
    instead_of: int | None = None


def taken(name: MessageName | None, conversation: Conversation) -> str | None:
    """Return the name for a new message of a locked conversation, once nobody else has it who gives it up.

    Where another message has it, to store it is an ``IntegrityError``: that one was quicker.
    """
    if name is None:
        return None
    if name.instead_of is not None:
        edited = Message.objects.filter(pk=name.instead_of, conversation=conversation, client_id=name.client_id)
        edited.update(client_id=None)
    return name.client_id


def message_named(conversation: Conversation, client_id: str, *, role: Message.Role) -> Message | None:
    """Return the message of a conversation that has this name, or our id written so; None where there is none."""
    messages = conversation.messages.filter(role=role)
    named = messages.filter(client_id=client_id).first()
    key = _key(client_id)
    return messages.filter(pk=key).first() if named is None and key is not None else named


def _key(text: str) -> int | None:
    """Return the id of ours that a text is, None for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return None
    key = int(text)
    return key if str(key) == text and key < 2**63 else None

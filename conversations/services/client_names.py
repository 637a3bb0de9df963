"""What clients call messages: any text, which one message of a conversation has."""

from __future__ import annotations

from collections.abc import Sequence
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


def messages_named(conversation: Conversation, names: Sequence[str], *, role: Message.Role) -> dict[str, Message]:
    """Return the messages of a conversation that have these names, or our ids written so, by these; two queries.

    By our id only one is meant that has no name: clients count theirs, too.
    """
    messages = conversation.messages.filter(role=role)
    found = {str(message.client_id): message for message in messages.filter(client_id__in=names)} if names else {}
    keys = {key: name for name in names if name not in found and (key := _key(name)) is not None}
    unnamed = messages.filter(pk__in=keys, client_id=None) if keys else ()
    return found | {keys[message.pk]: message for message in unnamed}


def message_named(conversation: Conversation, client_id: str, *, role: Message.Role) -> Message | None:
    """Return the message of a conversation that has this name, or our id written so; None where there is none."""
    return messages_named(conversation, [client_id], role=role).get(client_id)


def _key(text: str) -> int | None:
    """Return the id of ours that a text is, None for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return None
    key = int(text)
    return key if str(key) == text and key < 2**63 else None

"""What clients call messages: any text, which one message of a conversation has."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import Conversation, Message

# Of an id of ours.
MAX_DIGITS = 19


def taken(client_id: str | None, conversation: Conversation, *, instead_of: int | None = None) -> str | None:
    """Return the name for a new message of the user in a locked conversation; ``instead_of`` gives it up.

    Where another message of the user has it, to store it is an ``IntegrityError``: that one was quicker. What anybody
    else said keeps it, and the new message has none.
    """
    if client_id is None:
        return None
    named = Message.objects.filter(conversation=conversation, client_id=client_id)
    if instead_of is not None:
        named.filter(pk=instead_of).update(client_id=None)
    return None if named.exclude(role=Message.Role.USER).exists() else client_id


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

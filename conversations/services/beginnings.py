"""What stands before a message, where it was said elsewhere: instructions, and other messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ..access.rules import Caller
from ..database.compiled import Insert
from ..models import Conversation, Message
from ..models.parts import Part, ToolResult, call_parts, image_ids, image_parts, result_parts
from ..search import index
from ..search.index import Document
from . import attachments
from .conversations import create_conversation

# Each is a row, and others wait while they are stored.
MOST_SAID = 500

_messages = Insert(Message)


class Said(NamedTuple):
    """A message; ``role`` is one of ``Message.Role``, ``parts`` are those of ``models.parts``.

    ``client_id`` is what a client calls it.
    """

    role: str
    content: str
    parts: list[Part] | None = None
    arguments: str | None = None
    reasoning: str = ""
    client_id: str | None = None

    @property
    def image_ids(self) -> list[uuid.UUID]:
        """The images that it shows."""
        return [uuid.UUID(image_id) for image_id in image_ids(self)]


def by_user(text: str, attachment_ids: Sequence[uuid.UUID] = ()) -> Said:
    """Return what a user says, and shows before it."""
    return Said(Message.Role.USER, text, image_parts(attachment_ids, text))


def by_tools(results: Sequence[ToolResult]) -> Said:
    """Return what came of calls."""
    return Said(Message.Role.TOOL, "".join(result.content for result in results), result_parts(results))


@dataclass(frozen=True, slots=True)
class Beginning:
    """What stands before a message: at most ``MOST_SAID`` messages. ``system_prompt`` None leaves what there is.

    ``client_id`` is what a client calls a new conversation.
    """

    system_prompt: str | None = None
    said: Sequence[Said] = ()
    client_id: str | None = None


def create_with(beginning: Beginning, *, caller: Caller, temporary: bool) -> Conversation:
    """Create a conversation that begins so, in the transaction that goes on with it; its leaf is not stored yet."""
    conversation = create_conversation(
        caller=caller,
        system_prompt=beginning.system_prompt or "",
        temporary=temporary,
        client_id=beginning.client_id,
    )
    add(beginning.said, conversation, caller)
    return conversation


def go_on_with(beginning: Beginning, conversation: Conversation, caller: Caller) -> None:
    """Add what was said elsewhere to a locked conversation, whose leaf is not stored yet; its instructions change."""
    prompt = beginning.system_prompt
    if prompt is not None and prompt != conversation.system_prompt:
        conversation.system_prompt = prompt
        Conversation.objects.filter(pk=conversation.pk).update(system_prompt=prompt)
    add(beginning.said, conversation, caller)


def by_model(text: str, calls: Sequence[tuple[str, str, str]] = ()) -> Said:
    """Return what a model said, and the calls that it asked for, as (id, name, arguments)."""
    if not calls:
        return Said(Message.Role.ASSISTANT, text)
    arguments, parts = call_parts(text, calls)
    return Said(Message.Role.ASSISTANT, text, parts, arguments)


def add(said: Sequence[Said], conversation: Conversation, caller: Caller) -> None:
    """Store messages after the conversation's leaf, one after the other; the last is the new one.

    Raises ``UnknownAttachment`` for images that are not ``caller``'s, or another conversation's.
    """
    documents = []
    shown: dict[int, list[uuid.UUID]] = {}
    for message in said:
        leaf_id = conversation.active_leaf_id
        key = _messages.add(conversation_id=conversation.pk, parent_id=leaf_id, **message._asdict())
        if images := message.image_ids:
            shown[key] = images
        conversation.active_leaf_id = key
        conversation.message_count += 1
        # What tools say is not what people look for.
        if message.content and message.role != Message.Role.TOOL:
            documents.append(Document(key, conversation.pk, message.content))
    if shown:
        attachments.take(ids=[*chain(*shown.values())], caller=caller, conversation=conversation)
        attachments.use(shown)
    if documents and not conversation.is_temporary:
        index.current().add(documents)

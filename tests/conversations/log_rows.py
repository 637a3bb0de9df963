"""Answers that run, and rows of the chunk log, as a worker without a number would have written them: in turn."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

from conversations.engine.ends import Entry
from conversations.engine.events import Piece
from conversations.models import Conversation, Generation, GenerationChunk, Message

_keys = count(1)


def running(**fields: Any) -> Generation:
    """An answer that is being made, in a conversation of its own; ``fields`` are the generation's."""
    conversation = Conversation.objects.create()
    message = Message.objects.create(conversation=conversation, role=Message.Role.ASSISTANT)
    return Generation.objects.create(message=message, active_for=conversation, **fields)


def entry(generation_id: uuid.UUID, *pieces: Piece, **others: Any) -> Entry:
    """Text that is to be stored."""
    first_key, *_rest = [next(_keys) for _piece in pieces] or [0]
    return Entry(generation_id, list(pieces), first_key, **others)


def chunk(generation: Generation | uuid.UUID, position: int, text: str, kind: str = "content") -> GenerationChunk:
    """A row that is stored already."""
    key = generation.pk if isinstance(generation, Generation) else generation
    return GenerationChunk.objects.create(id=next(_keys), generation_id=key, position=position, kind=kind, text=text)

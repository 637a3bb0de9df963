"""Rows of the chunk log, as a worker without a number would have written them: one after the other."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

from conversations.engine.ends import Entry
from conversations.engine.events import Piece
from conversations.models import Generation, GenerationChunk

_keys = count(1)


def entry(generation_id: uuid.UUID, *pieces: Piece, **others: Any) -> Entry:
    """Text that is to be stored."""
    first_key, *_rest = [next(_keys) for _piece in pieces] or [0]
    return Entry(generation_id, list(pieces), first_key, **others)


def chunk(generation: Generation | uuid.UUID, position: int, text: str, kind: str = "content") -> GenerationChunk:
    """A row that is stored already."""
    key = generation.pk if isinstance(generation, Generation) else generation
    return GenerationChunk.objects.create(id=next(_keys), generation_id=key, position=position, kind=kind, text=text)

"""The old service's tables as its versions had them, and their rows as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

# Our name for a column -> the names it had, newest first. Versions of the service differ.
Names = Mapping[str, tuple[str, ...]]
TIMES: Names = {
    "created": ("created_at", "create_time", "timestamp", "created"),
    "updated": ("updated_at", "update_time", "updated"),
}
CONVERSATIONS: Names = {
    "id": ("id",),
    "session": ("session_id",),
    "user": ("user_id", "user_identifier"),
    "title": ("title",),
    **TIMES,
}
MESSAGES: Names = {
    "id": ("id",),
    "session": ("session_id",),
    "conversation": ("conversation_id",),
    "role": ("role",),
    "content": ("content",),
    "created": TIMES["created"],
}
CONFIGS: Names = {
    "user": ("user_id", "user_identifier"),
    "model_type": ("current_model_type", "model_type"),
    "max_tokens": ("max_tokens",),
    "api_url": ("custom_api_url", "custom_llm_api_url"),
    "model": ("custom_model", "custom_llm_model"),
    "api_key": ("custom_api_key", "custom_llm_api_key"),
}


@dataclass(frozen=True, slots=True)
class OldMessage:
    """``role`` is ``user``, ``assistant``, ``system`` or, for what has no counterpart here, ``""``."""

    role: str
    content: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class OldConversation:
    """Messages come oldest first."""

    session: str
    user: str
    title: str
    created_at: datetime | None
    updated_at: datetime | None
    messages: Sequence[OldMessage]


@dataclass(frozen=True, slots=True)
class OldConfig:
    user: str
    model_type: str
    max_tokens: int | None
    api_url: str
    model: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the old database: our names of the columns that it has, and its own."""

    name: str
    columns: Mapping[str, str]

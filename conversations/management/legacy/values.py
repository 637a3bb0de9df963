"""What the old database holds, made fit for ours. Pure functions: no I/O."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, tzinfo
from typing import Any

from django.utils.dateparse import parse_datetime

from ...access.rules import ACCOUNT_PREFIX
from ...models import IDENTIFIER_LENGTH, Message

# Ours alone and never to change: a second import has to find what the first one made.
NAMESPACE = uuid.UUID("6b1f3f0a-2f3e-5d0c-9a53-0c0f4f6f8a11")
# What the old service called a conversation that nobody had named.
UNNAMED = frozenset({"", "新对话", "新会话", "new conversation", "new chat"})
ROLES = {
    "user": Message.Role.USER.value,
    "human": Message.Role.USER.value,
    "assistant": Message.Role.ASSISTANT.value,
    "ai": Message.Role.ASSISTANT.value,
    "bot": Message.Role.ASSISTANT.value,
    "model": Message.Role.ASSISTANT.value,
    "system": "system",
}
# Instructions are no messages here.
KEPT_ROLES = frozenset({Message.Role.USER, Message.Role.ASSISTANT})
MODEL_TYPES = {"glm": "glm4"}


def clean_text(value: Any) -> str:
    """Return a column's text without NUL and lone surrogates, which no database of ours takes; NULL is ``""``."""
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def moment(value: Any, zone: tzinfo) -> datetime | None:
    """Return a column's time, aware; a naive one was meant in ``zone``. None for what is no time."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        parsed = parse_datetime(value) if isinstance(value, str) else value
        if not isinstance(parsed, datetime):
            return None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def session_uuid(session: str) -> uuid.UUID:
    """Return the session id as a UUID: itself if it is one, else one that is made of it, always the same."""
    try:
        return uuid.UUID(session)
    except ValueError:
        return uuid.uuid5(NAMESPACE, session)


def identifier(value: Any) -> str:
    """Return whose a row is. Never the identifier of an account of ours: a text of theirs must not claim one."""
    name = clean_text(value).strip()
    if name.startswith(ACCOUNT_PREFIX):
        name = f"legacy:{name}"
    return name[:IDENTIFIER_LENGTH]


def role(value: Any) -> str:
    """Return ``user``, ``assistant`` or ``system``; ``""`` for a role that has no counterpart here."""
    return ROLES.get(clean_text(value).strip().lower(), "")


def model_type(value: Any) -> str:
    """Return a preset's type under its name of today."""
    name = clean_text(value).strip()
    return MODEL_TYPES.get(name, name)


def is_named(title: str) -> bool:
    """Whether somebody, or something, gave the conversation a title of its own."""
    return title.lower() not in UNNAMED

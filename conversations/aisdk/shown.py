"""Stored messages as the client has them: what a page that is loaded again begins with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..models import Generation, Message


def shown(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return the messages of a branch as UI messages, but for an answer that is being made: the client resumes it."""
    return [_shown(message) for message in messages if not _is_running(message)]


def _shown(message: Message) -> dict[str, Any]:
    parts = [("reasoning", message.reasoning), ("text", message.content)]
    told: dict[str, Any] = {
        "id": message.client_id or str(message.pk),
        "role": message.role,
        "parts": [{"type": kind, "text": text, "state": "done"} for kind, text in parts if text],
        "metadata": {"message_id": message.pk, "parent_id": message.parent_id},
    }
    if generation := _generation_of(message):
        told["metadata"] |= {
            "generation_id": str(generation.pk),
            "model": message.model,
            "model_type": message.model_type,
            "status": generation.status,
            "finish_reason": generation.finish_reason or None,
            "usage": generation.usage,
        }
    return told


def _is_running(message: Message) -> bool:
    generation = _generation_of(message)
    return generation is not None and generation.is_running


def _generation_of(message: Message) -> Generation | None:
    return getattr(message, "generation", None)

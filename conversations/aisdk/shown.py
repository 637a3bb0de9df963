"""Stored messages as the client has them: what a page that is loaded again begins with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine.events import COMPLETED
from ..models import Message, parts_of
from ..models.parts import IMAGE, REASONING, TEXT, TOOL_CALL, whole_parts
from ..web.serializers.messages import generation_of
from . import images
from .tools import AVAILABLE, PREFIX, input_of, output_of

STEP = {"type": "step-start"}


def shown(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return the messages of a branch as UI messages, but for an answer that is being made: the client resumes it.

    Answers that go on with what came of calls are one message with the answer that asked for those.
    """
    told: list[dict[str, Any]] = []
    goes_on = False
    for message in messages:
        if message.role == Message.Role.TOOL:
            goes_on = bool(told) and told[-1]["role"] == Message.Role.ASSISTANT
            _add_results(told[-1]["parts"] if told else [], message)
        elif not _is_running(message):
            parts, metadata = _parts(message), _metadata(message)
            if goes_on and message.role == Message.Role.ASSISTANT:
                told[-1]["parts"] += parts
                told[-1]["metadata"] |= metadata
            else:
                told.append({"id": name_of(message), "role": message.role, "parts": parts, "metadata": metadata})
            goes_on = False
    return told


def name_of(message: Message) -> str:
    """Return what the client calls a message: its own name for it, or else our id."""
    return message.client_id or str(message.pk)


def _parts(message: Message) -> list[dict[str, Any]]:
    is_answer = message.role == Message.Role.ASSISTANT
    parts: list[dict[str, Any]] = [STEP] if is_answer else []
    generation = generation_of(message)
    is_whole = generation is None or generation.status == COMPLETED
    for part in whole_parts(message):
        if part["type"] in (TEXT, REASONING):
            parts.append({**part, "state": "done"})
        elif part["type"] == IMAGE:
            parts.append(images.shown(part["attachment_id"], message.images))
        elif part["type"] == TOOL_CALL and is_whole:  # else nobody is to run it
            called = {"toolCallId": part["id"], "state": "input-available", "input": input_of(part["arguments"])}
            parts.append({"type": f"{PREFIX}{part['name']}", **called})
    return parts


def _add_results(parts: list[dict[str, Any]], said: Message) -> None:
    for part, text in parts_of(said):
        for call in reversed(parts):
            if call.get("toolCallId") == part["id"]:
                call |= {"state": AVAILABLE, "output": output_of(text)}
                break


def _metadata(message: Message) -> dict[str, Any]:
    metadata: dict[str, Any] = {"message_id": message.pk, "parent_id": message.parent_id}
    if generation := generation_of(message):
        metadata |= {
            "generation_id": str(generation.pk),
            "model": message.model,
            "model_type": message.model_type,
            "status": generation.status,
            "finish_reason": generation.finish_reason or None,
            "usage": generation.usage,
        }
    return metadata


def _is_running(message: Message) -> bool:
    generation = generation_of(message)
    return generation is not None and generation.is_running

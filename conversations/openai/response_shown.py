"""A response as OpenAI's API shows it, before anything of it is told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ..engine.answer_errors import describe
from ..engine.completions import CompletionFinished, Delta
from ..engine.events import COMPLETED, STOPPED, Ending, pieces_of_row
from ..models import Message, parts_of
from ..models.parts import IMAGE, Part
from ..services import StoredAnswer
from .response_asked import CONVERSATION, RESPONSE, ResponseAsked
from .response_told import CANCELLED, FAILED, IN_PROGRESS, Telling
from .stored import delta_of, usage_of

# What is said of a response of which nothing else is known.
PLAIN: Mapping[str, Any] = {
    "object": "response",
    "status": IN_PROGRESS,
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "usage": None,
    "user": None,
}


def passed_on(asked: ResponseAsked, key: str, created_at: int) -> dict[str, Any]:
    """Return a response that is not stored."""
    return {
        **PLAIN,
        **_of_body(asked),
        "id": f"{RESPONSE}{key}",
        "created_at": created_at,
        "model": asked.completion.model,
        "instructions": asked.instructions,
        "store": False,
    }


def begun(answer: StoredAnswer, asked: ResponseAsked | None = None) -> dict[str, Any]:
    """Return a stored response without what was answered; ``asked`` tells what is kept nowhere."""
    return {
        **PLAIN,
        **(_of_body(asked) if asked else {}),
        "id": f"{RESPONSE}{answer.ids.generation_id.hex}",
        "created_at": int(answer.created_at.timestamp()),
        "model": asked.completion.model if asked else answer.message.model_type,
        "instructions": answer.system_prompt or None,
        "previous_response_id": f"{RESPONSE}{answer.previous.hex}" if answer.previous else None,
        "conversation": {"id": conversation_id(answer.ids.session_id)},
    }


def conversation_id(session_id: uuid.UUID) -> str:
    """Return what a conversation is called there."""
    return f"{CONVERSATION}{session_id.hex}"


def shown(answer: StoredAnswer, asked: ResponseAsked | None = None) -> dict[str, Any]:
    """Return a stored response as it is: with what was answered, once that has ended."""
    response = begun(answer, asked)
    if answer.ending is None:
        return response
    telling = Telling(response, str(answer.ids.message_id))
    ending = answer.ending
    said: list[Delta] = [delta_of(piece) for piece in pieces_of_row(answer.message)]
    telling.tell([*said, CompletionFinished(ending.finish_reason, usage_of(ending.usage))])
    return telling.whole(*ended(telling, ending))


def input_items(question: Message) -> list[dict[str, Any]]:
    """Return what a response answers: a user's message, or the results of tools."""
    if question.role != Message.Role.TOOL:
        return [
            {
                "id": f"msg_{question.pk}",
                "type": "message",
                "role": question.role,
                "status": "completed",
                "content": [_input_part(part, text) for part, text in parts_of(question)],
            }
        ]
    return [
        {
            "id": f"fco_{question.pk}_{place}",
            "type": "function_call_output",
            "call_id": part["id"],
            "output": text,
            "status": "completed",
        }
        for place, (part, text) in enumerate(parts_of(question))
    ]


def _input_part(part: Part, text: str) -> dict[str, Any]:
    if part["type"] == IMAGE:
        return {"type": "input_image", "file_id": part["attachment_id"], "image_url": None, "detail": "auto"}
    return {"type": "input_text", "text": text}


def ended(telling: Telling, ending: Ending) -> tuple[str, dict[str, Any] | None]:
    """Return the status of a stored response that ended, and its error."""
    if ending.status == COMPLETED:
        return telling.status(), None
    if ending.status == STOPPED:
        return CANCELLED, None
    code = ending.error_code or ending.status
    return FAILED, {"code": code, "message": str(describe(code, ending.error_message))}


def _of_body(asked: ResponseAsked) -> dict[str, Any]:
    completion = asked.completion
    return {
        "background": asked.background,
        "max_output_tokens": completion.max_tokens,
        "metadata": asked.metadata,
        "temperature": completion.request.temperature,
        "top_p": completion.request.params.get("top_p"),
    }

"""``POST /api/agui``: a run of AG-UI, begun or attached to, and told as its events."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request

from .. import services
from ..access.rules import Action, Caller, authorize
from ..engine.events import AnswerIds
from ..engine.reader import open_reader
from ..web.base import ApiView
from ..web.calls import body_of, caller_of, told_as
from ..web.gate import Deferred
from ..web.images import begin_with
from ..web.parsers import HistoryParser
from ..web.sse import EventEncoding, EventStreamResponse
from .asked import ROLES, RunAsked, asked_of
from .told import Telling

BODY: dict[str, Any] = {
    "type": "object",
    "description": "A `RunAgentInput` of AG-UI 1.0.",
    "properties": {
        "threadId": {"type": "string", "description": "The conversation: a session's id, or one of the client's own."},
        "runId": {"type": "string", "description": "Sent again, it attaches to the answer that it began."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "description": "The last of the user's is answered, or what came of calls at the end; those before it "
            "begin a new conversation.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "role": {"type": "string", "enum": list(ROLES)},
                    "content": {"description": "A text, or parts: texts, and images of the user's."},
                },
                "required": ["id", "role"],
                "additionalProperties": True,
            },
        },
        "tools": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
        "context": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
        "forwardedProps": {
            "type": "object",
            "description": "`model_type`, `temperature` and `max_tokens` are as in `POST /chat`.",
            "additionalProperties": True,
        },
    },
    "required": ["threadId", "runId", "messages"],
    "additionalProperties": True,
}
EVENTS = OpenApiResponse(
    {
        "type": "object",
        "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
        "required": ["data"],
    },
    description="The events of AG-UI: RUN_STARTED, at last RUN_FINISHED or RUN_ERROR.",
)


class RunsView(ApiView):
    """Runs."""

    parser_classes = [HistoryParser]

    @extend_schema(
        operation_id="agui_run", request={"application/json": BODY}, responses={(200, "text/event-stream"): EVENTS}
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer the last message of an AG-UI run; the answer is stored, and goes on when the client leaves."""
        caller = caller_of(request)
        authorize(caller, Action.CHAT)
        data = body_of(request)
        asked = asked_of(data)
        if asked.images and not services.was_asked(caller=caller, chat=asked.chat):
            return Deferred(partial(_kept, asked, caller), needs_body=True)
        return Deferred(partial(_told, asked, _begun(caller, asked), caller))


def _begun(caller: Caller, asked: RunAsked, attachment_ids: Sequence[uuid.UUID] = ()) -> AnswerIds:
    chat = replace(asked.chat, attachment_ids=attachment_ids)
    with told_as("messages"):
        return services.answer_chat(caller=caller, chat=chat, options=asked.options)


async def _kept(asked: RunAsked, caller: Caller) -> HttpResponseBase:
    def begin(kept: dict[str, uuid.UUID]) -> AnswerIds:
        return _begun(caller, asked, tuple(dict.fromkeys(kept.values())))

    ids = await begin_with(caller, asked.images, begin)
    return Deferred(partial(_told, asked, ids, caller))


async def _told(asked: RunAsked, ids: AnswerIds, caller: Caller) -> HttpResponseBase:
    telling = Telling(asked.chat.chat_id, asked.run_id, ids, asked.has, is_old=asked.is_old)
    reader = await open_reader(ids.generation_id)
    return EventStreamResponse(reader, caller, EventEncoding(telling.opening, telling.encode))

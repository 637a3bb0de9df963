"""``/api/chat``: a chat is answered, and an answer resumed."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from .. import services
from ..access.rules import Action, Caller, authorize
from ..engine.reader import open_reader
from ..models import CLIENT_ID_LENGTH
from ..services import StoredAnswer
from ..web.base import ApiView
from ..web.calls import body_of, caller_of, told_as
from ..web.gate import Deferred, json_response, no_content
from ..web.images import begin_with
from ..web.parsers import HistoryParser
from ..web.schema import UI_EVENTS
from ..web.sse import EventStreamResponse, HeadResponse
from .asked import REGENERATE, SUBMIT, Asked, parsed
from .errors import text_error
from .shown import shown
from .told import Telling

# By this the client's own server tells its streams.
PROTOCOL = {"x-vercel-ai-ui-message-stream": "v1"}
STREAM = OpenApiResponse(UI_EVENTS, description="The parts of a message, as server-sent events; the last is [DONE].")
CHAT_ID = OpenApiParameter("chat_id", str, OpenApiParameter.PATH, description="The chat's name.")
MESSAGES = OpenApiResponse(
    {"type": "array", "items": {"type": "object", "additionalProperties": True}}, description="UI messages."
)
# What has to be in a body, and what is read of it; the rest as in the AI SDK.
BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": CLIENT_ID_LENGTH, "description": "The chat's name."},
        "messages": {
            "type": "array",
            "description": "UI messages: the chat as the client knows it. The last of the user's is answered.",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "role": {"type": "string", "enum": ["system", "user", "assistant"]},
                    "parts": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
                },
                "required": ["role"],
                "additionalProperties": True,
            },
        },
        "trigger": {"type": "string", "enum": [SUBMIT, REGENERATE]},
        "messageId": {"type": ["string", "null"], "description": "The message that is edited, or answered again."},
        "model_type": {"type": ["string", "null"], "description": "A preset's type, or `custom`."},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "tools": {
            "type": ["array", "object", "null"],
            "description": "What the model may call; the page runs it. A list, or an object of them by name.",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "description": {"type": ["string", "null"]},
                    "inputSchema": {"type": ["object", "null"], "additionalProperties": True},
                },
                "required": ["name"],
                "additionalProperties": True,
            },
            "additionalProperties": True,
        },
        "temporary": {"type": "boolean", "description": "Of a new chat: never listed, found or named."},
    },
    "required": ["id", "messages"],
    "additionalProperties": True,
}


class AISDKView(ApiView):
    """A view whose errors are what the client shows."""

    render_error = staticmethod(text_error)
    parser_classes = [HistoryParser]


class ChatView(AISDKView):
    """A chat."""

    @extend_schema(
        operation_id="ui_chat_create",
        request={"application/json": BODY},
        responses={(200, "text/event-stream"): STREAM},
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer a chat of the AI SDK's `useChat`: its last message, edited or new, or once more."""
        caller = caller_of(request)
        authorize(caller, Action.CHAT)
        data = body_of(request)
        asked = parsed(data)
        if asked.images and not services.was_asked(caller=caller, chat=asked.chat):
            return Deferred(partial(_kept, caller, asked), needs_body=True)
        return _told(caller, *_begun(caller, asked))


class ChatStreamView(AISDKView):
    """What is being answered in it."""

    @extend_schema(
        operation_id="ui_chat_stream_retrieve",
        parameters=[CHAT_ID],
        responses={(200, "text/event-stream"): STREAM, 204: None},
    )
    def get(self, request: Request, chat_id: str) -> HttpResponseBase:
        """Resume the answer that is being made in a chat, from its begin; 204 where none is."""
        caller = caller_of(request)
        generation_id = services.running_answer(caller=caller, chat_id=chat_id)
        if generation_id is None:
            return no_content()
        answer = services.get_answer(caller=caller, generation_id=generation_id)
        return HeadResponse(answer.ids) if request.method == "HEAD" else _told(caller, *_telling(answer, replays=True))


class ChatMessagesView(AISDKView):
    """What was said in it."""

    @extend_schema(operation_id="ui_chat_messages_list", parameters=[CHAT_ID], responses={200: MESSAGES})
    def get(self, request: Request, chat_id: str) -> HttpResponseBase:
        """List the messages of a chat as `useChat` begins with them; none where there is no such chat (yet)."""
        conversation = services.find_chat(caller=caller_of(request), chat_id=chat_id)
        return json_response([] if conversation is None else shown(services.history(conversation)))


def _begun(caller: Caller, asked: Asked) -> tuple[StoredAnswer, Telling]:
    with told_as("messages"):
        ids = services.answer_chat(caller=caller, chat=asked.chat, options=asked.options, temporary=asked.temporary)
    return _telling(services.get_answer(caller=caller, generation_id=ids.generation_id, action=Action.CHAT))


async def _kept(caller: Caller, asked: Asked) -> HttpResponseBase:
    def begin(kept: dict[str, uuid.UUID]) -> tuple[StoredAnswer, Telling]:
        ids = tuple(dict.fromkeys(kept.values()))
        return _begun(caller, replace(asked, chat=replace(asked.chat, attachment_ids=ids)))

    return await _streamed(caller, *await begin_with(caller, asked.images, begin))


def _telling(answer: StoredAnswer, *, replays: bool = False) -> tuple[StoredAnswer, Telling]:
    return answer, Telling(answer, services.turn_before(answer), replays=replays)


def _told(caller: Caller, answer: StoredAnswer, telling: Telling) -> HttpResponse:
    return Deferred(partial(_streamed, caller, answer, telling))


async def _streamed(caller: Caller, answer: StoredAnswer, telling: Telling) -> HttpResponseBase:
    reader = await open_reader(answer.ids.generation_id)
    response = EventStreamResponse(reader, caller, telling.encoding)
    for name, value in PROTOCOL.items():
        response[name] = value
    return response

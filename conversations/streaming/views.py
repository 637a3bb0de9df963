"""Calls that answer with a stream: a DRF view validates and starts, the event loop streams."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from .. import problems, services
from ..access import Caller
from ..api import serializers as s
from ..api.base import ApiView
from ..api.errors import problem_response
from ..api.gate import Deferred, json_response
from ..api.schema import EVENTS
from ..api.views import GENERATION_ID, caller_of, request_example, session_id_of, validated
from ..exceptions import InvalidRequest
from ..generation.events import FAILED, INTERRUPTED, AnswerIds
from ..generation.reader import Answer, collect, open_reader
from .sse import MAX_DIGITS, EventStreamResponse, headers_of, parse_last_event_id, parse_position

STREAM = {
    (200, "application/json"): s.ReplySerializer,
    (200, "text/event-stream"): OpenApiResponse(EVENTS, description="The events of the answer."),
}


IDEMPOTENCY_KEY = "Idempotency-Key"


class ChatView(ApiView):
    """Say something and get an answer."""

    @extend_schema(
        parameters=[
            OpenApiParameter(
                IDEMPOTENCY_KEY,
                {"type": "string", "pattern": "^[!-~]{1,255}$"},
                OpenApiParameter.HEADER,
                description="The same key and body give the same answer again, never a second one.",
            )
        ],
        request=s.ChatSerializer,
        responses=STREAM,
        examples=[request_example({"message": "Hello!", "stream": False})],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Say something: the answer comes as SSE, or with `"stream": false` as one JSON object."""
        data = validated(s.ChatSerializer, request.data)
        caller = caller_of(request)
        ids = services.start_reply(
            caller=caller,
            message=data["message"],
            session_id=data.get("session_id"),
            user_id=data.get("user_id"),
            options=s.options_of(data),
            idempotency=idempotency_of(request.headers.get(IDEMPOTENCY_KEY), data),
        )
        return reply(caller, ids, data["message"], stream=data["stream"])


class RegenerateView(ApiView):
    """Get another answer."""

    @extend_schema(
        parameters=[OpenApiParameter("message_id", int, OpenApiParameter.PATH)],
        request=s.RegenerateSerializer,
        responses=STREAM,
    )
    def post(self, request: Request, message_id: int) -> HttpResponseBase:
        """Answer again: beside an answer, or to a user's message. It becomes the active branch."""
        data = validated(s.RegenerateSerializer, request.data)
        caller = caller_of(request)
        ids, question = services.regenerate(caller=caller, message_id=message_id, options=s.options_of(data))
        return reply(caller, ids, question, stream=data["stream"])


class GenerationStreamView(ApiView):
    """Attach to an answer."""

    @extend_schema(
        parameters=[
            GENERATION_ID,
            OpenApiParameter(
                "after",
                {"type": "integer", "minimum": 0, "maximum": 10**MAX_DIGITS - 1},
                description="Characters that you have; with Last-Event-ID, that counts.",
            ),
            OpenApiParameter(
                "Last-Event-ID", str, OpenApiParameter.HEADER, description="The `id` of the last event that you have."
            ),
        ],
        responses={(200, "text/event-stream"): EVENTS, 204: None},
    )
    def get(self, request: Request, generation_id: str) -> HttpResponseBase:
        """Attach to an answer or resume it, also after its end; 204 after its last event."""
        caller = caller_of(request)
        generation = services.get_generation(caller=caller, generation_id=session_id_of(generation_id))
        last_event_id = request.headers.get("Last-Event-ID", "").strip()
        if last_event_id:
            after = parse_last_event_id(last_event_id, str(generation.pk))
        else:
            after = parse_position(request.query_params.get("after") or "0")
        if after is None:
            return HttpResponse(status=204)
        return Deferred(partial(_attach, caller, generation.pk, after))


async def _attach(caller: Caller, generation_id: uuid.UUID, after: int) -> HttpResponseBase:
    return EventStreamResponse(await open_reader(generation_id, after), caller)


def idempotency_of(key: str | None, data: Mapping[str, Any]) -> services.Idempotency | None:
    """Return what makes two chats the same: the header, and the body without ``stream``.

    Raises ``InvalidRequest`` for a key that is not 1 to 255 visible ASCII characters.
    """
    if key is None:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequest(errors={IDEMPOTENCY_KEY: [_("1 to 255 visible ASCII characters.")]})
    asked = {name: str(value) for name, value in data.items() if name != "stream" and value not in (None, "")}
    return services.Idempotency(key, hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest())


def reply(caller: Caller, ids: AnswerIds, message: str, *, stream: bool) -> Deferred:
    """Return the answer that was just started, as the caller wants it."""
    return Deferred(partial(_attach, caller, ids.generation_id, 0) if stream else partial(_whole, ids, message))


async def _whole(ids: AnswerIds, message: str) -> HttpResponseBase:
    answer = await collect(ids.generation_id)
    names = {
        "session_id": str(ids.session_id),
        "message_id": ids.message_id,
        "generation_id": str(ids.generation_id),
    }
    if answer.ending.status in (FAILED, INTERRUPTED):
        return _failure(answer, names)
    body = {
        **names,
        "user_message": message,
        "assistant_reply": answer.content,
        "status": answer.ending.status,
        "finish_reason": answer.ending.finish_reason or None,
        "usage": answer.ending.usage,
    }
    return json_response(body, headers=headers_of(ids))


def _failure(answer: Answer, names: dict[str, Any]) -> HttpResponse:
    ending = answer.ending
    code = ending.error_code or "interrupted"
    return problem_response(
        status=problems.ANSWER_STATUS.get(code, 500),
        code=code,
        detail=problems.describe(code, ending.error_message),
        headers=headers_of(answer.ids),
        retry_after=ending.retry_after,
        **names,
    )

"""Calls that answer with a stream: a DRF view validates and starts, the event loop streams."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request

from .. import services
from ..access.rules import Caller
from ..engine.events import FAILED, INTERRUPTED, AnswerIds
from ..engine.reader import collect, open_reader
from ..exceptions import InvalidPosition
from ..models import calls_of
from ..web import serializers as s
from ..web.accept import asks_for_json
from ..web.base import ApiView
from ..web.calls import GENERATION_ID, caller_of, request_example, uuid_of, validated
from ..web.failures import failure_of
from ..web.fields import MAX_DIGITS
from ..web.gate import Deferred, json_response, no_content
from ..web.queries import ResumeQuerySerializer, StreamQuerySerializer
from ..web.schema import EVENTS
from ..web.sse import EventStreamResponse, HeadResponse, headers_of, parse_last_event_id, parse_position

STREAM = {
    (200, "application/json"): s.ReplySerializer,
    (200, "text/event-stream"): OpenApiResponse(EVENTS, description="The events of the answer."),
}
T = TypeVar("T")
LAST_EVENT_ID = "Last-Event-ID"
KEY = OpenApiParameter(
    services.IDEMPOTENCY_KEY,
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    description="The same key and body give the same answer again, never a second one; with Last-Event-ID the rest of"
    " it.",
)
RESUME = [
    OpenApiParameter(LAST_EVENT_ID, str, OpenApiParameter.HEADER, description="The `id` of the last event you have."),
    OpenApiParameter("lastEventId", str, description="The same, for clients that cannot set the header; that counts."),
]


class ChatView(ApiView):
    """Say something and get an answer."""

    joins = True

    @extend_schema(
        parameters=[
            KEY,
            *RESUME,
        ],
        request=s.ChatSerializer,
        responses=STREAM,
        examples=[request_example({"message": "Hello!", "stream": False})],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Say something: the answer comes as SSE, or with `"stream": false` as one JSON object."""
        last_event_id = last_event_id_of(request)
        data = validated(s.ChatSerializer, request.data)
        caller = caller_of(request)
        key = services.Idempotency.of(request.headers.get(services.IDEMPOTENCY_KEY), data)
        what: dict[str, Any] = {
            "caller": caller,
            "session_id": data.get("session_id"),
            "user_id": data.get("user_id"),
            "idempotency": key,
        }
        if last_event_id:
            ids = _begun_before(services.find_reply(**what), key)
        else:
            ids = services.start_reply(
                message=data.get("message", ""),
                tool_results=s.results_of(data),
                attachment_ids=data.get("attachments", ()),
                parent_id=data.get("parent_id", services.ACTIVE_LEAF),
                options=s.options_of(data),
                temporary=data.get("temporary", False),
                **what,
            )
        stream = wants_stream(request, data)
        return reply(caller, ids, data.get("message", ""), stream=stream, after=_after(last_event_id, ids))


class RegenerateView(ApiView):
    """Get another answer."""

    joins = True

    @extend_schema(
        parameters=[OpenApiParameter("message_id", int, OpenApiParameter.PATH), KEY, *RESUME],
        request=s.RegenerateSerializer,
        responses=STREAM,
    )
    def post(self, request: Request, message_id: int) -> HttpResponseBase:
        """Answer again: beside an answer, or to a user's message. It becomes the active branch."""
        last_event_id = last_event_id_of(request)
        data = validated(s.RegenerateSerializer, request.data)
        caller = caller_of(request)
        asked = {"message_id": message_id, **data}
        key = services.Idempotency.of(request.headers.get(services.IDEMPOTENCY_KEY), asked)
        what: dict[str, Any] = {"caller": caller, "message_id": message_id, "idempotency": key}
        if last_event_id:
            ids, question = _begun_before(services.find_regenerated(**what), key)
        else:
            ids, question = services.regenerate(options=s.options_of(data), **what)
        stream = wants_stream(request, data)
        return reply(caller, ids, question, stream=stream, after=_after(last_event_id, ids))


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
            *RESUME,
        ],
        responses={(200, "text/event-stream"): EVENTS, 204: None},
    )
    def get(self, request: Request, generation_id: str) -> HttpResponseBase:
        """Attach to an answer or resume it, also after its end; 204 after its last event."""
        caller = caller_of(request)
        query = validated(StreamQuerySerializer, request.query_params.dict())
        generation = services.get_generation(caller=caller, generation_id=uuid_of(generation_id))
        if last_event_id := _named_last(request, query):
            after = parse_last_event_id(last_event_id, str(generation.pk))
        else:
            after = parse_position(query.get("after") or "0")
        if request.method == "HEAD" and after is not None:
            if after > generation.position:
                raise InvalidPosition()
            ids = AnswerIds(generation.pk, generation.message.conversation.session_id, generation.message_id)
            return HeadResponse(ids)
        return _stream(caller, generation.pk, after)


def last_event_id_of(request: Request) -> str:
    """Return the id of the last event that the caller of a POST has; refuses other queries: none means anything."""
    return _named_last(request, validated(ResumeQuerySerializer, request.query_params.dict()))


def _named_last(request: Request, query: Mapping[str, Any]) -> str:
    """Return what the header says, or without it the query."""
    return str(request.headers.get(LAST_EVENT_ID, "").strip() or query.get("lastEventId", "").strip())


def _begun_before(found: T | None, idempotency: services.Idempotency | None) -> T:
    """Return what was found of a repeated request; raises ``InvalidPosition`` where that is nothing.

    Nothing begins then: whoever has an event of an answer does not ask for another.
    """
    if idempotency is None:
        raise InvalidPosition(_("With Last-Event-ID, send the Idempotency-Key that the answer was asked for with."))
    if found is None:
        raise InvalidPosition()
    return found


def _after(last_event_id: str, ids: AnswerIds) -> int | None:
    """Return the position up to which the caller has an answer; None for its end."""
    return parse_last_event_id(last_event_id, str(ids.generation_id)) if last_event_id else 0


def wants_stream(request: Request, data: Mapping[str, Any]) -> bool:
    """Whether the answer is to come as events: as the body says, or else `Accept`."""
    stream: bool | None = data.get("stream")
    return not asks_for_json(request) if stream is None else stream


def _stream(caller: Caller, generation_id: uuid.UUID, after: int | None) -> HttpResponse:
    return no_content() if after is None else Deferred(partial(_attach, caller, generation_id, after))


async def _attach(caller: Caller, generation_id: uuid.UUID, after: int) -> HttpResponseBase:
    return EventStreamResponse(await open_reader(generation_id, after), caller)


def reply(caller: Caller, ids: AnswerIds, message: str, *, stream: bool, after: int | None = 0) -> HttpResponse:
    """Return an answer as the caller wants it: whole, or what follows ``after`` (None: its end was seen)."""
    return _stream(caller, ids.generation_id, after) if stream else Deferred(partial(_whole, ids, message))


async def _whole(ids: AnswerIds, message: str) -> HttpResponseBase:
    answer = await collect(ids.generation_id)
    names = {
        "session_id": str(ids.session_id),
        "message_id": ids.message_id,
        "generation_id": str(ids.generation_id),
    }
    if answer.ending.status in (FAILED, INTERRUPTED):
        return failure_of(answer.ending, headers=headers_of(answer.ids), **names)
    body = {
        **names,
        "user_message": message,
        "assistant_reply": answer.content,
        "status": answer.ending.status,
        "finish_reason": answer.ending.finish_reason or None,
        "usage": answer.ending.usage,
    }
    if calls := calls_of(answer.said):
        body["tool_calls"] = [{"id": key, "name": name, "arguments": arguments} for key, name, arguments in calls]
    return json_response(body, headers=headers_of(ids))

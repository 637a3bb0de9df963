"""``/v1``: models, and chat completions that are passed on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from .. import services
from ..access.rules import Action, Caller, authorize
from ..engine import engines
from ..engine.completions import Delta
from ..engine.events import AnswerIds
from ..engine.reader import open_reader
from ..engine.relaying import RelayPlan
from ..exceptions import NotFound
from ..services import relays
from ..services.relays import Model
from ..web.calls import body_of, caller_of
from ..web.credential_watch import CredentialWatch
from ..web.gate import Deferred, json_response
from ..web.sse import DONE, STREAM_HEADERS, ClosingStream, data_of, headers_of, stream_headers
from . import stored
from .asked import ROLES, Asked, parsed
from .base import THEIRS, OpenAIView, headers_of_relay, told_by
from .errors import openai_error
from .response_asked import CONVERSATION, id_of
from .stored import Place, Reading
from .told import Told

# What has to be in a body, and what decides how the answer comes; the rest as in OpenAI's API.
BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "One of GET /v1/models."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": list(ROLES)},
                    "content": {"description": "A text, or parts: texts, and images as data: URLs."},
                },
                "required": ["role"],
                "additionalProperties": True,
            },
        },
        "stream": {"type": "boolean", "description": "Server-sent events, the last of them `[DONE]`."},
    },
    "required": ["model", "messages"],
    "additionalProperties": True,
}


class ModelsView(OpenAIView):
    """The models that the caller may ask."""

    @extend_schema(operation_id="v1_models_list", responses={200: THEIRS})
    def get(self, request: Request) -> Response:
        """List models, in the form of OpenAI's API."""
        found = relays.list_models(caller=caller_of(request))
        return Response({"object": "list", "data": [_shown(model) for model in found]})


class ModelView(OpenAIView):
    """One of them."""

    @extend_schema(operation_id="v1_models_retrieve", responses={200: THEIRS})
    def get(self, request: Request, model: str) -> Response:
        """Show a model, in the form of OpenAI's API."""
        for found in relays.list_models(caller=caller_of(request)):
            if found.id == model:
                return Response(_shown(found))
        raise NotFound(_("There is no such model; GET /v1/models lists them."), code="model_not_found")


class ChatCompletionsView(OpenAIView):
    """Chat completions."""

    @extend_schema(
        operation_id="v1_chat_completions_create",
        request={"application/json": BODY},
        responses={200: THEIRS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Answer a chat completion of OpenAI's API: passed on as it is made, or with `store` an ordinary answer."""
        caller = caller_of(request)
        authorize(caller, Action.CHAT)
        data = body_of(request)
        asked = parsed(data)
        if asked.store:
            key = services.Idempotency.of(request.headers.get(services.IDEMPOTENCY_KEY), data)
            answer = partial(_stored, asked, caller)
            return stored.answering(caller, asked, _place(data), key, look=lambda ids: ids, answer=answer)
        plan = relays.begin_relay(
            caller=caller,
            model=asked.model,
            request=asked.request,
            max_tokens=asked.max_tokens,
            messages_field=asked.messages_field,
        )
        return Deferred(partial(_answered, plan, asked, caller))


class NothingView(OpenAIView):
    """What there is not."""

    @extend_schema(exclude=True)
    def get(self, request: Request, **_path: Any) -> Response:
        raise NotFound(_("There is no such path in this API."))

    post = put = patch = delete = get


def _shown(model: Model) -> dict[str, Any]:
    endpoint = model.endpoint
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "chatproject",
        "name": endpoint.name,
        "context_window": endpoint.context_window,
        # What it can do, null where that is not known; and what it takes beside the fields of OpenAI's API.
        "capabilities": {
            "images": endpoint.takes_images,
            "tools": endpoint.takes_tools,
            "reasoning": endpoint.reasons,
        },
        "extra_fields": list(endpoint.extra_fields),
    }


def _place(data: Mapping[str, Any]) -> Place:
    """Return the conversation that the metadata name: there the last message is said."""
    metadata = data.get("metadata")
    named = metadata.get("session_id") if isinstance(metadata, dict) else None
    session_id = id_of("metadata", CONVERSATION, named)
    return Place(session_id, is_all_new=session_id is None)


async def _stored(asked: Asked, caller: Caller, ids: AnswerIds) -> HttpResponseBase:
    reading = Reading(await open_reader(ids.generation_id))
    told = Told(asked.model, f"chatcmpl-{ids.generation_id.hex}")
    if asked.stream:
        stream = _streamed(told, [], reading.batches(), CredentialWatch(caller), include_usage=asked.include_usage)
        return ClosingStream(stream, headers=stream_headers(ids))
    await _take(told, reading.batches())
    told.rethink(reading.reasoning_chars)
    return json_response(told.whole(), headers=headers_of(ids))


async def _answered(plan: RelayPlan, asked: Asked, caller: Caller) -> HttpResponseBase:
    relaying = engines.current().begin_relay(plan)
    told = Told(asked.model)
    if asked.stream:
        # What goes wrong before the first word has a status of its own.
        first, batches = await relaying.begin()
        stream = _streamed(told, first, batches, CredentialWatch(caller), include_usage=asked.include_usage)
        return ClosingStream(stream, headers={**STREAM_HEADERS, **headers_of_relay(relaying)})
    await _take(told, relaying.batches())
    return json_response(told.whole(), headers=headers_of_relay(relaying))


async def _take(told: Told, batches: AsyncGenerator[list[Delta], None]) -> None:
    async with aclosing(batches):
        async for batch in batches:
            for delta in batch:
                told.take(delta)


async def _streamed(
    told: Told,
    first: list[Delta],
    batches: AsyncGenerator[list[Delta], None],
    watch: CredentialWatch,
    *,
    include_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a stream. Closing it closes the upstream."""
    try:
        async with aclosing(told_by(told, first, batches, watch)) as said:
            async for part in said:
                yield part
        yield told.end(include_usage=include_usage)
    except Exception as error:  # its status is sent already
        yield data_of(json.loads(openai_error(error).content))
    yield DONE

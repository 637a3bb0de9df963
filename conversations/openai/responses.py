"""``/v1/responses``: answers that are stored, resumed and cancelled, in OpenAI's form; or passed on."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from .. import services
from ..access.rules import Action, Caller, authorize
from ..engine import engines
from ..engine.completions import Delta, ProviderError
from ..engine.events import FAILED, INTERRUPTED, AnswerIds, Ending
from ..engine.reader import open_reader
from ..engine.relaying import RelayPlan
from ..exceptions import InvalidPosition, NotFound
from ..services import relays
from ..web.calls import body_of, caller_of, refused, uuid_of
from ..web.credential_watch import CredentialWatch
from ..web.gate import Deferred, json_response
from ..web.sse import (
    STREAM_HEADERS,
    ClosingStream,
    HeadResponse,
    headers_of,
    parse_position,
    stream_headers,
)
from . import stored
from .base import THEIRS, OpenAIView, headers_of_relay, listed, told_by
from .errors import openai_error
from .response_asked import RESPONSE, ResponseAsked, asked_of, referenced
from .response_shown import begun, ended, input_items, passed_on, shown
from .response_told import EVENTS_A_POSITION, Telling
from .stored import AnswerFailed, Place, Reading

BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "description": "One of GET /v1/models; left out: `default`."},
        "input": {"description": "A text, or a list of items: messages, function calls and their outputs."},
        "instructions": {"type": "string"},
        "previous_response_id": {"type": "string", "description": "Goes on after that response."},
        "conversation": {"description": "`conv_…`: goes on at the end of that conversation."},
        "background": {"type": "boolean", "description": "Answers at once; GET /v1/responses/{id} tells the rest."},
        "store": {"type": "boolean", "description": "false: passed on, and not stored."},
        "stream": {"type": "boolean"},
    },
    "required": ["input"],
    "additionalProperties": True,
}
ID = OpenApiParameter("response_id", str, OpenApiParameter.PATH)


class ResponsesView(OpenAIView):
    """Responses."""

    @extend_schema(operation_id="v1_responses_create", request={"application/json": BODY}, responses={200: THEIRS})
    def post(self, request: Request) -> HttpResponseBase:
        """Answer a response of OpenAI's API; it is stored, unless it says or needs otherwise."""
        caller = caller_of(request)
        authorize(caller, Action.CHAT)
        data = body_of(request)
        known = services.messages_named(caller=caller, message_ids=referenced(data))
        asked = asked_of(data, known)
        if not _is_stored(asked):
            completion = asked.completion
            plan = relays.begin_relay(
                caller=caller,
                model=completion.model,
                request=completion.request,
                max_tokens=completion.max_tokens,
                messages_field=completion.messages_field,
            )
            return Deferred(partial(_passed_on, plan, asked, caller))
        key = services.Idempotency.of(request.headers.get(services.IDEMPOTENCY_KEY), data)
        return stored.answering(
            caller,
            asked.completion,
            _place(caller, asked),
            key,
            look=partial(_begun, caller),
            answer=partial(_answer_to, asked, caller),
            background=asked.background,
        )


class ResponseView(OpenAIView):
    """One of them."""

    @extend_schema(
        operation_id="v1_responses_retrieve",
        parameters=[
            ID,
            OpenApiParameter("stream", bool, description="Its events, from the begin or after `starting_after`."),
            OpenApiParameter("starting_after", int, description="The `sequence_number` of the last event you have."),
        ],
        responses={200: THEIRS},
    )
    def get(self, request: Request, response_id: str) -> HttpResponseBase:
        """Show a stored response, or go on with its stream."""
        caller = caller_of(request)
        answer = _answer(caller, response_id)
        key = answer.ids.generation_id
        query = request.query_params
        if query.get("stream", "false").lower() not in ("true", "1"):
            return Response(shown(answer))
        if request.method == "HEAD":
            return HeadResponse(answer.ids)
        after = parse_position(query["starting_after"]) if query.get("starting_after") else -1
        if after // EVENTS_A_POSITION > services.get_generation(caller=caller, generation_id=key).position:
            raise InvalidPosition()
        return Deferred(partial(_stored, answer.ids, begun(answer), caller, stream=True, after=after))

    @extend_schema(operation_id="v1_responses_delete", parameters=[ID], responses={200: THEIRS})
    def delete(self, request: Request, response_id: str) -> HttpResponseBase:
        """Delete a response with its question, unless something was said after it."""
        caller = caller_of(request)
        answer = _answer(caller, response_id, Action.DELETE)
        key = answer.ids.generation_id
        is_only_answer = answer.question.children.count() == 1
        message, most = (answer.question, 2) if is_only_answer else (answer.message, 1)
        deleted = services.delete_message(caller=caller, message_id=message.pk, at_most=most)
        told = {"id": f"{RESPONSE}{key.hex}", "object": "response", "deleted": True}

        async def resolve() -> HttpResponseBase:
            engines.current().tell_of_ends(deleted.ended)
            return json_response(told)

        return Deferred(resolve)


class ResponseCancelView(OpenAIView):
    """Its end before its time."""

    @extend_schema(operation_id="v1_responses_cancel", parameters=[ID], request=None, responses={200: THEIRS})
    def post(self, request: Request, response_id: str) -> HttpResponseBase:
        """Stop a response and keep its text; returns once that is stored. Idempotent."""
        caller = caller_of(request)
        answer = _answer(caller, response_id, Action.STOP)

        async def resolve() -> HttpResponseBase:
            await engines.current().stop(answer.ids.generation_id)
            reading = Reading(await open_reader(answer.ids.generation_id))
            telling = Telling(begun(answer), str(answer.ids.message_id))
            ending = await _read(reading, telling)
            return json_response(telling.whole(*ended(telling, ending)), headers=headers_of(answer.ids))

        return Deferred(resolve)


class InputItemsView(OpenAIView):
    """What was asked."""

    @extend_schema(operation_id="v1_responses_input_items", parameters=[ID], responses={200: THEIRS})
    def get(self, request: Request, response_id: str) -> Response:
        """List what a response answers: a message, or the results of tools."""
        return Response(listed(input_items(_answer(caller_of(request), response_id).question)))


def _is_stored(asked: ResponseAsked) -> bool:
    """Whether it is stored: as the body says, else if it can be and nothing else would do."""
    store = asked.completion.store
    if store is not None:
        return store
    needs_it = asked.background or asked.previous or asked.session_id
    return bool(needs_it) or stored.hindrance(asked.completion) is None


def _place(caller: Caller, asked: ResponseAsked) -> Place:
    if asked.previous is None:
        return Place() if asked.session_id is None else Place(asked.session_id)
    try:
        answer = services.get_answer(caller=caller, generation_id=asked.previous, action=Action.CHAT)
    except NotFound:
        reason = _("There is none: it was deleted, or not stored; send its items instead.")
        raise refused("previous_response_id", reason, code="previous_response_not_found") from None
    return Place(answer.ids.session_id, answer.ids.message_id)


def _answer(caller: Caller, response_id: str, action: Action = Action.READ) -> services.StoredAnswer:
    key = uuid_of(response_id.removeprefix(RESPONSE))
    return services.get_answer(caller=caller, generation_id=key, action=action)


def _begun(caller: Caller, ids: AnswerIds) -> services.StoredAnswer:
    return services.get_answer(caller=caller, generation_id=ids.generation_id, action=Action.CHAT)


async def _answer_to(asked: ResponseAsked, caller: Caller, answer: services.StoredAnswer) -> HttpResponseBase:
    if asked.background and not asked.completion.stream:
        return json_response(shown(answer, asked), headers=headers_of(answer.ids))
    return await _stored(answer.ids, begun(answer, asked), caller, stream=asked.completion.stream)


async def _passed_on(plan: RelayPlan, asked: ResponseAsked, caller: Caller) -> HttpResponseBase:
    relaying = engines.current().begin_relay(plan)
    key = uuid.uuid4().hex
    telling = Telling(passed_on(asked, key, int(time.time())), key)
    if asked.completion.stream:
        # What goes wrong before the first word has a status of its own.
        first, batches = await relaying.begin()
        headers = {**STREAM_HEADERS, **headers_of_relay(relaying)}
        return ClosingStream(_streamed(telling, first, batches, caller), headers=headers)
    async with aclosing(relaying.batches()) as batches:
        async for batch in batches:
            telling.tell(batch)
    return json_response(telling.whole(telling.status()), headers=headers_of_relay(relaying))


async def _stored(
    ids: AnswerIds, response: dict[str, Any], caller: Caller, *, stream: bool, after: int = -1
) -> HttpResponseBase:
    reading = Reading(await open_reader(ids.generation_id))
    telling = Telling(response, str(ids.message_id), after=after)
    if stream:
        said = _streamed(telling, [], reading.batches(), caller, reading)
        return ClosingStream(said, headers=stream_headers(ids))
    ending = await _read(reading, telling)
    if ending.status in (FAILED, INTERRUPTED):
        raise AnswerFailed(ending)
    return json_response(telling.whole(*ended(telling, ending)), headers=headers_of(ids))


async def _read(reading: Reading, telling: Telling) -> Ending:
    """Read a stored answer to its end; return how it ended."""
    with suppress(AnswerFailed):
        async with aclosing(reading.batches()) as batches:
            async for batch in batches:
                telling.tell(batch)
    assert reading.ending is not None
    telling.rethink(reading.reasoning_chars)
    return reading.ending


async def _streamed(
    telling: Telling,
    first: list[Delta],
    batches: AsyncGenerator[list[Delta], None],
    caller: Caller,
    reading: Reading | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a stream: of a stored answer, if there is a ``reading``."""
    try:
        async with aclosing(told_by(telling, first, batches, CredentialWatch(caller))) as said:
            async for part in said:
                yield part
        if reading is None:
            yield telling.end(telling.status())
        elif reading.ending is not None:
            yield telling.end(*ended(telling, reading.ending), reasoning_chars=reading.reasoning_chars)
    except AnswerFailed as failed:
        yield telling.end(*ended(telling, failed.ending))
    except Exception as error:  # its status is sent already
        yield telling.fault(json.loads(openai_error(error).content)["error"], is_end=isinstance(error, ProviderError))

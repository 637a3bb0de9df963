"""Stored answers that are asked for in OpenAI's form: begun, and read as the deltas that a model gives."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _

from .. import services
from ..access.rules import Caller
from ..engine.completions import (
    ChatMessage,
    CompletionFinished,
    ContentDelta,
    Delta,
    ReasoningDelta,
    ToolCallDelta,
    Usage,
)
from ..engine.events import CONTENT, FAILED, INTERRUPTED, AnswerIds, DoneEvent, Ending, ErrorEvent, Event, Piece
from ..engine.reader import Reader
from ..services import relays
from ..services.branches import ACTIVE_LEAF, Parent
from ..web.calls import checked, refused, told_as
from ..web.failures import failure_of
from ..web.fields import LineField, TextField
from ..web.gate import Deferred
from ..web.serializers.conversations import SystemPromptField
from ..web.serializers.replies import MessageField
from ..web.serializers.tools import ID_LENGTH
from . import images
from .asked import Asked

_text, _message, _system_prompt = TextField(allow_blank=True), MessageField(), SystemPromptField(allow_blank=True)
T = TypeVar("T")
# Of a call and its tool.
_name = LineField(max_length=ID_LENGTH)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stored answer goes on: in a new conversation, at the end of one, or after an answer."""

    session_id: uuid.UUID | None = None
    parent_id: Parent = ACTIVE_LEAF
    # Whether all that is sent is new there, or only the last message: what is stored counts.
    is_all_new: bool = True


def hindrance(asked: Asked) -> str | None:
    """Return the field for which an answer cannot be stored, None where it can: images are what users show."""
    others = (message for message in asked.request.messages if message.role != "user")
    return asked.messages_field if any(message.parts for message in others) else None


def _check(asked: Asked) -> None:
    if field := hindrance(asked):
        raise refused(field, _("An answer with this cannot be stored: leave it out, or send `store: false`."))


def _new(asked: Asked, place: Place) -> tuple[ChatMessage, ...]:
    """Return the messages that will be stored."""
    return asked.request.messages if place.is_all_new else asked.request.messages[-1:]


def _check_images(caller: Caller, asked: Asked, place: Place) -> None:
    """Refuse, before anything is kept, what cannot be stored, too many images, and a model that takes none.

    Raises ``InvalidRequest``, ``ImagesNotSupported``, ``ToolsNotSupported``, ``UnknownModel`` or ``NotFound``.
    """
    _check(asked)
    images.check(_new(asked, place), asked.messages_field)
    last = replace(asked.request, messages=asked.request.messages[-1:])
    relays.check_stored(
        caller=caller,
        model=asked.model,
        session_id=place.session_id,
        request=last,
        messages_field=asked.messages_field,
    )


def answering(
    caller: Caller,
    asked: Asked,
    place: Place,
    idempotency: services.Idempotency | None,
    *,
    look: Callable[[AnswerIds], T],
    answer: Callable[[T], Awaitable[HttpResponseBase]],
    background: bool = False,
) -> Deferred:
    """Begin a stored answer, or find the one that an equal request began; its images are kept before.

    Returns the promise of what ``answer`` makes of it, as ``look`` sees it in the database. Raises as ``begin`` does.
    """

    def begun(asked: Asked) -> T:
        return look(begin(caller, asked, place, idempotency, background=background))

    def begun_with(new: Sequence[ChatMessage]) -> T:
        messages = *asked.request.messages[: -len(new)], *new
        return begun(replace(asked, request=replace(asked.request, messages=messages)))

    async def kept() -> HttpResponseBase:
        return Deferred(partial(answer, await images.begin_with(caller, _new(asked, place), begun_with)))

    if not images.are_in(_new(asked, place)):
        return Deferred(partial(answer, begun(asked)))
    if ids := services.find_reply(caller=caller, idempotency=idempotency, session_id=place.session_id):
        return Deferred(partial(answer, look(ids)))
    _check_images(caller, asked, place)
    return Deferred(kept, needs_body=True)


def begin(
    caller: Caller, asked: Asked, place: Place, idempotency: services.Idempotency | None, *, background: bool = False
) -> AnswerIds:
    """Begin a stored answer to the last message; return its ids.

    What was said before it is stored too, if it is new there, and instructions are the conversation's system prompt.
    Its images are kept. Raises as ``services.start_reply`` does.
    """
    _check(asked)
    before, results = _before_results(asked.request.messages)
    message, shown = "", list[uuid.UUID]()
    if not results:
        *before, last = before
        if last.role != "user":
            raise refused(asked.messages_field, _("The last message has to be the user's, or the results of tools."))
        shown = images.ids_in(last)
        if last.content or not shown:
            message = checked(_message, last.content, asked.messages_field)
    with told_as(asked.messages_field):
        return services.start_reply(
            caller=caller,
            message=message,
            tool_results=_results(asked, results),
            attachment_ids=shown,
            session_id=place.session_id,
            parent_id=place.parent_id,
            options=_options(caller, asked, background=background),
            beginning=beginning_of(asked, before) if place.is_all_new else None,
            idempotency=idempotency,
        )


def _options(caller: Caller, asked: Asked, *, background: bool) -> services.ReplyOptions:
    return services.ReplyOptions(
        model_type=relays.model_type_of(caller=caller, model=asked.model),
        temperature=asked.request.temperature,
        max_tokens=asked.max_tokens,
        background=background,
        tools=asked.request.tools,
        params=asked.request.params,
    )


def _before_results(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[ChatMessage]]:
    """Return the messages but for the results of tools at their end, and those."""
    end = len(messages)
    while end and messages[end - 1].role == "tool":
        end -= 1
    return list(messages[:end]), list(messages[end:])


def _results(asked: Asked, messages: Sequence[ChatMessage]) -> list[services.ToolResult]:
    where = asked.messages_field
    return [
        services.ToolResult(checked(_name, message.tool_call_id, where), checked(_text, message.content, where))
        for message in messages
    ]


def beginning_of(asked: Asked, before: Sequence[ChatMessage]) -> services.Beginning:
    """Return what was said before as what a conversation begins with; raises ``InvalidRequest``."""
    prompts, earlier = [], []
    for are_results, group in groupby(reversed(before), lambda message: message.role == "tool"):
        if are_results:
            earlier.append(services.by_tools(_results(asked, list(group)[::-1])))
            continue
        for message in group:
            content = checked(_text, message.content, asked.messages_field)
            if message.role == "system":
                prompts.append(content)
            elif message.role == "user" and (content or message.parts):
                earlier.append(services.by_user(content, images.ids_in(message)))
            elif content or message.tool_calls:
                earlier.append(services.by_model(content, _calls(asked, message)))
    prompts.reverse()
    earlier.reverse()
    if len(earlier) > services.MOST_SAID:
        limit = {"limit": services.MOST_SAID}
        raise refused(asked.messages_field, _("At most %(limit)d messages can be stored with one call.") % limit)
    prompt = checked(_system_prompt, "\n\n".join(prompts), asked.messages_field)
    return services.Beginning(prompt if prompts else None, earlier)


def _calls(asked: Asked, message: ChatMessage) -> list[tuple[str, str, str]]:
    where = asked.messages_field
    return [
        (checked(_name, call.id, where), checked(_name, call.name, where), checked(_text, call.arguments, where))
        for call in message.tool_calls
    ]


class AnswerFailed(Exception):
    """A stored answer ended in failure; ``problem`` tells it."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(ending.error_code)

    @property
    def problem(self) -> HttpResponse:
        """The answer of a call that waited for it, as a problem."""
        return failure_of(self.ending)


class Reading:
    """A stored answer, read from its begin. Iterate ``batches`` once; leaving it does not end it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.ending: Ending | None = None
        # Of all text, from its beginning, so much turned out to be reasoning.
        self.reasoning_chars = 0

    async def batches(self) -> AsyncGenerator[list[Delta], None]:
        """Yield deltas as they are stored, none where nothing happens for a while; raises ``AnswerFailed``."""
        async with aclosing(self._reader.batches()) as batches:
            async for batch in batches:
                yield [delta for event in batch if (delta := self._delta(event)) is not None]
                if self.ending is not None and self.ending.status in (FAILED, INTERRUPTED):
                    raise AnswerFailed(self.ending)

    def _delta(self, event: Event) -> Delta | None:
        if isinstance(event, Piece):
            return delta_of(event)
        if isinstance(event, DoneEvent):
            self.ending, self.reasoning_chars = event.ending, event.reasoning_chars
            return CompletionFinished(event.ending.finish_reason or "stop", usage_of(event.ending.usage))
        assert not isinstance(event, ErrorEvent) or event.code, "the end tells it, too"
        return None


def delta_of(piece: Piece) -> Delta:
    """Return a piece of an answer as a model gave it."""
    if piece.call is not None:
        return ToolCallDelta(piece.call.number, piece.call.id, piece.call.name, piece.text)
    return ContentDelta(piece.text) if piece.kind == CONTENT else ReasoningDelta(piece.text)


def usage_of(counted: dict[str, int | float] | None) -> Usage | None:
    """Return what a row counted, as a model tells it."""
    if counted is None:
        return None
    reasoning = counted.get("reasoning_tokens")
    return Usage(
        int(counted["prompt_tokens"]),
        int(counted["completion_tokens"]),
        int(counted["total_tokens"]),
        None if reasoning is None else int(reasoning),
    )

"""``/v1/conversations``: our conversations, and the branch that is shown of each, in OpenAI's form."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from .. import services
from ..access.rules import Action, Caller, authorize
from ..database import db
from ..engine import engines
from ..engine.completions import ChatMessage
from ..engine.events import COMPLETED as ENDED_WELL
from ..engine.events import pieces_of_row
from ..exceptions import InvalidRequest, NotFound
from ..models import Conversation, Message
from ..services import items
from ..web.calls import body_of, caller_of, refused, told_as, uuid_of
from ..web.gate import Deferred, json_response
from ..web.serializers.messages import generation_of
from . import images
from .base import THEIRS, OpenAIView, listed
from .response_asked import CONVERSATION, ResponseAsked, asked_of, referenced
from .response_shown import conversation_id, input_items
from .response_told import COMPLETED, IN_PROGRESS, INCOMPLETE, Telling
from .stored import beginning_of, delta_of, hindrance

MAX_ITEMS, DEFAULT_ITEMS = 100, 20
NOTHING = {"role": "user", "content": "-"}
ITEM = re.compile(r"(?:msg|rs|fc|fco)_(\d{1,18})(?:_\d{1,6})?")
ITEMS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "object", "additionalProperties": True},
    "description": "Messages, function calls and their outputs, and items that are stored here.",
}
BODY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {**ITEMS, "type": ["array", "null"]},
        "metadata": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": "In the answer to this call, and kept nowhere.",
        },
    },
    "additionalProperties": True,
}
ITEMS_BODY: dict[str, Any] = {
    "type": "object",
    "properties": {"items": ITEMS},
    "required": ["items"],
    "additionalProperties": True,
}
ID = OpenApiParameter("conversation_id", str, OpenApiParameter.PATH, description="`conv_…`, of a session's id.")
ITEM_ID = OpenApiParameter("item_id", str, OpenApiParameter.PATH, description="`msg_…`, of a message's id.")
PAGE = [
    OpenApiParameter("after", str, description="The last item of the page before."),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS, "default": DEFAULT_ITEMS}),
    OpenApiParameter("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}),
]


class ConversationsView(OpenAIView):
    """Conversations."""

    @extend_schema(operation_id="v1_conversations_create", request={"application/json": BODY}, responses={200: THEIRS})
    def post(self, request: Request) -> HttpResponseBase:
        """Create a conversation of OpenAI's API, perhaps with items; nothing is asked."""
        caller = caller_of(request)
        authorize(caller, Action.CREATE)
        data = body_of(request)
        is_empty = data.get("items") in (None, [])
        asked = _asked(caller, {**data, "items": [NOTHING]} if is_empty else data)

        def create(beginning: services.Beginning) -> dict[str, Any]:
            conversation = items.create_with_items(caller=caller, beginning=beginning)
            return {**_shown(conversation), "metadata": asked.metadata}

        return Response(create(services.Beginning())) if is_empty else _stored(caller, asked, create)


class ConversationView(OpenAIView):
    """One of them."""

    @extend_schema(operation_id="v1_conversations_retrieve", parameters=[ID], responses={200: THEIRS})
    def get(self, request: Request, conversation_id: str) -> Response:
        """Show a conversation, in the form of OpenAI's API."""
        key = _session_of(conversation_id)
        return Response(_shown(services.get_conversation(caller=caller_of(request), session_id=key)))

    @extend_schema(
        operation_id="v1_conversations_update",
        parameters=[ID],
        request={"application/json": BODY},
        responses={200: THEIRS},
    )
    def post(self, request: Request, conversation_id: str) -> Response:
        """Refuse what would be changed: metadata are kept nowhere."""
        caller, key = caller_of(request), _session_of(conversation_id)
        conversation = services.get_conversation(caller=caller, session_id=key, action=Action.CHANGE)
        if body_of(request).get("metadata"):
            raise refused("metadata", _("Metadata are not kept here."), code="unsupported_parameter")
        return Response(_shown(conversation))

    @extend_schema(operation_id="v1_conversations_delete", parameters=[ID], responses={200: THEIRS})
    def delete(self, request: Request, conversation_id: str) -> HttpResponseBase:
        """Delete a conversation with all that was said in it; an answer that is being made is stopped first."""
        caller, key = caller_of(request), _session_of(conversation_id)
        running = services.running_generation(caller=caller, session_id=key)

        async def resolve() -> HttpResponseBase:
            if running:
                await engines.current().stop(running)
            engines.current().tell_of_ends(await db.write(services.delete_conversation, caller=caller, session_id=key))
            told = {"id": _named(key), "object": "conversation.deleted", "deleted": True}
            return json_response(told)

        return Deferred(resolve)


class ItemsView(OpenAIView):
    """What was said in it."""

    @extend_schema(operation_id="v1_conversations_items_list", parameters=[ID, *PAGE], responses={200: THEIRS})
    def get(self, request: Request, conversation_id: str) -> Response:
        """List the messages of the branch that is shown, newest first."""
        query = request.query_params
        order, limit = query.get("order") or "desc", query.get("limit") or str(DEFAULT_ITEMS)
        if order not in ("asc", "desc"):
            raise refused("order", _("asc or desc."))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= MAX_ITEMS):
            raise refused("limit", _("A whole number from %(low)d to %(high)d.") % {"low": 1, "high": MAX_ITEMS})
        caller, key, after = caller_of(request), _session_of(conversation_id), query.get("after")
        return Response(_page(caller, key, after, int(limit), oldest_first=order == "asc"))

    @extend_schema(
        operation_id="v1_conversations_items_create",
        parameters=[ID],
        request={"application/json": ITEMS_BODY},
        responses={200: THEIRS},
    )
    def post(self, request: Request, conversation_id: str) -> HttpResponseBase:
        """Add messages at the end of the branch that is shown; nothing is asked."""
        caller, key = caller_of(request), _session_of(conversation_id)
        services.get_conversation(caller=caller, session_id=key, action=Action.CHAT)

        def add(beginning: services.Beginning) -> dict[str, Any]:
            return listed(_items_of(items.add_items(caller=caller, session_id=key, beginning=beginning)))

        return _stored(caller, _asked(caller, body_of(request)), add)


class ItemView(OpenAIView):
    """One message of it."""

    @extend_schema(operation_id="v1_conversations_items_retrieve", parameters=[ID, ITEM_ID], responses={200: THEIRS})
    def get(self, request: Request, conversation_id: str, item_id: str) -> Response:
        """Show a message of a conversation, in the form of OpenAI's API."""
        key, message_id = _session_of(conversation_id), _message_of(item_id)
        _conversation, message = items.get_item(caller=caller_of(request), session_id=key, message_id=message_id)
        shown = _parts_of(message)
        place = _place_of(item_id, shown)
        if place is None:
            raise NotFound()
        return Response(shown[place])

    @extend_schema(operation_id="v1_conversations_items_delete", parameters=[ID, ITEM_ID], responses={200: THEIRS})
    def delete(self, request: Request, conversation_id: str, item_id: str) -> HttpResponseBase:
        """Delete the last message of a branch, with all its items; refused once something was said after it."""
        caller, key, message_id = caller_of(request), _session_of(conversation_id), _message_of(item_id)
        conversation, _message = items.get_item(
            caller=caller, session_id=key, message_id=message_id, action=Action.DELETE
        )
        deleted = services.delete_message(caller=caller, message_id=message_id, at_most=1)

        async def resolve() -> HttpResponseBase:
            engines.current().tell_of_ends(deleted.ended)
            return json_response(_shown(conversation))

        return Deferred(resolve)


def _asked(caller: Caller, data: Mapping[str, Any]) -> ResponseAsked:
    """Return what the items say, read as the input of a response; raises ``InvalidRequest`` that names the item."""
    given = data.get("items")
    if not isinstance(given, list) or not given:
        raise refused("items", _("Send at least one item."))
    body = {"input": given, "metadata": data.get("metadata")}
    known = services.messages_named(caller=caller, message_ids=referenced(body))
    with _items_for_input():
        return asked_of(body, known)


def _stored(
    caller: Caller, asked: ResponseAsked, store: Callable[[services.Beginning], dict[str, Any]]
) -> HttpResponseBase:
    """Return what ``store`` tells of what the items say; their images are kept before."""
    messages = asked.completion.request.messages
    if hindrance(asked.completion):
        raise refused("items", _("Images can be stored in messages of the user's."))
    images.check(messages, "items")

    def stored(messages: Sequence[ChatMessage]) -> dict[str, Any]:
        with _items_for_input(), told_as("items"):
            return store(beginning_of(asked.completion, messages))

    async def kept() -> HttpResponseBase:
        return json_response(await images.begin_with(caller, messages, stored))

    return Deferred(kept, needs_body=True) if images.are_in(messages) else Response(stored(messages))


@contextmanager
def _items_for_input() -> Iterator[None]:
    """Call what is refused of a response's ``input`` what it is here."""
    try:
        yield
    except InvalidRequest as error:
        errors = {re.sub("^input", "items", name): reason for name, reason in (error.errors or {}).items()}
        raise InvalidRequest(errors=errors) from None


def _session_of(text: str) -> uuid.UUID:
    return uuid_of(text.removeprefix(CONVERSATION))


def _message_of(text: str) -> int:
    """Return the message that an item's id names: its own, or one of a response's output."""
    if not (named := ITEM.fullmatch(text)):
        raise NotFound()
    return int(named[1])


_named = conversation_id


def _shown(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": _named(conversation.session_id),
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": {},
    }


def _page(caller: Caller, key: uuid.UUID, after: str | None, limit: int, *, oldest_first: bool) -> dict[str, Any]:
    """Return so many items after one of them. A message is one or more of them: so one more than enough is read."""
    since = _message_of(after) if after else None
    found = items.list_items(caller=caller, session_id=key, since=since, limit=limit + 1, oldest_first=oldest_first)
    shown = _items_of(found.messages if found else (), oldest_first=oldest_first)
    place = _place_of(after, shown) if after else -1
    if found is None or place is None:
        raise refused("after", _("There is none with this id."))
    shown = shown[place + 1 :]
    return listed(shown[:limit], has_more=found.has_more or len(shown) > limit)


def _place_of(name: str, shown: list[dict[str, Any]]) -> int | None:
    """Return the place of an item; of one that names a message and no part of it, that of the message's last."""
    found = [place for place, item in enumerate(shown) if item["id"] == name or item["id"].startswith(f"{name}_")]
    return found[-1] if found else None


def _items_of(messages: Iterable[Message], *, oldest_first: bool = True) -> list[dict[str, Any]]:
    return [item for message in messages for item in _parts_of(message)[:: 1 if oldest_first else -1]]


def _parts_of(message: Message) -> list[dict[str, Any]]:
    """Return a message as items, one at least. An answer that is made says nothing yet: its response tells it."""
    if message.role != Message.Role.ASSISTANT:
        return input_items(message)
    generation = generation_of(message)
    status = COMPLETED if generation is None or generation.status == ENDED_WELL else INCOMPLETE
    if generation is not None and generation.is_running:
        status = IN_PROGRESS
    telling = Telling({}, str(message.pk))
    telling.tell(delta_of(piece) for piece in pieces_of_row(message))
    shown: list[dict[str, Any]] = telling.whole(status)["output"]
    empty = {"id": f"msg_{message.pk}", "type": "message", "role": "assistant", "status": status, "content": []}
    return shown or [empty]

"""The REST API: parse, call a service, show the result. Streams are in ``conversations.streaming``."""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.utils.urls import replace_query_param

from .. import configuration, db, listing, services
from ..access import Action, Caller
from ..completions import CUSTOM, Endpoint
from ..configuration import Configuration
from ..exceptions import NotFound
from ..generation import supervisor
from ..models import Generation
from ..problems import describe
from . import serializers as s
from .base import ApiView, ApiViewSet
from .gate import Deferred, json_response


def caller_of(request: Request) -> Caller:
    """Return who calls, as ``CallerAuthentication`` found."""
    caller = request.user
    assert isinstance(caller, Caller)
    return caller


def validated(serializer_class: type[Serializer[Any]], data: Any) -> dict[str, Any]:
    """Return ``data`` as the serializer takes it, or raise its errors by field."""
    valid: dict[str, Any] = _validator(serializer_class, translation.get_language()).run_validation(data)
    return valid


@cache
def _validator(serializer_class: type[Serializer[Any]], _language: str | None) -> Serializer[Any]:
    """Return the one serializer that validates: a new one each time would copy all its fields (0.3 ms).

    One for each language: the framework keeps a message in the language in which it was first asked for.
    """
    return serializer_class()


def session_id_of(text: str) -> uuid.UUID:
    """Parse an id of a path; a malformed one is ``NotFound`` like any unknown one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound() from None


def request_example(body: dict[str, Any]) -> OpenApiExample:
    """Return a body that the documentation shows."""
    return OpenApiExample("A request", body, request_only=True)


def one(serializer_class: type[Serializer[Any]]) -> Any:
    """Return the answer of a call named `list` that is one object, which holds the list."""
    return forced_singular_serializer(serializer_class)  # type: ignore[no-untyped-call]


SESSION_ID = OpenApiParameter("session_id", uuid.UUID, OpenApiParameter.PATH)
GENERATION_ID = OpenApiParameter("generation_id", uuid.UUID, OpenApiParameter.PATH)


class ConversationViewSet(ApiViewSet):
    """Conversations and their messages."""

    @extend_schema(parameters=[s.ListQuerySerializer], responses=one(s.ConversationListSerializer))
    def list(self, request: Request) -> Response:
        """List conversations, newest activity first; archived ones only with `archived=true`."""
        query = validated(s.ListQuerySerializer, request.query_params.dict())
        page = listing.list_conversations(
            caller=caller_of(request).labelled(query.get("user_id")),
            search=query.get("search", ""),
            archived=query["archived"],
            limit=query["limit"],
            cursor=query.get("cursor"),
        )
        url = request.build_absolute_uri()
        following = replace_query_param(url, "cursor", page.next_cursor) if page.next_cursor else None
        items = s.ConversationListItemSerializer(page.conversations, many=True).data
        return Response({"conversations": items, "next": following})

    @extend_schema(
        request=s.ConversationCreateSerializer,
        responses={201: s.ConversationCreatedSerializer},
        examples=[request_example({"title": "Poems", "system_prompt": "Answer in verse."})],
    )
    def create(self, request: Request) -> Response:
        """Create a conversation; the body may be empty."""
        data = validated(s.ConversationCreateSerializer, request.data)
        caller = caller_of(request).labelled(data.pop("user_id", None))
        conversation = services.create_conversation(caller=caller, **data)
        location = reverse("conversations:conversation", args=[conversation.session_id])
        body = {"session_id": str(conversation.session_id), "message": _("Conversation created.")}
        return Response(body, status=201, headers={"Location": location})

    @extend_schema(parameters=[SESSION_ID], responses=s.ConversationSerializer)
    def retrieve(self, request: Request, session_id: str) -> Response:
        """Show a conversation, and the answer that is being made in it."""
        conversation = services.get_conversation(caller=caller_of(request), session_id=session_id_of(session_id))
        return Response(s.ConversationSerializer(conversation).data)

    @extend_schema(parameters=[SESSION_ID], request=s.ConversationUpdateSerializer, responses=s.ConversationSerializer)
    def partial_update(self, request: Request, session_id: str) -> Response:
        """Rename, pin, archive, or set what the model is told and which one answers."""
        changes = validated(s.ConversationUpdateSerializer, request.data)
        conversation = services.update_conversation(
            caller=caller_of(request), session_id=session_id_of(session_id), changes=changes
        )
        return Response(s.ConversationSerializer(conversation).data)

    @extend_schema(parameters=[SESSION_ID], responses={200: s.ConversationCreatedSerializer})
    def destroy(self, request: Request, session_id: str) -> HttpResponseBase:
        """Delete a conversation; an answer that is being made is stopped first."""
        caller, key = caller_of(request), session_id_of(session_id)
        running = services.running_generation(caller=caller, session_id=key)

        async def resolve() -> HttpResponseBase:
            if running:
                await supervisor.current().stop(running)
            await db.write(services.delete_conversation, caller=caller, session_id=key)
            return json_response({"session_id": str(key), "message": _("Conversation deleted.")})

        return Deferred(resolve)

    @extend_schema(parameters=[SESSION_ID], responses=s.HistorySerializer)
    def history(self, request: Request, session_id: str) -> Response:
        """Show the messages of the active branch, oldest first."""
        conversation = services.get_conversation(caller=caller_of(request), session_id=session_id_of(session_id))
        messages = list(services.branch(conversation.active_leaf_id, conversation))
        items = s.MessageSerializer(messages[::-1], many=True).data
        return Response({"session_id": str(conversation.session_id), "messages": items})


class GenerationViewSet(ApiViewSet):
    """The making of an answer."""

    @extend_schema(parameters=[GENERATION_ID], responses=s.GenerationSerializer)
    def retrieve(self, request: Request, generation_id: str) -> Response:
        """Show how far an answer is, or how it ended."""
        return Response(generation_state(caller_of(request), session_id_of(generation_id), Action.READ))

    @extend_schema(parameters=[GENERATION_ID], request=None, responses=s.GenerationSerializer)
    def stop(self, request: Request, generation_id: str) -> HttpResponseBase:
        """Stop an answer and keep its text; returns once that is stored. Idempotent."""
        caller, key = caller_of(request), session_id_of(generation_id)
        services.get_generation(caller=caller, generation_id=key, action=Action.STOP)

        async def resolve() -> HttpResponseBase:
            await supervisor.current().stop(key)
            return json_response(await db.read(generation_state, caller, key, Action.STOP))

        return Deferred(resolve)


def generation_state(caller: Caller, generation_id: uuid.UUID, action: Action) -> dict[str, Any]:
    """Return the state of an answer as the API shows it; raises ``NotFound``."""
    generation = services.get_generation(caller=caller, generation_id=generation_id, action=action)
    failed = generation.status == Generation.Status.FAILED
    return {
        "generation_id": str(generation.pk),
        "session_id": str(generation.message.conversation.session_id),
        "message_id": generation.message_id,
        "status": generation.status,
        "position": generation.position,
        "finish_reason": generation.finish_reason or None,
        "usage": generation.usage,
        "error": {
            "code": generation.error_code,
            "message": describe(generation.error_code, generation.error_message),
        }
        if failed
        else None,
    }


class ConfigView(ApiView):
    """Which model answers."""

    @extend_schema(parameters=[s.UserQuerySerializer], responses=s.ConfigSerializer)
    def get(self, request: Request) -> Response:
        """Show what would answer now, and what else there is. The key is masked."""
        query = validated(s.UserQuerySerializer, request.query_params)
        config = configuration.get_configuration(caller=caller_of(request), user_id=query.get("user_id"))
        return Response(shown(config))

    @extend_schema(
        request=s.ConfigUpdateSerializer,
        responses=s.ConfigSerializer,
        examples=[request_example({"model_type": "default", "max_tokens": 1000})],
    )
    def post(self, request: Request) -> Response:
        """Choose a model, or set an endpoint of one's own with `model_type: "custom"`."""
        changes = validated(s.ConfigUpdateSerializer, request.data)
        config = configuration.update_configuration(
            caller=caller_of(request),
            user_id=changes.pop("user_id", None),
            model_type=changes.pop("model_type"),
            changes=changes,
        )
        return Response(shown(config))


def shown(config: Configuration) -> dict[str, Any]:
    """Return the settings as the API shows them."""
    return {
        "llm_api_url": _shown_url(config.endpoint),
        "llm_model": config.endpoint.model,
        "llm_api_key": config.endpoint.api_key,
        "preset_models": [
            {"type": item.model_type, "name": item.name, "llm_api_url": _shown_url(item), "llm_model": item.model}
            for item in config.presets
        ],
        "current_model_type": config.endpoint.model_type,
        "max_tokens": config.max_tokens,
    }


def _shown_url(endpoint: Endpoint) -> str:
    """Return a person's own URL whole, the operator's without what may hold a key: user name and query."""
    if endpoint.model_type == CUSTOM:
        return endpoint.api_url
    parts = urlsplit(endpoint.api_url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

"""Conversations, and the messages of their active branch."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from .. import services
from ..database import db
from ..engine import engines
from ..services import listing
from ..web import serializers as s
from ..web.base import ApiViewSet
from ..web.calls import SESSION_ID, caller_of, one, request_example, uuid_of, validated
from ..web.fields import TimeField
from ..web.gate import Deferred, json_response
from ..web.queries import DeleteQuerySerializer, ListQuerySerializer


class ConversationViewSet(ApiViewSet):
    """Conversations and their messages."""

    @extend_schema(parameters=[ListQuerySerializer], responses=one(s.ConversationListSerializer))
    def list(self, request: Request) -> Response:
        """List conversations, newest activity first; archived ones only with `archived=true`."""
        query = validated(ListQuerySerializer, request.query_params.dict())
        page = listing.list_conversations(
            caller=caller_of(request).labelled(query.get("user_id")),
            search=query.get("search", ""),
            archived=query["archived"],
            pinned=query.get("pinned"),
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
        conversation = services.get_conversation(caller=caller_of(request), session_id=uuid_of(session_id))
        return Response(s.ConversationSerializer(conversation).data)

    @extend_schema(parameters=[SESSION_ID], request=s.ConversationUpdateSerializer, responses=s.ConversationSerializer)
    def partial_update(self, request: Request, session_id: str) -> Response:
        """Rename, pin, archive, or set what the model is told and which one answers."""
        changes = validated(s.ConversationUpdateSerializer, request.data)
        conversation = services.update_conversation(
            caller=caller_of(request), session_id=uuid_of(session_id), changes=changes
        )
        return Response(s.ConversationSerializer(conversation).data)

    @extend_schema(parameters=[SESSION_ID, DeleteQuerySerializer], responses={200: s.ConversationDeletedSerializer})
    def destroy(self, request: Request, session_id: str) -> HttpResponseBase:
        """Delete a conversation, with `undo` in so many seconds; an answer that is being made is stopped first."""
        undo = validated(DeleteQuerySerializer, request.query_params.dict()).get("undo")
        caller, key = caller_of(request), uuid_of(session_id)
        running = services.running_generation(caller=caller, session_id=key)

        async def resolve() -> HttpResponseBase:
            if running:
                await engines.current().stop(running)
            body = {"session_id": str(key), "message": _("Conversation deleted.")}
            if undo is None:
                ended = await db.write(services.delete_conversation, caller=caller, session_id=key)
            else:
                hidden = await db.write(services.hide_conversation, caller=caller, session_id=key, seconds=undo)
                ended = hidden.ended
                body["restorable_until"] = TimeField().to_representation(hidden.until)
            engines.current().tell_of_ends(ended)
            return json_response(body)

        return Deferred(resolve)

    @extend_schema(parameters=[SESSION_ID], request=None, responses=s.ConversationSerializer)
    def restore(self, request: Request, session_id: str) -> Response:
        """Bring a conversation back that was deleted with `undo`, in time."""
        conversation = services.restore_conversation(caller=caller_of(request), session_id=uuid_of(session_id))
        return Response(s.ConversationSerializer(conversation).data)

    @extend_schema(parameters=[SESSION_ID], responses=s.HistorySerializer)
    def history(self, request: Request, session_id: str) -> Response:
        """Show the messages of the active branch, oldest first.

        An answer that is `running` has no `content` and `reasoning` here yet: its text comes with its stream.
        """
        conversation = services.get_conversation(caller=caller_of(request), session_id=uuid_of(session_id))
        items = s.MessageSerializer(services.history(conversation), many=True).data
        return Response({"session_id": str(conversation.session_id), "messages": items})

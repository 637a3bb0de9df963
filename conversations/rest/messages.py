"""The messages of a conversation over all its branches."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from .. import services
from ..database import db
from ..engine import engines
from ..web import serializers as s
from ..web.base import ApiViewSet
from ..web.calls import SESSION_ID, caller_of, one, uuid_of, validated
from ..web.gate import Deferred, json_response
from ..web.queries import MessagesQuerySerializer


class MessageViewSet(ApiViewSet):
    """Messages of all branches."""

    @extend_schema(parameters=[SESSION_ID, MessagesQuerySerializer], responses=one(s.MessagePageSerializer))
    def list(self, request: Request, session_id: str) -> Response:
        """List the messages of all branches, oldest first; with `leaf` the newest of one branch."""
        conversation = services.get_conversation(caller=caller_of(request), session_id=uuid_of(session_id))
        query = validated(MessagesQuerySerializer, request.query_params.dict())
        page = services.list_messages(
            conversation=conversation,
            leaf_id=query.get("leaf"),
            cursor=query.get("cursor"),
            limit=query["limit"],
        )
        url = request.build_absolute_uri()
        above = remove_query_param(url, "cursor")
        return Response(
            {
                "session_id": str(conversation.session_id),
                "messages": s.MessageSerializer(page.messages, many=True).data,
                "next": replace_query_param(url, "cursor", page.next_cursor) if page.next_cursor else None,
                "before": replace_query_param(above, "leaf", str(page.before_leaf)) if page.before_leaf else None,
            }
        )

    @extend_schema(
        parameters=[OpenApiParameter("message_id", int, OpenApiParameter.PATH)],
        responses={200: s.MessageDeletedSerializer},
    )
    def destroy(self, request: Request, message_id: int) -> HttpResponseBase:
        """Delete a message and all below it; an answer that is being made there is stopped first."""
        caller = caller_of(request)
        running = services.running_below(caller=caller, message_id=message_id)

        async def resolve() -> HttpResponseBase:
            if running:
                await engines.current().stop(running)
            gone = await db.write(services.delete_message, caller=caller, message_id=message_id)
            engines.current().tell_of_ends(gone.ended)
            body = {
                "session_id": str(gone.session_id),
                "message_id": gone.message_id,
                "active_leaf": gone.active_leaf_id,
                "message": _("Message deleted."),
            }
            return json_response(body)

        return Deferred(resolve)

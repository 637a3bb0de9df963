"""Search."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from ..services.search import Found, Said, Search, search
from ..web import serializers as s
from ..web.base import ApiView
from ..web.calls import caller_of, one, validated
from ..web.fields import TimeField
from ..web.queries import SearchQuerySerializer


class SearchView(ApiView):
    """Conversations are found by their titles, and by what was said in them."""

    @extend_schema(parameters=[SearchQuerySerializer], responses=one(s.FoundPageSerializer))
    def get(self, request: Request) -> Response:
        """Find conversations, newest activity first, with what was found in each."""
        query = validated(SearchQuerySerializer, request.query_params.dict())
        places = query.get("in") or ("titles", "messages")
        page = search(
            caller=caller_of(request).labelled(query.get("user_id")),
            search=Search(
                query=Search.words(query["q"]),
                in_titles="titles" in places,
                in_messages="messages" in places,
                model_type=query.get("model_type", ""),
                since=query.get("from"),
                until=query.get("to"),
                archived=query.get("archived"),
            ),
            limit=query["limit"],
            cursor=query.get("cursor"),
        )
        url = request.build_absolute_uri()
        following = replace_query_param(url, "cursor", page.next_cursor) if page.next_cursor else None
        return Response({"conversations": [shown(found) for found in page.found], "next": following})


def shown(found: Found) -> dict[str, Any]:
    """Return what was found as the API shows it."""
    item = s.ConversationListItemSerializer(found.conversation).data
    return {
        **item,
        "is_archived": found.conversation.is_archived,
        "title_highlights": found.title_highlights,
        "snippets": [_snippet(said) for said in found.said],
    }


def _snippet(said: Said) -> dict[str, Any]:
    message, (text, offset, highlights) = said
    return {
        "message_id": message.pk,
        "role": message.role,
        "created_at": TimeField().to_representation(message.created_at),
        "text": text,
        "offset": offset,
        "highlights": highlights,
    }

"""What is new in the caller's conversations, as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request

from ..access.rules import Action, Caller, authorize
from ..exceptions import NotAuthenticated
from ..web.base import ApiView
from ..web.calls import caller_of, validated
from ..web.feed import watched
from ..web.gate import Deferred
from ..web.queries import UserQuerySerializer
from ..web.schema import FEED
from ..web.sse import PING, RETRY, STREAM_HEADERS, ClosingStream, data_of, nothing


class EventsView(ApiView):
    """What is new."""

    @extend_schema(
        parameters=[UserQuerySerializer],
        responses={(200, "text/event-stream"): OpenApiResponse(FEED, description="The events of the feed.")},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Watch one's conversations: what is new in them, to each tab and device. After `resync` list them again."""
        query = validated(UserQuerySerializer, request.query_params.dict())
        caller = caller_of(request)
        authorize(caller, Action.LIST)
        caller = caller.labelled(query.get("user_id"))

        async def resolve() -> HttpResponseBase:
            return ClosingStream(_encoded(caller), headers=STREAM_HEADERS)

        if request.method == "HEAD":
            return StreamingHttpResponse(nothing(), headers=STREAM_HEADERS)
        return Deferred(resolve)


async def _encoded(caller: Caller) -> AsyncGenerator[bytes, None]:
    yield RETRY
    try:
        async with aclosing(watched(caller)) as batches:
            async for events in batches:
                yield b"".join(data_of(event) for event in events) or PING
    except NotAuthenticated as refusal:
        yield data_of({"error": {"code": refusal.code, "message": str(refusal)}})

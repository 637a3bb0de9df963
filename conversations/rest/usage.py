"""What was used, and what people think of answers."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from ..services import feedback
from ..services.usage import get_usage
from ..web import serializers as s
from ..web.base import ApiView
from ..web.calls import caller_of, one, request_example, validated
from ..web.gate import no_content
from ..web.queries import UsageQuerySerializer
from ..web.serializers.usage import usage_row

MESSAGE_ID = OpenApiParameter("message_id", int, OpenApiParameter.PATH)


class UsageView(ApiView):
    """The caller's own usage."""

    @extend_schema(parameters=[UsageQuerySerializer], responses=one(s.UsageReportSerializer))
    def get(self, request: Request) -> Response:
        """Show what the caller used, by day and model; what was estimated is told apart."""
        query = validated(UsageQuerySerializer, request.query_params.dict())
        caller = caller_of(request).labelled(query.get("user_id"))
        report = get_usage(caller=caller, first=query["from"], last=query["to"], by=query["by"])
        return Response({"usage": [usage_row(row) for row in report.rows], "total": usage_row(report.total)})


class FeedbackView(ApiView):
    """What the caller thinks of an answer."""

    @extend_schema(
        parameters=[MESSAGE_ID],
        request=s.FeedbackSerializer,
        responses=s.FeedbackSerializer,
        examples=[request_example({"rating": 1, "text": "Just what I needed.", "tags": ["helpful"]})],
    )
    def put(self, request: Request, message_id: int) -> Response:
        """Rate an answer, in place of an earlier rating."""
        data = validated(s.FeedbackSerializer, request.data)
        given = feedback.give_feedback(caller=caller_of(request), message_id=message_id, **data)
        return Response({"rating": given.rating, "text": given.text, "tags": given.tags})

    @extend_schema(parameters=[MESSAGE_ID], request=None, responses={204: None})
    def delete(self, request: Request, message_id: int) -> HttpResponse:
        """Take a rating back. Idempotent."""
        feedback.withdraw_feedback(caller=caller_of(request), message_id=message_id)
        return no_content()

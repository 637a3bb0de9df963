"""What the caller may use, and has used."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ..access.credentials import Connection
from ..services import quotas
from ..web.base import ApiView
from ..web.calls import caller_of
from ..web.fields import TimeField


class RequestLimitSerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField()
    remaining = serializers.IntegerField()
    resets_in = serializers.IntegerField(help_text="Seconds until there is room for another request.")


class AnswerLimitSerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField()
    running = serializers.IntegerField()


class TokenLimitSerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField()
    spent = serializers.IntegerField(help_text="Answers that run count with the most that they may cost.")
    resets_at = TimeField()


class AttachmentLimitSerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField(allow_null=True, help_text="In bytes.")
    bytes = serializers.IntegerField()
    files_limit = serializers.IntegerField(allow_null=True)
    files = serializers.IntegerField()


class LimitsSerializer(serializers.Serializer[Any]):
    """Null: there is no such limit."""

    requests = RequestLimitSerializer(allow_null=True)
    answers = AnswerLimitSerializer(allow_null=True)
    tokens = TokenLimitSerializer(
        allow_null=True, help_text="Of the caller's budgets, their own or a group's, the one that has least left."
    )
    attachments = AttachmentLimitSerializer()


class LimitsView(ApiView):
    """The caller's own limits."""

    @extend_schema(responses=LimitsSerializer)
    def get(self, request: Request) -> Response:
        """Show the caller's limits, and what is left of them."""
        connection = Connection.from_request(request)
        return Response(LimitsSerializer(quotas.quotas_of(caller_of(request), connection)).data)

"""API keys over the API: listed, made and revoked by who they belong to."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ..access import api_keys
from ..exceptions import NotFound
from ..models import ApiKey, Scope
from ..models.api_keys import NAME_LENGTH
from ..web.base import ApiViewSet
from ..web.calls import caller_of, one, request_example, validated
from ..web.fields import TIMES_IN_UTC, IntegerField, StrictSerializer, WordField

# Printable and not only white space.
NAME = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"


@extend_schema_field({"type": "string", "minLength": 1, "maxLength": 100, "pattern": NAME})
class NameField(WordField):
    """Some text, not only white space."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return super().run_validation(data.strip() if isinstance(data, str) else data)


class ApiKeyCreateSerializer(StrictSerializer):
    name = NameField(max_length=NAME_LENGTH, help_text="What the key is for.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        required=False,
        min_length=1,
        max_length=len(Scope),
        help_text="Left out: read, chat and config.",
    )
    expires_in_days = IntegerField(
        required=False, allow_null=True, min_value=1, max_value=api_keys.MAX_DAYS, help_text="Left out: never."
    )


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """What may be shown of a key."""

    serializer_field_mapping = TIMES_IN_UTC
    scopes = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ["id", "name", "hint", "scopes", "created_at", "expires_at", "last_used_at"]

    def get_scopes(self, key: ApiKey) -> list[str]:
        return key.scopes.split()


class ApiKeyListSerializer(serializers.Serializer[Any]):
    keys = ApiKeySerializer(many=True)


class ApiKeyCreatedSerializer(ApiKeySerializer):
    """A new key: ``key`` is shown this once."""

    key = serializers.CharField()

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]


class ApiKeyRevokedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    message = serializers.CharField()


class ApiKeyViewSet(ApiViewSet):
    """The caller's own API keys. A key may do this only with the scope `keys`."""

    @extend_schema(responses=one(ApiKeyListSerializer))
    def list(self, request: Request) -> Response:
        """List the keys that are not revoked, newest first. The keys themselves are shown to nobody."""
        keys = api_keys.list_keys(caller=caller_of(request))
        return Response({"keys": ApiKeySerializer(keys, many=True).data})

    @extend_schema(
        request=ApiKeyCreateSerializer,
        responses={201: ApiKeyCreatedSerializer},
        examples=[request_example({"name": "laptop", "scopes": ["read", "chat"], "expires_in_days": 90})],
    )
    def create(self, request: Request) -> Response:
        """Make a key. It is in this answer and nowhere else: keep it."""
        data = validated(ApiKeyCreateSerializer, request.data)
        key, token = api_keys.create_key(
            caller=caller_of(request),
            name=data["name"],
            scopes=data.get("scopes"),
            expires_at=api_keys.in_days(data.get("expires_in_days")),
        )
        return Response({**ApiKeySerializer(key).data, "key": token}, status=201)

    @extend_schema(
        parameters=[OpenApiParameter("key_id", int, OpenApiParameter.PATH)], responses={200: ApiKeyRevokedSerializer}
    )
    def destroy(self, request: Request, key_id: str) -> Response:
        """Revoke a key: it lets in nobody any more, from the next call on."""
        number = key_id_of(key_id)
        api_keys.revoke_key(caller=caller_of(request), key_id=number)
        return Response({"id": number, "message": _("API key revoked.")})


def key_id_of(text: str) -> int:
    """Parse an id of a path; a malformed one is ``NotFound`` like any unknown one."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotFound()
    return int(text)

"""What attachments look like."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ...models import Attachment
from ..fields import StrictSerializer, user_id_field


@extend_schema_field(OpenApiTypes.BINARY)
class ContentField(serializers.Field[bytes, bytes, bytes, bytes]):
    """The bytes of a file, as ``UploadParser`` gives them."""

    def to_internal_value(self, data: bytes) -> bytes:
        return data


class AttachmentCreateSerializer(StrictSerializer):
    """A form with one image."""

    file = ContentField(help_text="A PNG, JPEG, WebP or GIF; of an animation the first frame is kept.")
    user_id = user_id_field()


class AttachmentSerializer(serializers.Serializer[Any]):
    """An image as it is kept: upright, made smaller where it was large, without metadata."""

    id = serializers.UUIDField()
    content_type = serializers.CharField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    bytes = serializers.IntegerField()
    url = serializers.CharField(help_text="The path under which its owner gets it.")


def shown(attachment: Attachment) -> dict[str, Any]:
    """Return what is told of an attachment; for a database thread, which knows the path prefix."""
    return {
        "id": str(attachment.pk),
        "content_type": attachment.content_type,
        "width": attachment.width,
        "height": attachment.height,
        "bytes": attachment.size,
        "url": reverse("conversations:attachment", args=[attachment.pk]),
    }

"""Conversations: what is asked of them, and how they are shown."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ... import conf
from ...models import TITLE_LENGTH, Conversation, Generation
from ..fields import (
    LINE_PATTERN,
    TIMES_IN_UTC,
    BooleanField,
    IntegerField,
    LineField,
    StrictSerializer,
    TextField,
    TimeField,
    model_type_field,
    user_id_field,
)


@extend_schema_field({"type": "string", "maxLength": conf.Settings().MAX_SYSTEM_PROMPT_LENGTH})
class SystemPromptField(TextField):
    def run_validation(self, data: Any = serializers.empty) -> Any:
        limit = conf.get().MAX_SYSTEM_PROMPT_LENGTH
        if isinstance(data, str) and len(data) > limit:
            raise serializers.ValidationError(_("At most %(limit)d characters.") % {"limit": limit}, "max_length")
        return super().run_validation(data)


@extend_schema_field({"type": "string", "maxLength": TITLE_LENGTH, "pattern": LINE_PATTERN})
class TitleField(LineField):
    """What a person calls a conversation."""


def title_field() -> TitleField:
    return TitleField(required=False, allow_blank=True, max_length=TITLE_LENGTH)


def temporary_field() -> BooleanField:
    return BooleanField(
        required=False, help_text="Never listed, found or named, and deleted some time after its last activity."
    )


class ConversationCreateSerializer(StrictSerializer):
    title = title_field()
    system_prompt = SystemPromptField(required=False, allow_blank=True)
    model_type = model_type_field(required=False, allow_blank=True)
    temporary = temporary_field()
    user_id = user_id_field()


class ConversationUpdateSerializer(StrictSerializer):
    title = title_field()
    system_prompt = SystemPromptField(required=False, allow_blank=True)
    model_type = model_type_field(required=False, allow_blank=True)
    is_pinned = BooleanField(required=False)
    is_archived = BooleanField(required=False)
    active_leaf = IntegerField(
        required=False,
        min_value=0,
        max_value=2**63 - 1,
        help_text="A message: the branch through it, to the newest one below it, is shown.",
    )


class ConversationCreatedSerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    message = serializers.CharField()


class ConversationDeletedSerializer(ConversationCreatedSerializer):
    restorable_until = TimeField(required=False, help_text="With `undo`: until when it can be brought back.")


class ConversationListItemSerializer(serializers.ModelSerializer[Conversation]):
    serializer_field_mapping = TIMES_IN_UTC

    class Meta:
        model = Conversation
        fields = ["session_id", "title", "created_at", "updated_at", "message_count", "is_pinned"]


class ConversationListSerializer(serializers.Serializer[Any]):
    conversations = ConversationListItemSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    serializer_field_mapping = TIMES_IN_UTC
    active_leaf = serializers.IntegerField(
        source="active_leaf_id", allow_null=True, help_text="The last message of the branch that is shown."
    )
    generation_id = serializers.SerializerMethodField(help_text="The answer that is being made, or null.")

    class Meta:
        model = Conversation
        fields = [
            "session_id",
            "title",
            "system_prompt",
            "model_type",
            "is_pinned",
            "is_archived",
            "created_at",
            "updated_at",
            "message_count",
            "active_leaf",
            "generation_id",
        ]

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_generation_id(self, conversation: Conversation) -> str | None:
        running = Generation.objects.filter(active_for=conversation).values_list("pk", flat=True).first()
        return str(running) if running else None

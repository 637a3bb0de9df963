"""What the calls take and give. The WebSocket consumer validates its frames with the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .. import completions, conf
from ..keys import validate_users_key
from ..models import Conversation, Generation, Message
from ..services import ReplyOptions
from .fields import (
    VISIBLE,
    BooleanField,
    KeyField,
    ModelNameField,
    SessionIdField,
    StrictSerializer,
    TextField,
    max_tokens_field,
    model_type_field,
    temperature_field,
    user_id_field,
)

TITLE_LENGTH = 200


@extend_schema_field(
    {"type": "string", "minLength": 1, "maxLength": conf.Settings().MAX_MESSAGE_LENGTH, "pattern": VISIBLE}
)
class MessageField(TextField):
    """What a user says: some text, not only white space."""

    default_error_messages = {"blank": _("The message is empty.")}

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str):
            if len(data) > (limit := conf.get().MAX_MESSAGE_LENGTH):
                raise serializers.ValidationError(_("At most %(limit)d characters.") % {"limit": limit}, "max_length")
            if not data.strip():
                self.fail("blank")
        return super().run_validation(data)


@extend_schema_field({"type": "string", "maxLength": conf.Settings().MAX_SYSTEM_PROMPT_LENGTH})
class SystemPromptField(TextField):
    def run_validation(self, data: Any = serializers.empty) -> Any:
        limit = conf.get().MAX_SYSTEM_PROMPT_LENGTH
        if isinstance(data, str) and len(data) > limit:
            raise serializers.ValidationError(_("At most %(limit)d characters.") % {"limit": limit}, "max_length")
        return super().run_validation(data)


def title_field() -> TextField:
    return TextField(required=False, allow_blank=True, max_length=TITLE_LENGTH)


class ReplyOptionsSerializer(StrictSerializer):
    """How an answer is to be made; what is left out is decided by the conversation, the user and the preset."""

    model_type = model_type_field(required=False, allow_null=True, allow_blank=True)
    temperature = temperature_field()
    max_tokens = max_tokens_field()
    stream = BooleanField(default=True, help_text="false: one JSON answer when it is whole; true: SSE.")


def options_of(data: Mapping[str, Any]) -> ReplyOptions:
    """Return how the answer is to be made that ``data``, which is valid, asks for."""
    return ReplyOptions(
        model_type=data.get("model_type") or "",
        temperature=data.get("temperature"),
        max_tokens=data.get("max_tokens"),
    )


class ChatSerializer(ReplyOptionsSerializer):
    """`POST /chat` and the socket's `chat` frame."""

    user_id = user_id_field()
    session_id = SessionIdField(required=False, allow_null=True, help_text="Left out: a new conversation.")
    message = MessageField()


class RegenerateSerializer(ReplyOptionsSerializer):
    """`POST /messages/{id}/regenerate`."""


class ConversationCreateSerializer(StrictSerializer):
    title = title_field()
    system_prompt = SystemPromptField(required=False, allow_blank=True)
    model_type = model_type_field(required=False, allow_blank=True)
    user_id = user_id_field()


class ConversationUpdateSerializer(StrictSerializer):
    title = title_field()
    system_prompt = SystemPromptField(required=False, allow_blank=True)
    model_type = model_type_field(required=False, allow_blank=True)
    is_pinned = BooleanField(required=False)
    is_archived = BooleanField(required=False)


class ConversationCreatedSerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    message = serializers.CharField()


class ConversationListItemSerializer(serializers.ModelSerializer[Conversation]):
    class Meta:
        model = Conversation
        fields = ["session_id", "title", "created_at", "updated_at", "message_count"]


class ConversationListSerializer(serializers.Serializer[Any]):
    conversations = ConversationListItemSerializer(many=True)
    next = serializers.URLField(allow_null=True)


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
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
            "generation_id",
        ]

    def get_generation_id(self, conversation: Conversation) -> str | None:
        running = Generation.objects.filter(active_for=conversation).values_list("pk", flat=True).first()
        return str(running) if running else None


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class MessageSerializer(serializers.ModelSerializer[Message]):
    """A message of the history; status, finish_reason and usage are those of its generation."""

    status = serializers.SerializerMethodField()
    finish_reason = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    generation_id = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = [
            "role",
            "content",
            "reasoning",
            "id",
            "status",
            "created_at",
            "model",
            "model_type",
            "finish_reason",
            "usage",
            "generation_id",
        ]

    def get_status(self, message: Message) -> str:
        generation = generation_of(message)
        return generation.status if generation else Generation.Status.COMPLETED

    def get_finish_reason(self, message: Message) -> str | None:
        generation = generation_of(message)
        return (generation.finish_reason or None) if generation else None

    def get_usage(self, message: Message) -> dict[str, int] | None:
        generation = generation_of(message)
        return generation.usage if generation else None

    def get_generation_id(self, message: Message) -> str | None:
        generation = generation_of(message)
        return str(generation.pk) if generation else None


def generation_of(message: Message) -> Generation | None:
    """Return a message's generation, None for a user's (select_related makes this free)."""
    return getattr(message, "generation", None)


class HistorySerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    messages = MessageSerializer(many=True)


class ReplySerializer(serializers.Serializer[Any]):
    """A whole answer: `POST /chat` with `"stream": false`."""

    session_id = serializers.UUIDField()
    user_message = serializers.CharField()
    assistant_reply = serializers.CharField()
    message_id = serializers.IntegerField()
    generation_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["completed", "stopped"])
    finish_reason = serializers.CharField(allow_null=True)
    usage = UsageSerializer(allow_null=True)


class AnswerErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class GenerationSerializer(serializers.Serializer[Any]):
    """The state of an answer."""

    generation_id = serializers.UUIDField()
    session_id = serializers.UUIDField()
    message_id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Generation.Status.choices)
    position = serializers.IntegerField()
    finish_reason = serializers.CharField(allow_null=True)
    usage = UsageSerializer(allow_null=True)
    error = AnswerErrorSerializer(allow_null=True)


class PresetSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    name = serializers.CharField()
    llm_api_url = serializers.CharField()
    llm_model = serializers.CharField()


class ConfigSerializer(serializers.Serializer[Any]):
    """What would answer now. The key is masked, always."""

    llm_api_url = serializers.CharField()
    llm_model = serializers.CharField()
    llm_api_key = serializers.CharField()
    preset_models = PresetSerializer(many=True)
    current_model_type = serializers.CharField()
    max_tokens = serializers.IntegerField()


class ConfigUpdateSerializer(StrictSerializer):
    """An absent field stays as it is; `""` clears it; a new URL without a new key clears the key."""

    user_id = user_id_field()
    model_type = model_type_field()
    max_tokens = max_tokens_field()
    custom_api_url = TextField(required=False, allow_blank=True, max_length=2000)
    custom_model = ModelNameField(required=False, allow_blank=True, max_length=completions.MAX_MODEL_CHARS)
    custom_api_key = KeyField(required=False, allow_blank=True, max_length=512)

    def validate_custom_api_url(self, value: str) -> str:
        return _checked(completions.validate_url, value)

    def validate_custom_model(self, value: str) -> str:
        return _checked(completions.validate_model_name, value)

    def validate_custom_api_key(self, value: str) -> str:
        return _checked(validate_users_key, value)


def _checked(validate: Any, value: str) -> str:
    try:
        return str(validate(value)) if value else value
    except completions.InvalidEndpoint as error:
        raise serializers.ValidationError(error.message) from error


class UserQuerySerializer(serializers.Serializer[Any]):
    """Whose model settings, in a query."""

    user_id = user_id_field(in_query=True)


class ListQuerySerializer(UserQuerySerializer):
    """The query of `GET /conversations`: text as it comes in a URL."""

    search = serializers.CharField(required=False, allow_blank=True, max_length=TITLE_LENGTH)
    archived = serializers.BooleanField(default=False)
    limit = serializers.IntegerField(default=500, min_value=1, max_value=500)
    cursor = serializers.CharField(required=False, allow_blank=True, max_length=200)

"""Answers: how they are asked for, whole ones, and their state."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ... import conf
from ...engine.producer import ReplyOptions
from ...exceptions import UnknownAttachment
from ...models import Generation
from ..calls import SAID
from ..fields import (
    VISIBLE,
    BooleanField,
    IntegerField,
    SessionIdField,
    TextField,
    WordField,
    max_tokens_field,
    model_type_field,
    temperature_field,
    user_id_field,
)
from .conversations import temporary_field
from .messages import UsageSerializer
from .tools import MOST_RESULTS, ToolCallSerializer, ToolResultSerializer, ToolsSerializer, tools_of

# Of one message.
MOST_ATTACHMENTS = 10


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


@extend_schema_field({"type": "string", "format": "uuid"})
class AttachmentIdField(WordField):
    """The id of an attachment; a malformed one is as unknown as any other."""

    def to_internal_value(self, data: Any) -> Any:
        text = super().to_internal_value(data)
        try:
            return uuid.UUID(text)
        except ValueError:
            raise UnknownAttachment(errors={"attachments": [UnknownAttachment.detail]}) from None


class ReplyOptionsSerializer(ToolsSerializer):
    """How an answer is to be made; what is left out is decided by the conversation, the user and the preset."""

    model_type = model_type_field(required=False, allow_null=True, allow_blank=True)
    temperature = temperature_field()
    max_tokens = max_tokens_field()
    stream = BooleanField(
        required=False,
        help_text="true: SSE; false: one JSON answer when it is whole. Left out: SSE, unless `Accept` names JSON and"
        " neither `text/event-stream` nor `*/*`.",
    )


def options_of(data: Mapping[str, Any]) -> ReplyOptions:
    """Return how the answer is to be made that ``data``, which is valid, asks for."""
    return ReplyOptions(
        model_type=data.get("model_type") or "",
        temperature=data.get("temperature"),
        max_tokens=data.get("max_tokens"),
        tools=tools_of(data),
        params={name: data[name] for name in ("tool_choice", "parallel_tool_calls") if data.get(name) is not None},
    )


class ChatSerializer(ReplyOptionsSerializer):
    """`POST /chat` and the socket's `chat` frame."""

    user_id = user_id_field()
    session_id = SessionIdField(required=False, allow_null=True, help_text="Left out: a new conversation.")
    message = MessageField(required=False)
    tool_results = serializers.ListField(
        child=ToolResultSerializer(),
        required=False,
        min_length=1,
        max_length=MOST_RESULTS,
        help_text="Instead of a message: what came of the calls that the answer before asked for.",
    )
    attachments = serializers.ListField(
        child=AttachmentIdField(),
        required=False,
        max_length=MOST_ATTACHMENTS,
        help_text="Images that the message shows, with or without text: ids of `POST /attachments`.",
    )
    temporary = temporary_field()
    parent_id = IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=2**63 - 1,
        help_text="The answer after which it is said; null: at the begin. Left out: at the end of the active branch.",
    )

    def to_internal_value(self, data: Any) -> Any:
        try:
            return super().to_internal_value(data)
        except serializers.ValidationError as error:
            # What is missing is told together with what is wrong.
            wrong: Any = error.detail
            if SAID.intersection(data) or not self.fields.keys() >= wrong.keys():
                raise
            raise serializers.ValidationError({**wrong, "message": [self.error_messages["required"]]}) from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not any(attrs.get(name) for name in SAID):
            raise serializers.ValidationError({"message": [self.error_messages["required"]]})
        if (attrs.get("attachments") or "message" in attrs) and "tool_results" in attrs:
            raise serializers.ValidationError({"tool_results": [_("Send a message or results of tools, not both.")]})
        return super().validate(attrs)


class RegenerateSerializer(ReplyOptionsSerializer):
    """`POST /messages/{id}/regenerate`."""


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
    tool_calls = ToolCallSerializer(many=True, required=False)


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

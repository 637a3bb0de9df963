"""Messages of the tree, as they are shown."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ...models import FEEDBACK_LENGTH, MOST_SIBLINGS, Generation, Message, whole_parts
from ..fields import LINE_PATTERN, TIMES_IN_UTC, IntegerField, LineField, StrictSerializer, TextField, TimeField
from ..schema.components import reference

# Of one answer's feedback.
MOST_TAGS, TAG_LENGTH = 10, 50


@extend_schema_field({"type": "integer", "enum": [1, -1]})
class RatingField(IntegerField):
    """1 or -1."""

    default_error_messages = {"choice": _("Give 1 (good) or -1 (bad).")}

    def to_internal_value(self, data: Any) -> int:
        rating = super().to_internal_value(data)
        if rating not in (1, -1):
            self.fail("choice")
        return rating


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField(required=False, help_text="Of the completion's, where that was told.")
    cost = serializers.FloatField(required=False, help_text="Where the model has a price, in its currency.")


@extend_schema_field({"type": "string", "maxLength": TAG_LENGTH, "pattern": LINE_PATTERN})
class TagField(LineField):
    """A word of one's own."""


class FeedbackSerializer(StrictSerializer):
    """What is thought of an answer: 1 is good, -1 is bad."""

    rating = RatingField()
    text = TextField(required=False, allow_blank=True, max_length=FEEDBACK_LENGTH)
    tags = serializers.ListField(child=TagField(max_length=TAG_LENGTH), required=False, max_length=MOST_TAGS)


class MessageSerializer(serializers.ModelSerializer[Message]):
    """A message of the history; status, finish_reason and usage are those of its generation."""

    serializer_field_mapping = TIMES_IN_UTC
    status = serializers.SerializerMethodField()
    ended_at = serializers.SerializerMethodField(
        help_text="When an answer ended; null before, and for what users say."
    )
    reasoning_ended_at = serializers.SerializerMethodField(
        help_text="When what the model thought before its answer had ended: that began with `created_at`. null where"
        " it thought nothing, while it runs, and where its process died."
    )
    finish_reason = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    generation_id = serializers.SerializerMethodField()
    feedback = serializers.SerializerMethodField()
    parts = serializers.SerializerMethodField(
        help_text="What content and reasoning cannot say: their order, calls of tools, what came of those, images."
        " null: the reasoning and then the content are all there is."
    )
    parent_id = serializers.IntegerField(allow_null=True)
    sibling_ids = serializers.ListField(
        child=serializers.IntegerField(),
        help_text=f"The messages beside it and itself, oldest first: the nearest {MOST_SIBLINGS} on each side.",
    )

    class Meta:
        model = Message
        fields = [
            "role",
            "content",
            "reasoning",
            "id",
            "status",
            "created_at",
            "ended_at",
            "reasoning_ended_at",
            "model",
            "model_type",
            "finish_reason",
            "usage",
            "generation_id",
            "feedback",
            "parts",
            "parent_id",
            "sibling_ids",
        ]

    @extend_schema_field(serializers.ChoiceField(choices=Generation.Status.choices))
    def get_status(self, message: Message) -> str:
        generation = generation_of(message)
        return generation.status if generation else Generation.Status.COMPLETED

    @extend_schema_field(TimeField(allow_null=True))
    def get_ended_at(self, message: Message) -> str | None:
        return _time_of(message, "ended_at")

    @extend_schema_field(TimeField(allow_null=True))
    def get_reasoning_ended_at(self, message: Message) -> str | None:
        return _time_of(message, "reasoning_ended_at")

    def get_finish_reason(self, message: Message) -> str | None:
        generation = generation_of(message)
        return (generation.finish_reason or None) if generation else None

    @extend_schema_field(UsageSerializer(allow_null=True))
    def get_usage(self, message: Message) -> dict[str, int | float] | None:
        generation = generation_of(message)
        return generation.usage if generation else None

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_generation_id(self, message: Message) -> str | None:
        generation = generation_of(message)
        return str(generation.pk) if generation else None

    @extend_schema_field(FeedbackSerializer(allow_null=True))
    def get_feedback(self, message: Message) -> dict[str, Any] | None:
        feedback = getattr(message, "feedback", None)
        return feedback and {"rating": feedback.rating, "text": feedback.text, "tags": feedback.tags}

    @extend_schema_field({"type": ["array", "null"], "items": reference("MessagePart")})
    def get_parts(self, message: Message) -> list[dict[str, Any]] | None:
        if message.parts is None:
            return None
        # Of those that are shown in a conversation everything is known.
        images = getattr(message, "images", {})
        return [{**part, **images.get(part.get("attachment_id"), {})} for part in whole_parts(message)]


def _time_of(message: Message, name: str) -> str | None:
    moment = getattr(generation_of(message), name, None)
    return moment and TimeField().to_representation(moment)


def generation_of(message: Message) -> Generation | None:
    """Return a message's generation, None for a user's (select_related makes this free)."""
    return getattr(message, "generation", None)


class HistorySerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    messages = MessageSerializer(many=True)


class MessagePageSerializer(HistorySerializer):
    """Messages of all branches, oldest first; with `leaf` the newest of the branch that ends there."""

    next = serializers.URLField(allow_null=True, help_text="The URL of newer messages; null in a branch.")
    before = serializers.URLField(
        allow_null=True, help_text="The URL of what is above in the branch; null at its begin, and without `leaf`."
    )


class MessageDeletedSerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField()
    message_id = serializers.IntegerField()
    active_leaf = serializers.IntegerField(allow_null=True, help_text="The end of the branch that is shown now.")
    message = serializers.CharField()

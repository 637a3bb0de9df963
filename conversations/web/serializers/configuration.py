"""Which model answers, as it is set and shown."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...engine import completions
from ...engine.completions import validate_users_key
from ...models import API_URL_LENGTH
from ..fields import (
    KeyField,
    ModelNameField,
    StrictSerializer,
    TextField,
    max_tokens_field,
    model_type_field,
    user_id_field,
)


class PresetSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    name = serializers.CharField()
    llm_api_url = serializers.CharField()
    llm_model = serializers.CharField()
    is_demo = serializers.BooleanField(help_text="A small model to try things out with, for no real work.")
    takes_images = serializers.BooleanField(allow_null=True, help_text="null: not known.")
    takes_tools = serializers.BooleanField(allow_null=True, help_text="Whether it can ask for tools; null: not known.")
    reasons = serializers.BooleanField(
        allow_null=True, help_text="Whether it thinks before it answers; null: not known."
    )


class ConfigSerializer(serializers.Serializer[Any]):
    """What would answer now. The key is masked, always."""

    llm_api_url = serializers.CharField()
    llm_model = serializers.CharField()
    llm_api_key = serializers.CharField()
    preset_models = PresetSerializer(many=True)
    current_model_type = serializers.CharField()
    max_tokens = serializers.IntegerField()


class EndpointSerializer(StrictSerializer):
    """An endpoint to be tried: what is left out is as saved, the key only for the saved URL."""

    user_id = user_id_field()
    custom_api_url = TextField(required=False, allow_blank=True, max_length=API_URL_LENGTH)
    custom_model = ModelNameField(required=False, allow_blank=True, max_length=completions.MAX_MODEL_CHARS)
    custom_api_key = KeyField(required=False, allow_blank=True, max_length=512)

    def validate_custom_api_url(self, value: str) -> str:
        return _checked(completions.validate_url, value)

    def validate_custom_model(self, value: str) -> str:
        return _checked(completions.validate_model_name, value)

    def validate_custom_api_key(self, value: str) -> str:
        return _checked(validate_users_key, value)


class ConfigUpdateSerializer(EndpointSerializer):
    """An absent field stays as it is; `""` clears it; a new URL without a new key clears the key."""

    model_type = model_type_field()
    max_tokens = max_tokens_field()


class ModelsSerializer(serializers.Serializer[Any]):
    models = serializers.ListField(child=serializers.CharField())


class TrialSerializer(serializers.Serializer[Any]):
    reply = serializers.CharField(help_text="What the model said, or the beginning of it.")
    model = serializers.CharField(help_text="As its server calls it.")
    milliseconds = serializers.IntegerField()


def _checked(validate: Any, value: str) -> str:
    try:
        return str(validate(value)) if value else value
    except completions.InvalidEndpoint as error:
        raise serializers.ValidationError(error.message) from error

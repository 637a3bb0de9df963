"""Tools: what a model may call, as OpenAI's API describes it, and what came of its calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from ... import conf
from ...engine.completions import Tool
from ...services import ToolResult
from ..fields import BooleanField, LineField, StrictSerializer, TextField

MOST_TOOLS, MOST_RESULTS = 128, 128
# Of a function, and of the id of a call (models' servers make longer ones than they take).
NAME_LENGTH, ID_LENGTH = 64, 200
DESCRIPTION_LENGTH = 10_000
# Of all descriptions together, as JSON.
MOST_CHARACTERS = 200_000
NAME_PATTERN = r"^[a-zA-Z0-9_.-]{1,64}$"
CHOICES = ("auto", "none", "required")


class NameField(serializers.RegexField):
    """What a function is called."""

    default_error_messages = {"invalid": _("1 to 64 letters, digits, dots, hyphens and underscores.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(NAME_PATTERN, max_length=NAME_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "object", "additionalProperties": True})
class JsonSchemaField(serializers.Field[Any, Any, Any, Any]):
    """A JSON schema, of which no more is asked than that it is an object."""

    default_error_messages = {"invalid": _("A JSON schema.")}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        return data


class FunctionSerializer(StrictSerializer):
    """A function that the model may call."""

    name = NameField()
    description = TextField(required=False, allow_null=True, allow_blank=True, max_length=DESCRIPTION_LENGTH)
    parameters = JsonSchemaField(required=False, allow_null=True)
    strict = BooleanField(required=False, allow_null=True)


class ToolSerializer(StrictSerializer):
    """A tool, as OpenAI's API describes it."""

    type = serializers.ChoiceField(choices=["function"])
    function = FunctionSerializer()


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": list(CHOICES)},
            {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["function"]},
                    "function": {
                        "type": "object",
                        "properties": {"name": {"type": "string", "pattern": NAME_PATTERN}},
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                },
                "required": ["type", "function"],
                "additionalProperties": False,
            },
        ]
    }
)
class ToolChoiceField(serializers.Field[Any, Any, Any, Any]):
    """Whether the model may or has to call a tool, or which."""

    default_error_messages = {
        "invalid": _("auto, none, required, or one of the tools by its name, in the form of OpenAI's API.")
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and data in CHOICES:
            return data
        serializer = ToolSerializer(data=data)
        if not serializer.is_valid() or set(data["function"]) != {"name"}:
            self.fail("invalid")
        return {"type": "function", "function": {"name": data["function"]["name"]}}


class ToolResultSerializer(StrictSerializer):
    """What came of a call."""

    id = LineField(max_length=ID_LENGTH, help_text="The call's.")
    content = TextField(allow_blank=True, max_length=conf.Settings().MAX_MESSAGE_LENGTH)


class ToolsSerializer(StrictSerializer):
    """What of a call concerns tools. They are the client's to run, and given with each call that may use them."""

    tools = serializers.ListField(
        child=ToolSerializer(),
        required=False,
        allow_null=True,
        max_length=MOST_TOOLS,
        help_text="What the model may call.",
    )
    tool_choice = ToolChoiceField(required=False, allow_null=True)
    parallel_tool_calls = BooleanField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        tools = attrs.get("tools") or ()
        names = [tool["function"]["name"] for tool in tools]
        if len(set(names)) < len(names):
            raise serializers.ValidationError({"tools": [_("Two tools have one name.")]})
        if tools and len(json.dumps(tools)) > MOST_CHARACTERS:
            limit = {"limit": MOST_CHARACTERS}
            raise serializers.ValidationError({"tools": [_("At most %(limit)d characters in all.") % limit]})
        choice = attrs.get("tool_choice")
        if choice is not None and (
            not names or (isinstance(choice, dict) and choice["function"]["name"] not in names)
        ):
            raise serializers.ValidationError({"tool_choice": [ToolChoiceField.default_error_messages["invalid"]]})
        return attrs


class ToolCallSerializer(serializers.Serializer[Any]):
    """A call that the model asks for; the client runs it, and sends what came of it as `tool_results`."""

    id = serializers.CharField()
    name = serializers.CharField()
    arguments = serializers.CharField(help_text="JSON, as the model wrote it.")


def tools_of(data: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return the tools that ``data``, which is valid, offers."""
    functions = [tool["function"] for tool in data.get("tools") or ()]
    return tuple(
        Tool(each["name"], each.get("description") or "", each.get("parameters"), each.get("strict"))
        for each in functions
    )


def results_of(data: Mapping[str, Any]) -> tuple[ToolResult, ...]:
    """Return the results that ``data``, which is valid, brings."""
    return tuple(ToolResult(each["id"], each["content"]) for each in data.get("tool_results") or ())

"""Tools as the AI SDK has them: what a model may call, and what came of its calls, which the page runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from ..services import ToolResult
from ..web.calls import validated
from ..web.serializers.tools import ToolResultSerializer, ToolsSerializer

AVAILABLE, FAILED = "output-available", "output-error"
# What each state has of a call's end.
OUTPUTS = {AVAILABLE: "output", FAILED: "errorText"}
PREFIX, DYNAMIC = "tool-", "dynamic-tool"


def offered(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body says of tools, as calls of ours have it; raises ``ValidationError``.

    ``tools`` is a list of ``{"name", "description", "inputSchema"}``, the last a JSON schema; or an object of
    ``{"description", "parameters"}`` by name, as assistant-ui sends them with each call.
    """
    tools = data.get("tools")
    if isinstance(tools, dict):
        tools = [{**tool, "name": name} if isinstance(tool, dict) else tool for name, tool in tools.items()]
    if tools is not None and not isinstance(tools, list):
        raise ValidationError({"tools": [_("A list of tools: name, description and inputSchema.")]})
    said = {name: data[name] for name in ("tool_choice", "parallel_tool_calls") if data.get(name) is not None}
    return validated(ToolsSerializer, {**said, "tools": [_function(tool) for tool in tools or ()]})


def _function(tool: Any) -> Any:
    if not isinstance(tool, dict) or "name" not in tool:
        return tool  # it may be in the form of OpenAI's API
    schema = tool.get("inputSchema", tool.get("parameters"))
    function = {"name": tool["name"], "description": tool.get("description"), "parameters": schema}
    return {"type": "function", "function": function}


def results_in(parts: Iterable[Any]) -> list[ToolResult]:
    """Return what came of the calls among the parts of a message, as far as they were run; raises ValidationError."""
    return [_result(part) for part in parts if isinstance(part, dict) and _has_result(part)]


def _has_result(part: Mapping[str, Any]) -> bool:
    state = part.get("state")
    return _is_tool(part.get("type")) and isinstance(state, str) and state in OUTPUTS


def _is_tool(kind: Any) -> bool:
    return isinstance(kind, str) and (kind.startswith(PREFIX) or kind == DYNAMIC)


def _result(part: Mapping[str, Any]) -> ToolResult:
    output = part.get(OUTPUTS[part["state"]])
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    result = validated(ToolResultSerializer, {"id": part.get("toolCallId"), "content": text})
    return ToolResult(result["id"], result["content"])


def input_of(arguments: str) -> Any:
    """Return a call's arguments as the page gets them: what a model wrote that is no JSON stays as it is."""
    try:
        given = json.loads(arguments)
        # Half a character, or a number beyond all, is read and cannot be told.
        json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return arguments
    return given


def output_of(content: str) -> Any:
    """Return what came of a call as the page had it: a text, or what was written as JSON because it was none."""
    said = input_of(content) if content[:1] in ("{", "[") else content
    return said if isinstance(said, dict | list) else content

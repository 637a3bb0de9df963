"""Anthropic's Messages, and servers that speak it too (llama.cpp, vLLM, GLM, DeepSeek, Kimi, …)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .. import conf
from ..answer import MessagesReader
from ..base import Provider
from ..roles import OPENING
from ..types import ChatMessage, CompletionRequest, Delta, Endpoint, Image, Tool
from .call import asked

VERSION = "2023-06-01"
# Where nobody says how long an answer may be, which has to be said here.
MOST_TOKENS = 8192
_DATA = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)
_VERSIONED = re.compile(r"(?:.*/)?v[0-9]+")
# Of further parameters those that have another name there, and those that are the same.
_RENAMED: Mapping[str, str] = {"stop": "stop_sequences"}
_SAME = frozenset({"top_p", "top_k", "thinking", "metadata", "service_tier"})
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "auto": {"type": "auto"},
    "required": {"type": "any"},
    "none": {"type": "none"},
}


class Anthropic(Provider):
    """Posts to ``…/v1/messages`` and reads the answer as a stream."""

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        reader = partial(MessagesReader, max_bytes=conf.get().MAX_ANSWER_BYTES, takes_tools=bool(request.tools))
        body = request_body(self.endpoint, request)
        fixed = frozenset(request.params_for(self.endpoint))
        async with aclosing(asked(self, messages_url, body, reader=reader, headers=_headers, fixed=fixed)) as deltas:
            async for delta in deltas:
                yield delta


def messages_url(url: str) -> str:
    """Return the URL of the call, where ``url`` may be the base before it. A query stays."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith("/messages"):
        return url
    version = "" if _VERSIONED.fullmatch(path) else "/v1"
    return urlunsplit(parts._replace(path=f"{path}{version}/messages"))


def _headers(key: str) -> dict[str, str]:
    return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})


def request_body(endpoint: Endpoint, request: CompletionRequest) -> dict[str, Any]:
    """The JSON of a call, as Python values: the request's, then as the endpoint's own ``parameters`` want it."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": request.max_tokens or min(MOST_TOKENS, endpoint.context_window // 2),
        "messages": _merged(request.messages),
        "stream": True,
        **_params(request.params_for(endpoint), endpoint.extra_fields),
    }
    if request.temperature is not None:
        body["temperature"] = min(1.0, request.temperature)
    if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
        _tell(body, system, takes_system=endpoint.takes_system)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    elif names := dict.fromkeys(call.name for message in request.messages for call in message.tool_calls):
        # Calls that were made before are refused without any tools: these are not to be called again.
        body |= {"tools": [_tool(Tool(name)) for name in names], "tool_choice": dict(_CHOICES["none"])}
    for name, value in endpoint.parameters.items():
        if value is None:
            body.pop(name, None)
        elif name != "max_tokens":  # which goes by one name here
            body[name] = value
    if _goes_on_after_calls(request.messages):
        # It would have to begin with what was thought before the calls, as it was signed, which is kept nowhere.
        body.pop("thinking", None)
    body["stream"] = bool(body.get("stream"))
    return body


def _goes_on_after_calls(messages: tuple[ChatMessage, ...]) -> bool:
    return bool(messages) and messages[-1].role == "tool"


def _tell(body: dict[str, Any], system: str, *, takes_system: bool) -> None:
    """Put the system prompt where it belongs, or before what the user says first."""
    if takes_system:
        body["system"] = system
    elif body["messages"]:
        body["messages"][0]["content"].insert(0, {"type": "text", "text": system})


def _params(params: Mapping[str, Any], extra_fields: Collection[str]) -> dict[str, Any]:
    """Return further parameters as they are called here; those that there are not are left out."""
    found = {name: value for name, value in params.items() if name in _SAME or name in extra_fields}
    for old, new in _RENAMED.items():
        if (value := params.get(old)) is not None:
            found[new] = [value] if isinstance(value, str) else value
    choice = params.get("tool_choice")
    if isinstance(choice, str) and choice in _CHOICES:
        found["tool_choice"] = dict(_CHOICES[choice])
    elif isinstance(choice, Mapping) and isinstance(function := choice.get("function"), Mapping):
        found["tool_choice"] = {"type": "tool", "name": function.get("name")}
    if params.get("parallel_tool_calls") is False:
        found["tool_choice"] = {**found.get("tool_choice", _CHOICES["auto"]), "disable_parallel_tool_use": True}
    return found


def _tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name, "input_schema": dict(tool.parameters or {"type": "object"})}
    return {**said, "description": tool.description} if tool.description else said


def _merged(messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    """Return the messages with their roles in turn, as they have to be: what follows in one role is one message.

    The user's is the first: what says nothing, where the assistant spoke first.
    """
    merged: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        elif blocks:
            merged.append({"role": role, "content": blocks})
    if merged and merged[0]["role"] == "assistant":
        merged.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    return merged


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    content = [_block(part) for part in message.parts or (message.content,) if part]
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]
    return [*content, *calls]


def _block(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if found := _DATA.fullmatch(part.url):
        return {"type": "image", "source": {"type": "base64", "media_type": found["type"], "data": found["data"]}}
    return {"type": "image", "source": {"type": "url", "url": part.url}}


def _input(arguments: str) -> Any:
    """Return a call's arguments as the object that they have to be here."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}

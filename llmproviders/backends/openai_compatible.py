"""OpenAI's chat completions, as its many imitators speak it: vLLM, SGLang, llama.cpp, GLM, DeepSeek, …

How they differ in what they answer is known in ``llmproviders.answer``. A server that refuses a parameter, the system
role, roles that do not alternate, calls of tools without what was thought before them, or to stream is asked once more
as it wants (``llmproviders.dialect``).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from .. import conf
from ..answer import AnswerReader
from ..base import Provider
from ..net.guard import completions_url
from ..roles import REASONING, in_turns, without_system
from ..types import ChatMessage, CompletionRequest, Delta, Endpoint, Image, Tool, ToolCall
from .call import asked
from .model_list import list_models


class OpenAICompatible(Provider):
    """Posts to the endpoint's URL and reads the answer as a stream."""

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        reader = partial(
            AnswerReader,
            max_bytes=conf.get().MAX_ANSWER_BYTES,
            thinks_first=self.endpoint.thinks_first,
            takes_tools=bool(request.tools),
        )
        body = request_body(self.endpoint, request)
        fixed = frozenset(request.params_for(self.endpoint))
        deltas = asked(self, completions_url, body, reader=reader, headers=_headers, fixed=fixed)
        async with aclosing(deltas):
            async for delta in deltas:
                yield delta

    async def list_models(self, *, seconds: float) -> list[str]:
        """Ask ``…/models``, beside the call of chat completions."""
        return await list_models(self.endpoint, seconds=seconds)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def request_body(endpoint: Endpoint, request: CompletionRequest) -> dict[str, Any]:
    """The JSON of a call, as Python values: the request's, then as the endpoint's own ``parameters`` want it.

    What was thought before calls is there for ``Dialect.spoken``, which leaves it out where nobody asked for it.
    """
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": _messages(endpoint, request.messages),
        "temperature": request.temperature,
        "max_tokens": request.max_tokens or None,
        "stream": True,
        "stream_options": {"include_usage": True},
        **request.params_for(endpoint),
    }
    body = {name: value for name, value in body.items() if value is not None}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    for name, value in endpoint.parameters.items():
        if value is None:
            body.pop(name, None)
        elif name == "max_tokens":  # by another name
            if name in body:
                body[str(value)] = body.pop(name)
        else:
            body[name] = value
    body["stream"] = bool(body.get("stream"))  # left out, a server would not stream
    if not body["stream"]:
        body.pop("stream_options", None)
    return body


def _messages(endpoint: Endpoint, messages: tuple[ChatMessage, ...]) -> list[dict[str, Any]]:
    said = [_message(message) for message in messages]
    if not endpoint.takes_system:
        said = without_system(said)
    return in_turns(said) if endpoint.alternates else said


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.parts:
        said["content"] = [_part(part) for part in message.parts]
    if message.name:
        said["name"] = message.name
    if message.tool_calls:
        said["content"] = said["content"] or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
        if message.reasoning:
            said[REASONING] = message.reasoning
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def _arguments(call: ToolCall) -> str:
    """Return arguments that a server can parse: some refuse what a model wrote, or what was cut."""
    try:
        is_object = isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return call.arguments if is_object else "{}"


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    detail = {"detail": part.detail} if part.detail else {}
    return {"type": "image_url", "image_url": {"url": part.url, **detail}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = dict(tool.parameters)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}

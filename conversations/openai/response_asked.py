"""What a response asks for: the body of a response as that of a chat completion, and where it goes on."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext_lazy as _

from ..exceptions import InvalidRequest
from ..models import parts, whole_parts
from ..services import Said
from ..services.relays import DEFAULT
from ..web.calls import refused
from .asked import OBJECT, TEXT, YES_OR_NO, Asked, parsed, text_of, value_of

RESPONSE, CONVERSATION = "resp_", "conv_"
# Of metadata.
MAX_PAIRS, MAX_KEY, MAX_TEXT = 16, 64, 512
# Their names for what a chat completion calls otherwise.
NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
    "reasoning_effort": "reasoning",
}
AS_THEY_ARE = ("temperature", "top_p", "stream", "store", "user")
PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class ResponseAsked:
    """A response that is asked for: a completion, what it goes on from, and whether the caller waits for it."""

    completion: Asked
    instructions: str | None
    previous: uuid.UUID | None
    session_id: uuid.UUID | None
    background: bool
    metadata: dict[str, str]


def referenced(data: Mapping[str, Any]) -> list[int]:
    """Return the messages that a body's items refer to."""
    items = data.get("input")
    found = [_reference(item) for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]
    return [named[0] for named in found if named is not None]


def _reference(item: Mapping[str, Any]) -> tuple[int, int | None] | None:
    """Return which message an item refers to, and which part of it: ids of items say so (``response_told``)."""
    is_one = item.get("type") == "item_reference" and isinstance(item.get("id"), str)
    named = re.fullmatch(r"(?:msg|fc)_(\d{1,18})(?:_(\d{1,6}))?", item["id"]) if is_one else None
    return (int(named[1]), int(named[2]) if named[2] else None) if named else None


def asked_of(data: Mapping[str, Any], known: Mapping[int, Said]) -> ResponseAsked:
    """Return what a body asks for; ``known`` is what is referred to. Raises ``InvalidRequest`` with the field."""
    if data.get("prompt") is not None:
        raise refused("prompt", _("There are no stored prompts here."), code="unsupported_parameter")
    instructions = value_of(data, "instructions", TEXT)
    completion = _completion(data, instructions, known)
    previous = id_of("previous_response_id", RESPONSE, data.get("previous_response_id"))
    session_id = id_of("conversation", CONVERSATION, _conversation(data))
    if previous and session_id:
        raise refused("conversation", _("Name a conversation or a previous response, not both."))
    background = value_of(data, "background", YES_OR_NO) or False
    needing = {"background": background, "previous_response_id": previous, "conversation": session_id}
    if completion.store is False and (field := next((name for name, value in needing.items() if value), None)):
        raise refused(field, _("This needs an answer that is stored."))
    return ResponseAsked(
        completion=replace(completion, messages_field="input"),
        instructions=instructions,
        previous=previous,
        session_id=session_id,
        background=background,
        metadata=_metadata(data.get("metadata")),
    )


def _conversation(data: Mapping[str, Any]) -> Any:
    conversation = data.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id", "")
    return conversation


def id_of(param: str, prefix: str, value: Any) -> uuid.UUID | None:
    """Return the id that a name of theirs carries; raises ``InvalidRequest`` for what is none."""
    if value is None:
        return None
    try:
        return uuid.UUID(str(value).removeprefix(prefix))
    except ValueError:
        raise refused(param, _("There is none with this id.")) from None


def _completion(data: Mapping[str, Any], instructions: str | None, known: Mapping[int, Said]) -> Asked:
    messages, places = _messages(data.get("input"), known)
    if instructions:
        messages, places = [{"role": "system", "content": instructions}, *messages], ["instructions", *places]
    reasoning = value_of(data, "reasoning", OBJECT) or {}
    body = {
        **{name: data[name] for name in AS_THEY_ARE if name in data},
        "model": value_of(data, "model", TEXT) or DEFAULT,
        "messages": messages,
        "max_completion_tokens": data.get("max_output_tokens"),
        **_of_tools(data),
        "response_format": _format(value_of(data, "text", OBJECT) or {}),
        "reasoning_effort": reasoning.get("effort"),
    }
    try:
        return parsed(body)
    except InvalidRequest as error:
        errors = {_renamed(name, places): reason for name, reason in (error.errors or {}).items()}
        raise InvalidRequest(errors=errors) from None


def _renamed(param: str, places: list[str]) -> str:
    """Return what the caller calls a field, and of the messages the item that each comes from."""
    if found := re.fullmatch(r"messages\[(\d+)\](.*)", param):
        return places[int(found[1])] + found[2]
    name = next((name for name in NAMES if param.startswith(name)), param)
    return NAMES.get(name, name) + param.removeprefix(name)


def _messages(value: Any, known: Mapping[int, Said]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the messages, and which item each comes from."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}], ["input"]
    if not isinstance(value, list):
        raise refused("input", _("A text, or a list of items."))
    found: list[dict[str, Any]] = []
    places: list[str] = []
    for place, item in enumerate(value):
        _add(found, f"input[{place}]", item, known)
        places += [f"input[{place}]"] * (len(found) - len(places))
    return found, places


def _add(found: list[dict[str, Any]], where: str, item: Any, known: Mapping[int, Said]) -> None:
    """Add an item to the messages; calls that follow each other are one message's."""
    said: dict[str, Any] = item if isinstance(item, dict) else {}
    kind = said.get("type", "message")
    if kind == "message" and "role" in said:
        found.append({"role": said["role"], "content": _content(f"{where}.content", said.get("content"))})
    elif kind == "function_call":
        function = {"name": said.get("name"), "arguments": said.get("arguments", "")}
        call = {"id": said.get("call_id"), "type": "function", "function": function}
        if not (found and found[-1]["role"] == "assistant"):
            found.append({"role": "assistant", "content": None})
        found[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        content = _content(f"{where}.output", said.get("output"))
        found.append({"role": "tool", "tool_call_id": said.get("call_id"), "content": content})
    elif kind == "item_reference" and not str(said.get("id")).startswith("rs_"):
        message_id, place = _reference(said) or (0, None)
        message = known.get(message_id)
        if message is None:
            reason = _("There is no such item: it was not stored. Send items whole, with `store: false`.")
            raise refused(where, reason)
        for item in _items_of(message, place):
            _add(found, where, item, known)
    elif kind not in ("reasoning", "item_reference"):  # what was thought before is not sent again
        raise refused(where, _("Items are messages, function calls and their outputs."))


def _items_of(message: Said, place: int | None) -> list[dict[str, Any]]:
    """Return a stored message, or one part of it, as items."""
    if message.role == "user":
        if message.parts:
            raise refused("input", _("Of a message with images only the whole can be sent: refer to none."))
        return [{"role": "user", "content": message.content}]
    items = []
    for part in whole_parts(message)[slice(None) if place is None else slice(place, place + 1)]:
        if part["type"] == parts.TOOL_CALL:
            called = {name: part[name] for name in ("name", "arguments")}
            items.append({"type": "function_call", "call_id": part["id"], **called})
        elif part["type"] == parts.TOOL_RESULT:
            items.append({"type": "function_call_output", "call_id": part["id"], "output": part["content"]})
        elif part["type"] == parts.TEXT:
            items.append({"role": message.role, "content": part["text"]})
    return items


def _content(where: str, content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(f"{where}[{place}]", part) for place, part in enumerate(content)]


def _part(where: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "input_image":
        named = part.get("file_id")
        url = part.get("image_url") if named is None else f"attachments/{named}"
        return {"type": "image_url", "image_url": {"url": url, "detail": part.get("detail")}}
    if not isinstance(kind, str) or kind not in PARTS:
        raise refused(where, _("Parts are texts and images."))
    return {"type": PARTS[kind], PARTS[kind]: part.get("refusal" if kind == "refusal" else "text")}


def _of_tools(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of tools. Where there are none a completion has no choice of them, not even theirs."""
    said = {"tools": _tools(data.get("tools")), "tool_choice": _tool_choice(data.get("tool_choice"))}
    parallel = data.get("parallel_tool_calls")
    if said["tools"] or not isinstance(parallel, bool):
        said["parallel_tool_calls"] = parallel
    if not said["tools"] and said["tool_choice"] in NO_CHOICES:
        del said["tool_choice"]
    return said


def _tools(tools: Any) -> Any:
    if not isinstance(tools, list):
        return tools
    found = []
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise refused(f"tools[{place}]", _("A tool is a function."), code="unsupported_parameter")
        found.append({"type": "function", "function": {name: tool.get(name) for name in FUNCTION}})
    return found


FUNCTION = ("name", "description", "parameters", "strict")
# What means nothing without tools.
NO_CHOICES = ("auto", "none")
ALLOWED = "allowed_tools"


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == ALLOWED and isinstance(choice.get("tools"), list):
        allowed = {"mode": choice.get("mode"), "tools": [_tool_choice(tool) for tool in choice["tools"]]}
        return {"type": ALLOWED, ALLOWED: allowed}
    return choice


def _format(text: Mapping[str, Any]) -> Any:
    wanted = text.get("format")
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {name: value for name, value in wanted.items() if name != "type"}}


def _metadata(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    pairs: dict[str, Any] = value if isinstance(value, dict) else {"": None}
    fits = all(
        isinstance(text, str) and len(name) <= MAX_KEY and len(text) <= MAX_TEXT for name, text in pairs.items()
    )
    if not fits or len(pairs) > MAX_PAIRS:
        limits = {"pairs": MAX_PAIRS, "key": MAX_KEY, "text": MAX_TEXT}
        reason = _("At most %(pairs)d texts of %(text)d characters, with names of %(key)d.")
        raise refused("metadata", reason % limits)
    for name, text in pairs.items():
        text_of("metadata", name + text)
    return pairs

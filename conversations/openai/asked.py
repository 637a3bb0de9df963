"""What a chat completion asks for: their JSON as the request that a model gets.

Fields that are not known here go to models whose presets list them, and are passed over by all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from ..engine.completions import ChatMessage, CompletionRequest, Image, Tool, ToolCall
from ..engine.said import image_of
from ..web.calls import checked, refused
from ..web.fields import max_tokens_field
from ..web.images import check_url, known

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
MAX_NAME, MAX_TOOLS, MAX_STOPS = 64, 128, 8
MAX_TOKENS = max_tokens_field()


class Check(NamedTuple):
    """What a field may be, and what is said where it is not."""

    holds: Callable[[Any], bool]
    reason: Any


def _number(low: float, high: float) -> Check:
    return Check(
        lambda value: not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high,
        format_lazy(_("A number from {low} to {high}."), low=low, high=high),
    )


def _whole(low: int, high: int) -> Check:
    return Check(
        lambda value: type(value) is int and low <= value <= high,
        format_lazy(_("A whole number from {low} to {high}."), low=low, high=high),
    )


def _is_stop(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return len(texts) <= MAX_STOPS and all(isinstance(text, str) for text in texts)


YES_OR_NO = Check(lambda value: isinstance(value, bool), _("true or false."))
TEXT = Check(lambda value: isinstance(value, str), _("This is no text."))
OBJECT = Check(lambda value: isinstance(value, dict), _("An object."))
# Fields that go to the model as they are, and what they may be.
PASSED_ON: Mapping[str, Check] = {
    "top_p": _number(0, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": Check(_is_stop, format_lazy(_("A text, or a list of at most {limit} texts."), limit=MAX_STOPS)),
    "response_format": OBJECT,
    "tool_choice": Check(
        lambda value: isinstance(value, dict) or value in ("auto", "none", "required"),
        _("auto, none, required, or an object."),
    ),
    "parallel_tool_calls": YES_OR_NO,
    "reasoning_effort": TEXT,
    "logit_bias": OBJECT,
}
# What is read here; all else is extra.
KNOWN = frozenset(PASSED_ON) | {
    "model", "messages", "n", "stream", "stream_options", "store", "tools",
    "temperature", "max_tokens", "max_completion_tokens",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat completion that is asked for. ``max_tokens`` None: nothing is said of it to the model."""

    model: str
    request: CompletionRequest
    max_tokens: int | None
    stream: bool
    include_usage: bool
    # Whether it is to be stored, where that is said.
    store: bool | None = None
    # What the caller calls the messages.
    messages_field: str = "messages"


def parsed(data: Mapping[str, Any]) -> Asked:
    """Return what a body asks for; raises ``InvalidRequest`` that names the field."""
    if data.get("n") not in (None, 1):
        raise refused("n", _("One answer at a time."))
    max_tokens = _max_tokens(data, "max_completion_tokens") or _max_tokens(data, "max_tokens")
    options = value_of(data, "stream_options", OBJECT) or {}
    model = value_of(data, "model", TEXT)
    if not model:
        raise refused("model", _("Say which model."))
    return Asked(
        model=model,
        request=CompletionRequest(
            messages=_messages(data.get("messages")),
            temperature=value_of(data, "temperature", _number(0, 2)),
            max_tokens=max_tokens or 0,
            tools=_tools(data.get("tools")),
            params={
                name: value for name, check in PASSED_ON.items() if (value := value_of(data, name, check)) is not None
            },
            extra={name: value for name, value in data.items() if name not in KNOWN and value is not None},
        ),
        max_tokens=max_tokens,
        stream=bool(value_of(data, "stream", YES_OR_NO)),
        include_usage=options.get("include_usage") is True,
        store=value_of(data, "store", YES_OR_NO),
    )


def value_of(data: Mapping[str, Any], name: str, check: Check) -> Any:
    """Return a field that is there and may be so, None where it is left out or null."""
    value = data.get(name)
    if value is not None and not check.holds(value):
        raise refused(name, check.reason)
    return value


def _max_tokens(data: Mapping[str, Any], name: str) -> int | None:
    given: int | None = checked(MAX_TOKENS, data.get(name), name)
    return given


def _messages(value: Any) -> tuple[ChatMessage, ...]:
    if not isinstance(value, list) or not value:
        raise refused("messages", _("Send at least one message."))
    return tuple(_message(f"messages[{place}]", message) for place, message in enumerate(value))


def _message(where: str, message: Any) -> ChatMessage:
    said = message.get("role") if isinstance(message, dict) else None
    if not isinstance(said, str) or said not in ROLES:
        raise refused(where, _("A message has a role: system, developer, user, assistant or tool."))
    role: Any = ROLES[said]
    content = message.get("content")
    if content is None and role == "assistant":
        content = message.get("refusal")
    name = message.get("name")
    calls = _calls(f"{where}.tool_calls", message.get("tool_calls"))
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise refused(f"{where}.tool_call_id", _("Say of which call this is the result."))
    if content is None and not calls:
        raise refused(f"{where}.content", _("This message says nothing."))
    parts = _parts(f"{where}.content", content)
    texts = [part for part in parts if isinstance(part, str)]
    thought = message.get("reasoning_content")
    return ChatMessage(
        role=role,
        content="\n".join(texts) if len(texts) != 1 else texts[0],
        parts=parts if len(texts) != len(parts) else (),
        tool_calls=calls,
        tool_call_id=message["tool_call_id"] if role == "tool" else "",
        name="" if name is None else _name(f"{where}.name", name),
        reasoning=thought if calls and isinstance(thought, str) else "",
    )


def _parts(where: str, content: Any) -> tuple[str | Image, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (text_of(where, content),)
    if not isinstance(content, list):
        raise refused(where, _("A text, or a list of parts."))
    return tuple(_part(f"{where}[{place}]", part) for place, part in enumerate(content))


def _part(where: str, part: Any) -> str | Image:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return text_of(where, part.get(kind if kind == "refusal" else "text"))
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        detail = image.get("detail") if isinstance(image, dict) else None
        shown = check_url(url, where)
        (ours,) = known([shown])
        return Image(image_of(str(ours)) if ours else shown, "" if detail is None else _name(where, detail))
    raise refused(where, _("Parts are texts and images."))


def text_of(where: str, text: Any) -> str:
    if not isinstance(text, str):
        raise refused(where, _("This is no text."))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refused(where, _("This text has half a character.")) from None
    return text


def _calls(where: str, calls: Any) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    found = []
    for call in calls if isinstance(calls, list) else [None]:
        said: dict[str, Any] = call if isinstance(call, dict) else {}
        function, identifier = said.get("function"), said.get("id")
        arguments = function.get("arguments", "") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(identifier, str) or not isinstance(arguments, str):
            raise refused(where, _("A call has an id, and a function with a name and arguments."))
        found.append(ToolCall(identifier, _name(where, function.get("name")), text_of(where, arguments)))
    return tuple(found)


def _tools(tools: Any) -> tuple[Tool, ...]:
    if tools is None:
        return ()
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise refused("tools", _("A list of at most %(limit)d tools.") % {"limit": MAX_TOOLS})
    return tuple(_tool(f"tools[{place}]", tool) for place, tool in enumerate(tools))


def _tool(where: str, tool: Any) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise refused(where, _("A tool is a function."))
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise refused(f"{where}.function.parameters", _("A JSON schema."))
    description = function.get("description")
    if description is not None:
        text_of(f"{where}.function.description", description)
    strict = value_of(function, "strict", YES_OR_NO)
    return Tool(_name(where, function.get("name")), description or "", parameters, strict)


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise refused(where, _("A name has at most %(limit)d characters.") % {"limit": MAX_NAME})
    return name

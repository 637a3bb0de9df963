"""What a run asks for: a ``RunAgentInput`` as what was said and how to answer it. Unknown fields are passed over."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.fields import Field

from .. import services
from ..models import CLIENT_ID_LENGTH
from ..web.calls import checked, refused, validated
from ..web.fields import LineField, TextField, WordField, max_tokens_field, model_type_field, temperature_field
from ..web.images import known
from ..web.serializers import options_of
from ..web.serializers.conversations import SystemPromptField
from ..web.serializers.replies import MessageField
from ..web.serializers.tools import ID_LENGTH, ToolsSerializer
from .images import MEDIA, sent_in

RUN_ID = re.compile(r"[\x21-\x7e]{1,200}")
ROLES = ("developer", "system", "user", "assistant", "tool", "activity", "reasoning")
INSTRUCTIONS = ("developer", "system")
NO_PARTS = _("Parts are texts, and images of the user's.")
# What is not said again to a model.
BESIDE = ("activity", "reasoning")
# How an answer is to be made; AG-UI has no fields for that.
OPTIONS: Mapping[str, Field[Any, Any, Any, Any]] = {
    "model_type": model_type_field(required=False, allow_null=True, allow_blank=True),
    "temperature": temperature_field(),
    "max_tokens": max_tokens_field(),
}
_text, _message, _system_prompt = TextField(allow_blank=True), MessageField(), SystemPromptField(allow_blank=True)
_client_id, _call_id = WordField(max_length=CLIENT_ID_LENGTH), LineField(max_length=ID_LENGTH)
# What a client has of an answer: texts by the ids of their messages, arguments by those of their calls.
Has = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunAsked:
    """A run that is asked for, by the names that the client gave it, and what the client has of the answer."""

    run_id: str
    chat: services.ClientChat
    options: services.ReplyOptions
    has: Has
    # URLs, to be kept before.
    images: Sequence[str] = ()
    # Whether the client names no version of the protocol, as those before 1.0.
    is_old: bool = False


def asked_of(data: Mapping[str, Any]) -> RunAsked:
    """Return what a body asks for; raises ``InvalidRequest`` that names the field."""
    thread_id, run_id = checked(_client_id, data.get("threadId"), "threadId"), data.get("runId")
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise refused("runId", _("1 to 200 visible ASCII characters."))
    if data.get("resume"):
        raise refused("resume", _("No run here waits for an answer."))
    messages = [_Message(f"messages[{place}]", message) for place, message in enumerate(_list(data, "messages"))]
    before, results, after = _around_what_is_asked(messages)
    images = [] if results else before[-1].said_by_user()
    prompts = [message.text for message in before if message.role in INSTRUCTIONS] + _contexts(data)
    # The same run is the same answer, whatever the client has of it by now.
    asked = {"thread": thread_id, "message": before[-1].text, "results": [list(result) for result in results]}
    if images:
        asked["images"] = [hashlib.sha256(url.encode("utf-8", "backslashreplace")).hexdigest() for url in images]
    key = services.Idempotency.of(_key(thread_id, run_id), asked)
    assert key is not None, "there is one"
    held = [message.id for message in after if message.role == "assistant" and message.id]
    prompt = checked(_system_prompt, "\n\n".join(prompts), "messages") if prompts else None
    chat = services.ClientChat(
        thread_id,
        _said(before),
        prompt,
        results=results or _brought(before),
        results_in=before[-1].id if results else None,
        goes_on=bool(results),
        images=known(images),
        key=key,
        held=held,
    )
    has = {message.id: message.text for message in after if message.id}
    has |= {call[0]: call[2] for message in after for call in message.calls}
    return RunAsked(run_id, chat, _options(data), has, images, is_old=data.get("protocolVersion") is None)


def _key(thread_id: str, run_id: str) -> str:
    """Return the key of a run: clients may count those of each thread."""
    return f"agui:{hashlib.sha256(json.dumps([thread_id, run_id]).encode()).hexdigest()}"


class _Message:
    """One of the messages; raises ``InvalidRequest`` where it is none."""

    def __init__(self, where: str, message: Any) -> None:
        said: Mapping[str, Any] = message if isinstance(message, dict) else {}
        self.where = where
        self.role = said.get("role")
        if self.role not in ROLES:
            raise refused(where, _("A message has a role: developer, system, user, assistant, tool or reasoning."))
        name = said.get("id")
        self.id: str | None = None if name is None else checked(_client_id, name, f"{where}.id")
        # With the place of each; of what was said before, the text alone is looked at.
        self.media: list[tuple[str, Mapping[str, Any]]] = []
        # What is no text of the conversation is the front end's own.
        self.text = "" if self.role == "activity" else self._text_of(f"{where}.content", said.get("content"))
        self.calls = _calls(f"{where}.toolCalls", said.get("toolCalls")) if self.role == "assistant" else []
        self.result: services.ToolResult | None = None
        if self.role == "tool":
            key = checked(_call_id, said.get("toolCallId"), f"{where}.toolCallId")
            self.result = services.ToolResult(key, self.text or self._text_of(f"{where}.error", said.get("error")))

    def _text_of(self, where: str, content: Any) -> str:
        if content is None:
            return ""
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        texts = []
        for place, part in enumerate(parts):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in MEDIA and self.role in ("user", "tool"):
                self.media.append((f"{where}[{place}]", part))
                continue
            if kind != "text":
                raise refused(where, NO_PARTS)
            texts.append(checked(_text, part.get("text"), where))
        return "\n".join(texts)

    def said_by_user(self) -> list[str]:
        """Return the URLs of the images that it shows; raises ``InvalidRequest`` unless it can be answered."""
        images = sent_in(self.media, f"{self.where}.content")
        if self.text or not images:
            checked(_message, self.text, self.where)
        return images


def _around_what_is_asked(
    messages: list[_Message],
) -> tuple[list[_Message], list[services.ToolResult], list[_Message]]:
    """Return what was said up to what is asked, the results of tools, if those are what is asked, and what follows."""
    last = max((place for place, message in enumerate(messages) if message.role in ("user", "tool")), default=None)
    if last is None:
        raise refused("messages", _("Send at least one message of the user."))
    before = [message for message in messages[: last + 1] if message.role not in BESIDE]
    after = messages[last + 1 :]
    results = []
    while before and before[-1].result is not None:
        if before[-1].media:
            raise refused(f"{before[-1].where}.content", NO_PARTS)
        results.append(before.pop().result)
    if not results:
        return before, [], after
    if not before or before[-1].role != "assistant":
        raise refused("messages", _("Results of tools follow the message of the assistant that called them."))
    return before, [result for result in reversed(results) if result is not None], after


def _brought(before: list[_Message]) -> list[services.ToolResult]:
    """Return the results of tools that stand right before the last message."""
    found = [message.result for message in takewhile(lambda message: message.result, reversed(before[:-1]))]
    return [result for result in reversed(found) if result is not None]


def _calls(where: str, calls: Any) -> list[tuple[str, str, str]]:
    """Return calls of tools as (id, name, arguments)."""
    if calls is None:
        return []
    found = []
    for call in calls if isinstance(calls, list) else [None]:
        said: Mapping[str, Any] = call if isinstance(call, dict) else {}
        function = said.get("function")
        if not isinstance(function, dict):
            raise refused(where, _("A call has an id, and a function with a name and arguments."))
        key, name = (checked(_call_id, named, where) for named in (said.get("id"), function.get("name")))
        found.append((key, name, checked(_text, function.get("arguments"), where)))
    return found


def _said(messages: list[_Message]) -> list[services.Said]:
    """Return what was said as it is stored; results that come one after the other are one message."""
    said: list[services.Said] = []
    kept = [message for message in messages if message.role not in INSTRUCTIONS]
    for is_result, group in groupby(kept, key=lambda message: message.result is not None):
        if is_result:
            said.append(services.by_tools([message.result for message in group if message.result is not None]))
            continue
        for message in group:
            if message.role == "user" and (message.text or message.media):
                said.append(services.by_user(message.text)._replace(client_id=message.id))
            elif message.role == "assistant" and (message.text or message.calls):
                said.append(services.by_model(message.text, message.calls)._replace(client_id=message.id))
    return said


def _contexts(data: Mapping[str, Any]) -> list[str]:
    """Return what the model is to know of the application, a text each."""
    found = []
    for place, context in enumerate(_list(data, "context", required=False)):
        said: Mapping[str, Any] = context if isinstance(context, dict) else {}
        texts = [checked(_text, said.get(name), f"context[{place}].{name}") for name in ("description", "value")]
        found.append(":\n".join(texts))
    return found


def _options(data: Mapping[str, Any]) -> services.ReplyOptions:
    props = data.get("forwardedProps")
    given: Mapping[str, Any] = props if isinstance(props, dict) else {}
    valid = {
        name: checked(option, given[name], f"forwardedProps.{name}")
        for name, option in OPTIONS.items()
        if name in given
    }
    tools = [_function(tool) for tool in _list(data, "tools", required=False)]
    return options_of(valid | validated(ToolsSerializer, {"tools": tools}))


def _function(tool: Any) -> dict[str, Any]:
    """Return a tool as calls of ours have it."""
    said: Mapping[str, Any] = tool if isinstance(tool, dict) else {}
    function = {name: said.get(name) for name in ("name", "description", "parameters")}
    return {"type": "function", "function": function}


def _list(data: Mapping[str, Any], name: str, *, required: bool = True) -> list[Any]:
    value = data.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise refused(name, _("A list."))
    return value

"""What a run asks for: a ``RunAgentInput`` as a message and what stands before it. Unknown fields are passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError
from rest_framework.fields import Field

from .. import services
from ..exceptions import InvalidRequest
from ..web.fields import TextField, max_tokens_field, model_type_field, temperature_field
from ..web.serializers import options_of
from ..web.serializers.conversations import SystemPromptField
from ..web.serializers.replies import MessageField

RUN_ID = re.compile(r"[\x21-\x7e]{1,200}")
THREAD_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
ROLES = ("developer", "system", "user", "assistant", "tool", "activity", "reasoning")
INSTRUCTIONS = ("developer", "system")
# How an answer is to be made; AG-UI has no fields for that.
OPTIONS: Mapping[str, Field[Any, Any, Any, Any]] = {
    "model_type": model_type_field(required=False, allow_null=True, allow_blank=True),
    "temperature": temperature_field(),
    "max_tokens": max_tokens_field(),
}
_text, _message, _system_prompt = TextField(allow_blank=True), MessageField(), SystemPromptField(allow_blank=True)


@dataclass(frozen=True, slots=True)
class RunAsked:
    """A run that is asked for: what the user said last, and what stands before it.

    ``system_prompt`` is None where nothing is said of it. ``has`` is what stands after the message, by its id: what
    the client has of the answer already.
    """

    thread_id: str
    run_id: str
    message: str
    said: list[services.Said]
    system_prompt: str | None
    options: services.ReplyOptions
    has: Mapping[str, str] = field(default_factory=dict)

    @property
    def idempotency(self) -> services.Idempotency | None:
        """One run, one answer: one that is sent again attaches to it, whatever the client has of it by now."""
        return services.Idempotency.of(f"agui:{self.run_id}", {"thread": self.thread_id, "message": self.message})


def refused(name: str, reason: Any) -> InvalidRequest:
    """Return the refusal of a field."""
    return InvalidRequest(errors={name: [reason]})


def asked_of(data: Mapping[str, Any]) -> RunAsked:
    """Return what a body asks for; raises ``InvalidRequest`` that names the field."""
    if data.get("tools"):
        raise refused("tools", _("Tools cannot be stored yet: leave them out."))
    if data.get("resume"):
        raise refused("resume", _("No run here waits for an answer."))
    messages = [_Message(f"messages[{place}]", message) for place, message in enumerate(_list(data, "messages"))]
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
    if last is None:
        raise refused("messages", _("Send at least one message of the user."))
    before = messages[:last]
    prompts = [message.text for message in before if message.role in INSTRUCTIONS] + _contexts(data)
    return RunAsked(
        thread_id=_id(data, "threadId", THREAD_ID, _("1 to 128 characters, none of them a control character.")),
        run_id=_id(data, "runId", RUN_ID, _("1 to 200 visible ASCII characters.")),
        message=_checked(_message, messages[last].text, messages[last].where),
        said=_said(before),
        system_prompt=_checked(_system_prompt, "\n\n".join(prompts), "messages") if prompts else None,
        options=_options(data.get("forwardedProps")),
        has={message.id: message.text for message in messages[last + 1 :]},
    )


class _Message:
    """One of the messages; raises ``InvalidRequest`` where it is none."""

    def __init__(self, where: str, message: Any) -> None:
        said: Mapping[str, Any] = message if isinstance(message, dict) else {}
        self.where = where
        self.role = said.get("role")
        if self.role not in ROLES:
            raise refused(where, _("A message has a role: developer, system, user, assistant, tool or reasoning."))
        self.id = str(said.get("id", ""))
        self.text = "" if self.role == "activity" else _text_of(f"{where}.content", said.get("content"))
        if said.get("toolCalls") or self.role == "tool":
            raise refused(where, _("Calls of tools cannot be stored yet."))


def _text_of(where: str, content: Any) -> str:
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise refused(where, _("Only text can be stored."))
        texts.append(_checked(_text, part.get("text"), where))
    return "\n".join(texts)


def _said(before: list[_Message]) -> list[services.Said]:
    said = [
        services.Said(message.role, message.text)
        for message in before
        if message.role in ("user", "assistant") and message.text
    ]
    if len(said) > services.MOST_SAID:
        limit = {"limit": services.MOST_SAID}
        raise refused("messages", _("At most %(limit)d messages can be stored with one call.") % limit)
    return said


def _contexts(data: Mapping[str, Any]) -> list[str]:
    """Return what the model is to know of the application, a text each."""
    found = []
    for place, context in enumerate(_list(data, "context", required=False)):
        said: Mapping[str, Any] = context if isinstance(context, dict) else {}
        texts = [_checked(_text, said.get(name), f"context[{place}].{name}") for name in ("description", "value")]
        found.append(":\n".join(texts))
    return found


def _options(props: Any) -> services.ReplyOptions:
    given: Mapping[str, Any] = props if isinstance(props, dict) else {}
    valid = {
        name: _checked(option, given[name], f"forwardedProps.{name}")
        for name, option in OPTIONS.items()
        if name in given
    }
    return options_of(valid)


def _list(data: Mapping[str, Any], name: str, *, required: bool = True) -> list[Any]:
    value = data.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise refused(name, _("A list."))
    return value


def _id(data: Mapping[str, Any], name: str, pattern: re.Pattern[str], reason: Any) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise refused(name, reason)
    return value


def _checked(option: Field[Any, Any, Any, Any], value: Any, where: str) -> Any:
    """Return a value that may be stored; raises ``InvalidRequest`` that names ``where``."""
    try:
        return option.run_validation(value)
    except ValidationError as error:
        reasons: Any = error.detail
        raise refused(where, reasons[0]) from None

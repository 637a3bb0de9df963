"""What the AI SDK's client asks for: its JSON as a chat. Unknown fields are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from ..engine.producer import ReplyOptions
from ..exceptions import InvalidRequest
from ..models import CLIENT_ID_LENGTH
from ..services import ClientChat, Said, ToolResult
from ..web.calls import checked, refused, validated
from ..web.fields import TextField, WordField, max_tokens_field, model_type_field, temperature_field
from ..web.images import known
from ..web.serializers import options_of
from ..web.serializers.conversations import SystemPromptField, temporary_field
from ..web.serializers.replies import MessageField
from .images import sent_in
from .tools import offered, results_in

SUBMIT, REGENERATE = "submit-message", "regenerate-message"
ROLES = ("system", "user", "assistant")
_text, _message, _system_prompt = TextField(allow_blank=True), MessageField(), SystemPromptField(allow_blank=True)
_name = WordField(max_length=CLIENT_ID_LENGTH)


class ChatSerializer(serializers.Serializer[Any]):
    """The fields beside the messages. Others are a page's own."""

    id = WordField(max_length=CLIENT_ID_LENGTH)
    trigger = serializers.ChoiceField(choices=[SUBMIT, REGENERATE], required=False)
    messageId = WordField(max_length=CLIENT_ID_LENGTH, required=False, allow_null=True)
    model_type = model_type_field(required=False, allow_null=True, allow_blank=True)
    temperature = temperature_field()
    max_tokens = max_tokens_field()
    temporary = temporary_field()


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat, and how it is to be answered. ``temporary`` is for a new one; ``images`` are URLs, to be kept before."""

    chat: ClientChat
    options: ReplyOptions
    temporary: bool
    images: list[str]


def parsed(data: Mapping[str, Any]) -> Asked:
    """Return what a body asks for; raises ``InvalidRequest`` that names the field."""
    fields = validated(ChatSerializer, data)
    options = options_of(fields | offered(data))
    again = fields.get("trigger") == REGENERATE
    messages = _messages(data)
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    place, goes_on = _last_results(messages, last)
    results = _results(data, place)
    if last < 0 and not again and not results:
        raise refused("messages", _("Send a message of the user's."))
    said = [message for message in messages[: last + 1] if message.role != "system"]
    images = sent_in(_parts(data, last), f"messages[{last}].parts")
    if said and (said[-1].content or not images):
        checked(_message, said[-1].content, f"messages[{last}]")
    prompts = [message.content for message in messages if message.role == "system"]
    prompt = "\n\n".join(prompts) if prompts else None
    if prompt is not None:
        checked(_system_prompt, prompt, "messages")
    chat = ClientChat(
        fields["id"],
        said,
        prompt,
        fields.get("messageId"),
        again,
        results,
        messages[place].client_id if place >= 0 else None,
        goes_on,
        known(images),
    )
    return Asked(chat, options, fields.get("temporary", False), images)


def _last_results(messages: list[Said], last: int) -> tuple[int, bool]:
    """Return where the last answer is that may have called tools, -1 for nowhere; and if nothing was said after it."""
    if messages and messages[-1].role == "assistant":
        return len(messages) - 1, True
    return (last - 1 if last > 0 and messages[last - 1].role == "assistant" else -1), False


def _results(data: Mapping[str, Any], place: int) -> list[ToolResult]:
    try:
        return results_in(_parts(data, place))
    except serializers.ValidationError as error:
        raise InvalidRequest(errors={f"messages[{place}].parts": error.detail}) from None


def _parts(data: Mapping[str, Any], place: int) -> list[Any]:
    """Return the parts of one of the messages; none where it is nowhere, or has a text instead."""
    messages = data.get("messages")
    message = (messages[place] if isinstance(messages, list) else data["message"]) if place >= 0 else {}
    parts = message.get("parts")
    return parts if isinstance(parts, list) else []


def _messages(data: Mapping[str, Any]) -> list[Said]:
    """Return all messages; a page may send the last one alone, as ``message``."""
    if data.get("messages") is None and data.get("message") is not None:
        return [_said("message", data["message"])]
    messages = data.get("messages")
    if not isinstance(messages, list):
        raise refused("messages", _("A list of messages."))
    return [_said(f"messages[{place}]", message) for place, message in enumerate(messages)]


def _said(where: str, message: Any) -> Said:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise refused(where, _("A message has a role: system, user or assistant."))
    role, name = message["role"], message.get("id")
    if name is not None:
        checked(_name, name, f"{where}.id")
    texts = list(_texts(f"{where}.parts", message.get("parts", message.get("content"))))
    text, reasoning = ("\n".join(text for kind, text in texts if kind == wanted) for wanted in ("text", "reasoning"))
    checked(_text, text, where)
    checked(_text, reasoning, where)
    return Said(role, text, reasoning=reasoning if role == "assistant" else "", client_id=name)


def _texts(where: str, parts: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts of a message and their kinds; of what else it holds, nothing is said to a model."""
    if isinstance(parts, str):  # as clients before version 5 have it
        yield "text", parts
        return
    if not isinstance(parts, list):
        raise refused(where, _("A list of parts."))
    for place, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise refused(f"{where}[{place}]", _("A part has a type."))
        if kind in ("text", "reasoning"):
            if not isinstance(text := part.get("text"), str):
                raise refused(f"{where}[{place}]", _("This is no text."))
            yield kind, text

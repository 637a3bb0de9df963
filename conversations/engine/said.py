"""Stored messages as a model gets them: texts, images, calls of tools and what came of those. Plain values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..models import Message, calls_of, parts_of
from ..models.parts import IMAGE, TOOL_RESULT, Texts
from .completions import ChatMessage, CompletionRequest, Endpoint, Image, ToolCall

# Before the id of an image that is kept here.
ATTACHMENT = "attachment:"
# They are large, and some servers take no more with one call.
MOST_IMAGES = 20
NOT_SHOWN = "[an image that is not shown]"


def understood(endpoint: Endpoint, turn: list[ChatMessage]) -> list[ChatMessage]:
    """Return of what was said to other models before what this one is not known not to take."""
    if endpoint.takes_tools is False:
        turn = [replace(said, tool_calls=()) for said in turn if said.role != "tool" and (said.content or said.parts)]
    if endpoint.takes_images is False:
        turn = [replace(said, parts=()) for said in turn if said.content or not said.parts]
    return turn


def called(messages: Iterable[ChatMessage]) -> frozenset[str]:
    """Return the calls of which these messages have results."""
    return frozenset(message.tool_call_id for message in messages if message.role == "tool")


def paired(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Return the messages without results of calls that the answer right before them did not ask for.

    Models' servers refuse those, and a second result of one call.
    """
    kept: list[ChatMessage] = []
    waiting: set[str] = set()
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                continue
            waiting.discard(message.tool_call_id)
        else:
            waiting = {call.id for call in message.tool_calls}
        kept.append(message)
    return kept


def few_images(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return the messages with the newest ``MOST_IMAGES`` of their images: others are told of in words."""
    left = MOST_IMAGES
    found: list[ChatMessage] = []
    for message in reversed(messages):
        pictures = sum(isinstance(part, Image) for part in message.parts)
        if pictures > left:
            parts = (NOT_SHOWN if isinstance(part, Image) else part for part in message.parts)
            message = replace(message, parts=tuple(parts))
        else:
            left -= pictures
        found.append(message)
    return found[::-1]


def messages_of(message: Message, answered: frozenset[str]) -> list[ChatMessage]:
    """Return a stored message as a model gets it, perhaps as nothing; of its calls those that are ``answered``."""
    if message.role == Message.Role.TOOL:
        return results_of(message)
    if message.role == Message.Role.USER:
        said = user_message(message)
        return [said] if said.content.strip() or said.parts else []
    calls = tuple(ToolCall(*call) for call in calls_of(message) if call[0] in answered)
    if not calls and not message.content.strip():
        return []
    return [ChatMessage("assistant", message.content, tool_calls=calls, reasoning=message.reasoning if calls else "")]


def user_message(message: Texts) -> ChatMessage:
    """Return what a user said as a model gets it."""
    if message.parts is None:
        return ChatMessage("user", message.content)
    said = (
        Image(image_of(part["attachment_id"])) if part["type"] == IMAGE else text for part, text in parts_of(message)
    )
    return ChatMessage("user", message.content, parts=tuple(said))


def image_of(attachment_id: str) -> str:
    """Return what stands for the URL of an image until somebody looks it up."""
    return f"{ATTACHMENT}{attachment_id}"


def is_attachment(image: Image) -> bool:
    """Whether an image is one that is kept here, and has to be looked up."""
    return image.url.startswith(ATTACHMENT)


def images_in(messages: Iterable[ChatMessage]) -> list[str]:
    """Return the ids of the images that have to be looked up, each once, in their order."""
    parts = (part for message in messages for part in message.parts)
    urls = (part.url for part in parts if isinstance(part, Image) and is_attachment(part))
    return list(dict.fromkeys(url.removeprefix(ATTACHMENT) for url in urls))


def with_images(request: CompletionRequest, urls: Mapping[str, str]) -> CompletionRequest:
    """Return the request with these images in their places, by their ids; those that are not there are told of."""
    looked_up = {image_of(attachment_id): Image(url) for attachment_id, url in urls.items()}

    def seen(message: ChatMessage) -> ChatMessage:
        parts = (looked_up.get(part.url, NOT_SHOWN) if isinstance(part, Image) else part for part in message.parts)
        return replace(message, parts=tuple(parts)) if message.parts else message

    return replace(request, messages=tuple(map(seen, request.messages)))


def results_of(message: Texts) -> list[ChatMessage]:
    """Return the results of tools in a message, each as a model gets it."""
    return [
        ChatMessage("tool", text, tool_call_id=part["id"])
        for part, text in (parts_of(message) if message.parts else ())
        if part["type"] == TOOL_RESULT
    ]

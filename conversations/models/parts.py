"""The parts of a message, in their order: what its columns of text alone cannot say.

``Message.parts`` is a list, or None where the reasoning and then the content are all there is. The texts themselves
are in the columns, each kind's joined, and a part has ``chars``, how many characters of those are its own::

    {"type": "reasoning", "chars": 12}                                   of ``reasoning``
    {"type": "text", "chars": 40}                                        of ``content``
    {"type": "tool_call", "id": "…", "name": "…", "chars": 17}           of ``arguments``
    {"type": "tool_call", "of": 0, "chars": 3}                           more of the call with that number
    {"type": "tool_result", "id": "…", "chars": 5}                       of ``content``; the id is the call's
    {"type": "image", "attachment_id": "…"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

REASONING, TEXT, TOOL_CALL, TOOL_RESULT, IMAGE = "reasoning", "text", "tool_call", "tool_result", "image"
# Which column has a part's text.
COLUMNS = {REASONING: "reasoning", TEXT: "content", TOOL_CALL: "arguments", TOOL_RESULT: "content"}
# What each text is called where parts are shown.
_SHOWN = {REASONING: "text", TEXT: "text", TOOL_CALL: "arguments", TOOL_RESULT: "content"}

Part = dict[str, Any]


class Texts(Protocol):
    """A message's texts and parts."""

    @property
    def content(self) -> str: ...

    @property
    def reasoning(self) -> str: ...

    @property
    def arguments(self) -> str | None: ...

    @property
    def parts(self) -> Sequence[Part] | None: ...


class ToolResult(NamedTuple):
    """What came of a call of a tool: the call's ``id``, and the text that the model gets to see."""

    id: str
    content: str


def parts_of(message: Texts) -> Iterator[tuple[Part, str]]:
    """Yield each part and its text, in their order; an image's is ``""``."""
    parts = message.parts
    if parts is None:
        parts = [
            {"type": kind, "chars": len(text)}
            for kind, text in ((REASONING, message.reasoning), (TEXT, message.content))
            if text
        ]
    read = dict.fromkeys(COLUMNS.values(), 0)
    for part in parts:
        column = COLUMNS.get(part["type"])
        if column is None:
            yield part, ""
            continue
        begin, read[column] = read[column], read[column] + part["chars"]
        yield part, (getattr(message, column) or "")[begin : read[column]]


def whole_parts(message: Texts) -> list[Part]:
    """Return the parts as they are shown: each with its text, and calls with all of their arguments."""
    shown: list[Part] = []
    calls: list[Part] = []
    for part, text in parts_of(message):
        if "of" in part:
            calls[part["of"]]["arguments"] += text
            continue
        said = {name: value for name, value in part.items() if name != "chars"}
        shown.append({**said, _SHOWN[part["type"]]: text} if part["type"] in _SHOWN else said)
        if part["type"] == TOOL_CALL:
            calls.append(shown[-1])
    return shown


def calls_of(message: Texts) -> list[tuple[str, str, str]]:
    """Return the calls of an answer, as (id, name, arguments)."""
    parts = whole_parts(message) if message.parts else ()
    return [(part["id"], part["name"], part["arguments"]) for part in parts if part["type"] == TOOL_CALL]


def result_parts(results: Iterable[ToolResult]) -> list[Part]:
    """Return the parts of a message that is these results; its content is theirs, joined."""
    return [{"type": TOOL_RESULT, "id": result.id, "chars": len(result.content)} for result in results]


def call_parts(text: str, calls: Iterable[tuple[str, str, str]]) -> tuple[str, list[Part]]:
    """Return all arguments joined and the parts of an answer: its text, and then calls as (id, name, arguments)."""
    parts: list[Part] = [{"type": TEXT, "chars": len(text)}] if text else []
    arguments = []
    for key, name, said in calls:
        arguments.append(said or "{}")
        parts.append({"type": TOOL_CALL, "id": key, "name": name, "chars": len(arguments[-1])})
    return "".join(arguments), parts


def image_ids(message: Texts) -> list[str]:
    """Return the ids of the images that a message shows."""
    return [part["attachment_id"] for part in message.parts or () if part["type"] == IMAGE]


def image_parts(attachment_ids: Iterable[Any], text: str) -> list[Part] | None:
    """Return the parts of a user's message that shows images before its text."""
    images: list[Part] = [{"type": IMAGE, "attachment_id": str(each)} for each in attachment_ids]
    if images and text:
        images.append({"type": TEXT, "chars": len(text)})
    return images or None

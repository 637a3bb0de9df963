"""Messages of OpenAI's format for models that know fewer roles, want them in turn, or more beside. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

# What the user said where the assistant spoke first: something has to stand there, and it should say nothing.
OPENING = "."
# Where a message has what the assistant thought. Empty it counts as missing (Kimi).
REASONING = "reasoning_content"
_NO_THOUGHT = " "
# What Google's documents name for calls whose signature is not there.
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_TURNS = ("user", "assistant")


def without_system(messages: list[Message]) -> list[Message]:
    """Return the messages with what the system prompt says before the first user's."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    if not system or not others:
        return messages
    if others[0]["role"] != "user":
        return [{"role": "user", "content": _joined(system)}, *others]
    return [{**others[0], "content": _joined([*system, others[0]["content"]])}, *others[1:]]


def in_turns(messages: list[Message]) -> list[Message]:
    """Return the messages with user and assistant in turn, the user first, after one system prompt.

    Neighbours of one role are one message. What tools answered stays as it is: each belongs to a call of its own; the
    assistant says something before the user goes on.
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    others = (message for message in messages if message["role"] != "system")
    turns: list[Message] = []
    for role, group in groupby(others, itemgetter("role")):
        if turns and turns[-1]["role"] == "tool" and role == "user":
            turns.append({"role": "assistant", "content": OPENING})
        neighbours = list(group)
        turns += [_one_of(neighbours)] if role in _TURNS else neighbours
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": OPENING})
    return [{"role": "system", "content": _joined(system)}, *turns] if system else turns


def are_in_turns(messages: list[Message]) -> bool:
    """Whether ``in_turns`` would change nothing."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns or turns[:1] == ["assistant"]:
        return False
    return not any(
        (role in _TURNS and role == before) or (before, role) == ("tool", "user") for before, role in pairwise(turns)
    )


def without_thoughts(messages: list[Message]) -> list[Message]:
    """Return the messages without what the assistant thought: most servers do not know the field, some refuse it."""
    if not any(REASONING in message for message in messages):
        return messages
    return [{name: value for name, value in message.items() if name != REASONING} for message in messages]


def with_thoughts(messages: list[Message]) -> list[Message]:
    """Return the messages with what the assistant thought beside each of its own.

    What it thought before the newest question says nothing any more, but something has to be there.
    """
    asked = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return [
        {**message, REASONING: (message.get(REASONING) if place > asked else "") or _NO_THOUGHT}
        if message["role"] == "assistant"
        else message
        for place, message in enumerate(messages)
    ]


def with_signatures(messages: list[Message]) -> list[Message]:
    """Return the messages with something in place of the signature of a thought, at the first call of each."""
    return [_signed(message) if message.get("tool_calls") else message for message in messages]


def _signed(message: Message) -> Message:
    first, *others = message["tool_calls"]
    return {**message, "tool_calls": [{**first, "extra_content": _NO_SIGNATURE}, *others]}


def _one_of(neighbours: list[Message]) -> Message:
    """Join messages of one role: all at once, as there may be thousands."""
    if len(neighbours) == 1:
        return neighbours[0]
    one: Message = {}
    for message in neighbours:
        one |= message
    one["content"] = _joined(message["content"] for message in neighbours)
    if calls := [call for message in neighbours for call in message.get("tool_calls", ())]:
        one["tool_calls"] = calls
    if REASONING in one:
        one[REASONING] = _joined(message.get(REASONING) for message in neighbours)
    if len({message.get("name") for message in neighbours}) > 1:
        one.pop("name", None)
    return one


def _joined(contents: Iterable[Any]) -> Any:
    """Texts as one text; parts, where there are any; None where nothing is said."""
    said = [content for content in contents if content]
    if all(isinstance(content, str) for content in said):
        return "\n\n".join(said) or None
    return [part for content in said for part in _parts(content)]


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]

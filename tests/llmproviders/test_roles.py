"""Messages put in turn, without a server."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmproviders.roles import are_in_turns, in_turns

ROLES = st.sampled_from(["system", "user", "assistant", "tool"])


def messages_of(roles: list[str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": f"{role} {number}"} for number, role in enumerate(roles)]


@given(st.lists(ROLES, max_size=8))
def test_what_is_in_turns_is_told_without_putting_it_so(roles: list[str]) -> None:
    messages = messages_of(roles)
    assert are_in_turns(messages) == (in_turns(messages) == messages)
    assert are_in_turns(in_turns(messages))


def test_neighbours_of_one_role_are_one_message() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "a", "name": "ann"},
        {"role": "user", "content": "b", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": "c", "tool_calls": [{"id": "2"}]},
        {"role": "user", "content": "d", "name": "ann"},
        {"role": "user", "content": [picture]},
        {"role": "user", "content": "e", "name": "ann"},
    ]
    assert in_turns(messages) == [
        {"role": "user", "content": "a\n\nb", "name": "ann"},
        {"role": "assistant", "content": "c", "tool_calls": [{"id": "1"}, {"id": "2"}]},
        {"role": "user", "content": [{"type": "text", "text": "d"}, picture, {"type": "text", "text": "e"}]},
    ]


def test_what_was_thought_of_neighbours_stays_in_order() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "first"},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d", "reasoning_content": "second"},
    ]
    joined = {"role": "assistant", "content": "b\n\nc\n\nd", "reasoning_content": "first\n\nsecond"}
    assert in_turns(messages) == [messages[0], joined]

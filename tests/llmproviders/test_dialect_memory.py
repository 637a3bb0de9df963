"""What of the changes that refusals led to is remembered, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmproviders.dialect import Dialect, Memory, Wish, memory

KEY = ("url", "m", "key")
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "roles must alternate"}
PLAIN: dict[str, Any] = {"model": "m", "stream": True, "seed": 1, "messages": [SYSTEM, USER]}


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    memory.forget()
    yield
    memory.forget()


def refusal_of(reason: str) -> bytes:
    return json.dumps({"error": {"message": reason}}).encode()


@pytest.mark.parametrize(
    "echo",
    [
        "[{{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Input is not permitted', 'input': {}}}]",
        "1 validation error for Request seed Extra inputs are not permitted [type=extra_forbidden, input_value={}]",
    ],
)
def test_what_a_refusal_repeats_of_the_request_is_no_reason(echo: str) -> None:
    wish = Wish(KEY, PLAIN)
    assert wish.refused(400, refusal_of(echo.format(PLAIN)))
    assert wish.body == {name: value for name, value in PLAIN.items() if name != "seed"}


def test_several_fields_that_are_refused_at_once_are_left_out_at_once() -> None:
    names = ("stop", "user", "seed")
    wish = Wish(KEY, {**PLAIN, "stop": ["x"], "user": "kim"})
    said = [
        {"type": "extra_forbidden", "loc": ("body", name), "msg": "Extra inputs are not permitted", "input": ["x"]}
        for name in names
    ]
    assert wish.refused(400, refusal_of(str(said)))
    assert wish.body == {name: value for name, value in PLAIN.items() if name != "seed"}


def test_a_change_after_which_the_refusal_is_the_same_is_not_remembered() -> None:
    wish = Wish(KEY, PLAIN)
    for _time in range(2):
        assert wish.refused(400, refusal_of("Invalid value: 'roles must alternate'. Unknown parameter: seed"))
    wish.accepted()
    assert memory.recall(KEY) == Dialect(without=frozenset({"seed"}))


def test_one_reason_for_two_parameters_is_not_the_same() -> None:
    wish = Wish(KEY, {**PLAIN, "temperature": 1})
    for name in ("seed", "temperature"):
        detail = {"msg": "Extra inputs are not permitted", "loc": ["body", name]}
        assert wish.refused(422, json.dumps({"detail": [detail]}).encode())
    wish.accepted()
    assert memory.recall(KEY) == Dialect(without=frozenset({"seed", "temperature"}))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("streaming is not supported", "without a stream"),
        ("max_tokens is too large: 5000. At most 100 tokens.", "for a shorter answer"),
        ("Unsupported parameter: max_tokens. Use max_completion_tokens.", "with max_completion_tokens"),
        ("Conversation roles must alternate", "with roles in turn"),
        ("System role not supported", "without the system role"),
        ("reasoning_content is missing", "with thoughts"),
        ("missing a thought_signature", "with signatures"),
        ("seed must be at most 0", "with other seed"),
        ("Unknown parameters: seed, top_p", "without seed, top_p"),
    ],
)
def test_how_it_is_asked_once_more_is_logged(caplog: pytest.LogCaptureFixture, reason: str, told: str) -> None:
    caplog.set_level("INFO", "llmproviders")
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}
    wish = Wish(KEY, {**PLAIN, "top_p": 1, "max_tokens": 5000, "messages": [SYSTEM, USER, USER, called]})
    assert wish.refused(400, refusal_of(reason))
    assert caplog.messages == [f"model=m refused; asked once more {told}"]


def test_two_changes_for_one_reason_are_known_after_two_calls() -> None:
    body = {**PLAIN, "messages": [SYSTEM, USER, USER]}
    for refusals in (2, 1, 0):
        wish = Wish(KEY, body)
        for _time in range(refusals):
            assert wish.refused(400, refusal_of("Conversation roles must alternate"))
        assert [message["role"] for message in wish.body["messages"]] == ["user"]
        wish.accepted()


def test_a_bound_for_one_prompt_leaves_the_one_for_all() -> None:
    known = Dialect(bounds={"max_tokens": (1, 3000)})
    memory.keep(KEY, known)
    wish = Wish(KEY, {**PLAIN, "max_tokens": 5000})
    assert wish.refused(400, refusal_of("max_tokens is too large: 3000. There is no room (3000 > 4096 - 3000)."))
    assert wish.body["max_tokens"] == 1096
    wish.accepted()
    assert memory.recall(KEY) == known


def test_the_memory_is_bounded_and_forgets() -> None:
    now = 0.0
    known = Memory(size=2, seconds=10, clock=lambda: now)
    for name in "abc":
        known.keep((name, "m", ""), Dialect(whole=True))
    assert [known.recall((name, "m", "")).whole for name in "abc"] == [False, True, True]
    now = 10.0
    assert not known.recall(("b", "m", "")).whole

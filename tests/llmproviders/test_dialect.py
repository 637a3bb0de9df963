"""Refusals that name what they do not take: met once with that changed, and remembered for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from llmproviders import ChatMessage, CompletionRequest, ContentDelta
from llmproviders import exceptions as e
from llmproviders.backends.openai_compatible import OpenAICompatible
from llmproviders.dialect import Dialect, memory
from llmproviders.types import ToolCall
from tests.llmproviders.conftest import Ask, endpoint
from tests.upstream import ScriptedUpstream, answer, status

RENAME = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported."
)
EXTRA = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    memory.forget()
    yield
    memory.forget()


def refuse(message: str, answered: int = 400, **error: Any) -> Any:
    return status(answered, {"error": {"message": message, **error}})


async def test_a_reasoning_model_is_asked_as_it_wants_and_remembered(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [
        refuse(RENAME, param="max_tokens", code="unsupported_parameter"),
        refuse(TEMPERATURE, param="temperature", code="unsupported_value"),
        answer("a"),
        answer("b"),
    ]
    for text in ("a", "b"):
        outcome = await ask()
        assert (outcome.content, outcome.error) == (text, None)
    bodies = [call.body for call in upstream.completions]
    assert [("max_tokens" in body, "max_completion_tokens" in body, "temperature" in body) for body in bodies] == [
        (True, False, True),
        (False, True, True),
        (False, True, False),
        (False, True, False),
    ]
    assert bodies[-1]["max_completion_tokens"] == 2000


@pytest.mark.parametrize(
    ("refusal", "changed"),
    [
        (status(422, {"detail": [{**EXTRA, "loc": ["body", "stream_options"]}]}), {"stream_options": None}),
        (refuse("Unrecognized request argument supplied: stream_options"), {"stream_options": None}),
        (refuse("got an unexpected keyword argument 'temperature'", 500), {"temperature": None}),
        (refuse("Unsupported parameters: temperature, stream_options"), {"temperature": None, "stream_options": None}),
        (refuse("temperature: range: [0, 0.5]"), {"temperature": 0.5}),
        (refuse("temperature must be in (0.0, 0.7)"), {"temperature": 0.69}),
        (refuse("temperature must be less than or equal to 0.3"), {"temperature": 0.3}),
        (refuse("`temperature` must be >= 1"), {"temperature": 1.0}),
        (refuse("max_tokens is too large: 2000. This model supports at most 1024 tokens."), {"max_tokens": 1024}),
        (refuse("Range of max_tokens should be [1, 1500]"), {"max_tokens": 1500}),
        (refuse("'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context length is"
                " 1024 tokens and your request has 20 input tokens (2000 > 1024 - 20)."), {"max_tokens": 1004}),
        (refuse("Your organization must be verified to stream this model.", param="stream"),
         {"stream": False, "stream_options": None}),
        (refuse("'stream' does not support true with this model. Only the default (false) value is supported."),
         {"stream": False, "stream_options": None}),
    ],
)  # fmt: skip
async def test_what_a_refusal_names_is_changed(
    ask: Ask, upstream: ScriptedUpstream, refusal: Any, changed: dict[str, Any]
) -> None:
    upstream.script = [refusal, answer("fine")]
    assert (await ask()).content == "fine"
    first, second = [call.body for call in upstream.completions]
    assert second == {name: value for name, value in {**first, **changed}.items() if value is not None}


async def test_a_system_prompt_where_there_is_no_such_role(upstream: ScriptedUpstream) -> None:
    upstream.script = [refuse("System role not supported"), answer("fine")]
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "Hello"))
    async with aclosing(OpenAICompatible(endpoint(upstream.url)).stream(CompletionRequest(messages))) as deltas:
        assert ContentDelta("fine") in [delta async for delta in deltas]
    assert upstream.completions[1].body["messages"] == [{"role": "user", "content": "Be brief.\n\nHello"}]


ASKED = ChatMessage("user", "Will it rain?")
CALLED = ChatMessage("assistant", "I look.", tool_calls=(ToolCall("a", "weather", "{}"),), reasoning="Rain?")
FOUND = ChatMessage("tool", "no", tool_call_id="a")
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


async def sent(upstream: ScriptedUpstream, refusal: Any, *messages: ChatMessage) -> list[list[dict[str, Any]]]:
    """What is asked of a server that refuses once, by call, and in a call after that."""
    upstream.script = [refusal, answer("fine"), answer("fine")]
    for _call in range(2):
        async with aclosing(OpenAICompatible(endpoint(upstream.url)).stream(CompletionRequest(messages))) as deltas:
            assert ContentDelta("fine") in [delta async for delta in deltas]
    return [call.body["messages"] for call in upstream.completions]


@pytest.mark.parametrize(
    "reason",
    [
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "Missing `reasoning_content` field in the assistant message at message index 1.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
    ],
)
async def test_thoughts_go_back_to_who_wants_them(upstream: ScriptedUpstream, reason: str) -> None:
    """Those of the turn that goes on; of others a blank, as nothing counts as missing. Nobody else gets any."""
    earlier = (ASKED, CALLED, FOUND, ChatMessage("assistant", "No."))
    first, *others = await sent(upstream, refuse(reason), *earlier, ASKED, CALLED, FOUND)
    assert not any("reasoning_content" in message for message in first)
    for messages in others:
        thoughts = [message.get("reasoning_content") for message in messages]
        assert thoughts == [None, " ", None, " ", None, "Rain?", None]


@pytest.mark.parametrize(
    "reason",
    [
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work.",
        "Unable to submit request because function call `f` in the 2. content block is missing a `thought_signature`.",
    ],
)
async def test_calls_without_a_signature_get_what_stands_for_one(upstream: ScriptedUpstream, reason: str) -> None:
    called = replace(CALLED, tool_calls=(*CALLED.tool_calls, ToolCall("b", "weather", "{}")))
    first, *others = await sent(upstream, refuse(reason), ASKED, called, FOUND, replace(FOUND, tool_call_id="b"))
    assert first[1]["tool_calls"] == [CALL, {**CALL, "id": "b"}]
    for messages in others:
        signed, plain = messages[1]["tool_calls"]
        assert signed == {**CALL, "extra_content": signed["extra_content"]}
        assert signed["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}
        assert plain == {**CALL, "id": "b"}


@pytest.mark.parametrize(
    ("known", "reason", "messages"),
    [
        (Dialect(with_thoughts=True), "reasoning_content is missing", (ASKED, CALLED, FOUND)),
        (Dialect(with_signatures=True), "Function call is missing a thought_signature", (ASKED, CALLED, FOUND)),
        (Dialect(in_turns=True), "Conversation roles must alternate", (ASKED, ASKED)),
        (Dialect(no_system=True), "System role not supported", (ChatMessage("system", "Be brief."),)),
    ],
)
@pytest.mark.parametrize(("also", "asked"), [("", [True]), ("; also unsupported: temperature", [True, False])])
async def test_what_is_done_already_is_not_asked_for_again(
    upstream: ScriptedUpstream,
    known: Dialect,
    reason: str,
    messages: tuple[ChatMessage, ...],
    also: str,
    asked: list[bool],
) -> None:
    memory.keep((upstream.url, "test-model", "sk-test-0123456789"), known)
    upstream.script = [refuse(reason + also), refuse("No")]
    with pytest.raises(e.UpstreamBadRequest):
        await anext(OpenAICompatible(endpoint(upstream.url)).stream(CompletionRequest(messages)))
    assert ["temperature" in call.body for call in upstream.completions] == asked


@pytest.mark.parametrize(
    "refusal",
    [
        refuse("Unexpected role 'user' after role 'tool'", code="3230"),
        refuse("After the optional system message, conversation roles must alternate user and assistant roles", 500),
    ],
)
async def test_a_question_after_results_that_nobody_answered(upstream: ScriptedUpstream, refusal: Any) -> None:
    first, *others = await sent(upstream, refusal, ASKED, CALLED, FOUND, ChatMessage("user", "Hello?"))
    assert [message["role"] for message in first] == ["user", "assistant", "tool", "user"]
    for messages in others:
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
        assert messages[3]["content"]


@pytest.mark.parametrize("code", [400, 422, 500])
async def test_a_template_whose_first_turn_is_the_users(upstream: ScriptedUpstream, code: int) -> None:
    reason = "Conversation roles must alternate user/assistant/user/assistant/..."
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "Hello"))
    first, *others = await sent(upstream, refuse(reason, code), *messages)
    assert len(first) == 2
    assert others == [[{"role": "user", "content": "Be brief.\n\nHello"}]] * 2


async def test_a_server_that_knows_the_older_name_only(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(422, {"detail": [{**EXTRA, "loc": ["body", "max_completion_tokens"]}]}), answer("fine")]

    told = replace(endpoint(upstream.url), parameters={"max_tokens": "max_completion_tokens", "temperature": None})
    request = CompletionRequest((ChatMessage("user", "Hi"),), max_tokens=7)
    async with aclosing(OpenAICompatible(told).stream(request)) as deltas:
        assert ContentDelta("fine") in [delta async for delta in deltas]
    first, second = [call.body for call in upstream.completions]
    assert (first["max_completion_tokens"], second["max_tokens"]) == (7, 7)
    assert "temperature" not in first | second


async def test_a_whole_answer_after_a_stream_was_refused(ask: Ask, upstream: ScriptedUpstream) -> None:
    document = {"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}
    upstream.script = [refuse("must be verified to stream this model"), status(200, document)]
    assert (await ask()).content == "whole"


async def test_each_change_is_made_once_only(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [refuse(TEMPERATURE)] * 9
    assert type((await ask()).error) is e.UpstreamBadRequest
    assert upstream.calls == 2
    assert memory.recall((upstream.url, "test-model", "sk-test-0123456789")) == Dialect()


async def test_two_names_do_not_go_round_in_circles(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [refuse(RENAME), refuse("Unknown parameter: max_completion_tokens")] * 5
    assert type((await ask()).error) is e.UpstreamBadRequest
    assert upstream.calls == 3


async def test_what_was_good_for_one_prompt_only_is_not_remembered(ask: Ask, upstream: ScriptedUpstream) -> None:
    text = "'max_tokens' is too large: 2000. This model's maximum context length is 1024 tokens (2000 > 1024 - 20)."
    upstream.script = [refuse(text), answer("a"), answer("b")]
    await ask()
    await ask()
    assert [call.body["max_tokens"] for call in upstream.completions] == [2000, 1004, 2000]


@pytest.mark.parametrize(
    "refusal",
    [
        refuse("No such model"),
        refuse("Temperatures in the prompt are not our business"),
        refuse("the temperature of your key", 401),
        status(400, {"detail": [{"loc": ["body", "x"], "msg": "Field required", "input": {"temperature": 1}}]}),
    ],
)
async def test_other_refusals_are_final(ask: Ask, upstream: ScriptedUpstream, refusal: Any) -> None:
    upstream.script = [refusal]
    assert (await ask()).error is not None
    assert upstream.calls == 1

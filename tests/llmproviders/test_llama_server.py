"""llama.cpp's own server as an upstream, in both of the formats that it speaks: OpenAI's and Anthropic's.

A real server with a real model (the demo one), in a process of its own. The model's own chat template has no tools,
and the server passes over them in silence then: it is started with one that has.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from llmproviders import ChatMessage, CompletionFinished, CompletionRequest, Delta, Endpoint, local
from llmproviders.exceptions import ContextLengthExceeded, ProviderError, UpstreamAuthenticationFailed
from llmproviders.management import asking
from llmproviders.management.learning import learn_all
from llmproviders.net.http import close_client
from llmproviders.registry import get_provider
from llmproviders.types import ContentDelta, Image, Tool, ToolCall, ToolCallDelta

from .test_local import MISSING, Limits

pytestmark = [
    pytest.mark.local_model,
    pytest.mark.skipif(MISSING, reason="the embedded model is not installed, and the environment allows that"),
]
HERE = Path(__file__).parent
KEY, WINDOW = "sk-llama-0123456789", 1024
BACKENDS = ("openai_compatible", "anthropic")
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Bonn", "Paris"]}}, "required": ["city"]}
WEATHER = Tool("weather", "", CITY)
# What a model of this size says of its own accord is chance. What it repeats is not, and that it is JSON the
# server's grammar sees to.
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


@dataclass
class Llama:
    """Where it listens."""

    base_url: str
    key: str = field(default=KEY, repr=False)


@pytest.fixture(scope="module")
def llama() -> Iterator[Llama]:
    """One server for all tests here: they load the model once."""
    script, template = str(HERE / "llama_process.py"), str(HERE / "llama_tools.jinja")
    command = [sys.executable, "-P", script, str(local.model_path()), template, str(WINDOW)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "LLAMA_API_KEY": KEY}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Llama(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


@pytest_asyncio.fixture(autouse=True)
async def patience(limits: Limits) -> AsyncIterator[None]:
    limits(FIRST_TOKEN_TIMEOUT=240.0, BETWEEN_TOKENS_TIMEOUT=240.0, TOTAL_TIMEOUT=300.0)
    yield
    await close_client()


@pytest.fixture(params=BACKENDS)
def endpoint(request: pytest.FixtureRequest, llama: Llama) -> Endpoint:
    return endpoint_of(llama, request.param)


def endpoint_of(llama: Llama, backend: str, **fields: Any) -> Endpoint:
    url = f"{llama.base_url}/v1"
    return Endpoint("llama", "Llama", url, "smollm2", **{"api_key": KEY, "backend": backend, **fields})


def request(*messages: ChatMessage | str, **options: Any) -> CompletionRequest:
    said = tuple(ChatMessage("user", message) if isinstance(message, str) else message for message in messages)
    return CompletionRequest(said, **{"temperature": 0.0, "max_tokens": 8, **options})


async def ask(endpoint: Endpoint, asked: CompletionRequest) -> list[Delta]:
    async with aclosing(get_provider(endpoint).stream(asked)) as deltas:  # type: ignore[type-var]
        return [delta async for delta in deltas]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta))


def end(deltas: list[Delta]) -> CompletionFinished:
    assert isinstance(deltas[-1], CompletionFinished)
    return deltas[-1]


def calls(deltas: list[Delta]) -> list[ToolCall]:
    found: list[ToolCall] = []
    for delta in deltas:
        if isinstance(delta, ToolCallDelta):
            if delta.index == len(found):
                found.append(ToolCall(delta.id, delta.name))
            last = found[delta.index]
            found[delta.index] = ToolCall(last.id, last.name, last.arguments + delta.arguments)
    return found


# Answers ------------------------------------------------------------------------------------------------------------
async def test_a_plain_answer_with_its_counts(endpoint: Endpoint) -> None:
    deltas = await ask(endpoint, request("Say hello.", max_tokens=12))
    assert len(text(deltas).split()) > 1
    assert "<|im" not in text(deltas)
    usage = end(deltas).usage
    assert usage is not None
    assert usage.prompt_tokens > 5
    assert 0 < usage.completion_tokens <= 12
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert end(deltas).model


async def test_both_formats_count_and_say_the_same(llama: Llama) -> None:
    asked = request("Name a colour.")
    one, other = [await ask(endpoint_of(llama, backend), asked) for backend in BACKENDS]
    assert text(one) == text(other)
    assert end(one).usage == end(other).usage


async def test_max_tokens_ends_it(endpoint: Endpoint) -> None:
    finished = end(await ask(endpoint, request("Tell me a long story.", max_tokens=3)))
    assert finished.finish_reason == "length"
    assert finished.usage is not None
    assert finished.usage.completion_tokens == 3


async def test_a_stop_text_ends_it(endpoint: Endpoint) -> None:
    said = text(await ask(endpoint, request("Say hello.", max_tokens=8)))
    word = said.split()[1]
    deltas = await ask(endpoint, request("Say hello.", max_tokens=8, params={"stop": [word]}))
    assert end(deltas).finish_reason == "stop"
    assert word not in text(deltas)
    assert said.startswith(text(deltas).rstrip())


async def test_what_it_is_told_counts(endpoint: Endpoint) -> None:
    """A system prompt, the history, and who said what; also where there is no role for the first."""
    asked = request(
        ChatMessage("system", "Your name is Bob."),
        "Hello, my name is Anna.",
        ChatMessage("assistant", "Hello Anna!"),
        "What is my name?",
        max_tokens=20,
    )
    deltas = await ask(endpoint, asked)
    assert "Anna" in text(deltas)
    without = await ask(endpoint, CompletionRequest(asked.messages[1:], temperature=0.0, max_tokens=1))
    with_it, less = end(deltas).usage, end(without).usage
    assert with_it is not None
    assert less is not None
    assert with_it.prompt_tokens > less.prompt_tokens


async def test_without_a_system_role_and_in_turns(llama: Llama) -> None:
    asked = request(ChatMessage("system", "Be brief."), "I have a question.", "Name a colour.", max_tokens=3)
    for backend in BACKENDS:
        endpoint = endpoint_of(llama, backend, takes_system=False, alternates=True)
        assert text(await ask(endpoint, asked))


async def test_closing_it_stops_the_work(endpoint: Endpoint, llama: Llama) -> None:
    stream = get_provider(endpoint).stream(request("Tell me a long story.", max_tokens=900))
    async with aclosing(stream) as deltas:  # type: ignore[type-var]
        async for _delta in deltas:
            assert await busy(llama) == 1
            break
    async with asyncio.timeout(60):
        while await busy(llama):  # noqa: ASYNC110  (nothing tells us)
            await asyncio.sleep(0.2)


async def busy(llama: Llama) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        slots = await client.get(f"{llama.base_url}/slots", headers={"Authorization": f"Bearer {KEY}"})
        return sum(slot["is_processing"] for slot in slots.json())


# Tools --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("choice", ["required", "auto", {"type": "function", "function": {"name": "weather"}}])
async def test_a_call_is_streamed_and_its_arguments_are_what_the_schema_says(endpoint: Endpoint, choice: Any) -> None:
    asked = request(f"Repeat this: {CALL}", max_tokens=60, tools=(WEATHER,), params={"tool_choice": choice})
    deltas = await ask(endpoint, asked)
    call, *_once_more = calls(deltas)  # a small model repeats itself
    assert call.id
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
    assert end(deltas).finish_reason == "tool_calls"
    assert text(deltas).strip() == ""


async def test_the_grammar_holds_what_the_model_would_say_otherwise(endpoint: Endpoint) -> None:
    only_bonn = Tool("weather", "", {**CITY, "properties": {"city": {"type": "string", "enum": ["Bonn"]}}})
    asked = request(f"Repeat this: {CALL}", max_tokens=60, tools=(only_bonn,), params={"tool_choice": "required"})
    call, *_once_more = calls(await ask(endpoint, asked))
    assert json.loads(call.arguments) == {"city": "Bonn"}


async def test_it_goes_on_with_a_tool_s_result(endpoint: Endpoint) -> None:
    question = ChatMessage("user", "What is the weather in Paris?")
    made = ChatMessage("assistant", tool_calls=(ToolCall("call_1", "weather", '{"city": "Paris"}'),))
    result = ChatMessage("tool", "It is snowing in Paris.", tool_call_id="call_1")
    asked = CompletionRequest((question, made, result), temperature=0.0, max_tokens=20, tools=(WEATHER,))
    deltas = await ask(endpoint, asked)
    assert "snow" in text(deltas).lower()
    assert calls(deltas) == []


# What it refuses ----------------------------------------------------------------------------------------------------
async def test_a_prompt_that_is_too_long(endpoint: Endpoint) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await ask(endpoint, request("word " * (WINDOW + 200)))
    assert caught.value.limit == WINDOW
    assert (caught.value.prompt_tokens or 0) > WINDOW


async def test_a_wrong_key(endpoint: Endpoint, llama: Llama) -> None:
    with pytest.raises(UpstreamAuthenticationFailed):
        await ask(endpoint_of(llama, endpoint.backend, api_key="sk-wrong"), request("hi"))


async def test_an_image(endpoint: Endpoint) -> None:
    """Refused with a 500, which says why: it loads no projector."""
    picture = ChatMessage("user", parts=("What is this?", Image(asking.picture())))
    with pytest.raises(ProviderError, match="image input is not supported"):
        await ask(endpoint, request(picture))


async def test_it_is_found_out_what_it_takes(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLAIN", "SYSTEM", "WARM", "TWICE", "SEEN", "CALLED", "MADE_TO_CALL"):
        monkeypatch.setattr(asking, name, replace(getattr(asking, name), max_tokens=8))
    (learned,) = await learn_all([endpoint], timeout=240.0)
    outcomes = {finding.field: (finding.outcome, finding.found) for finding in learned.findings}
    assert outcomes["takes_images"] == ("refused", False)
    assert outcomes["takes_system"] == ("taken", True)
    assert outcomes["alternates"] == ("taken", False)
    assert outcomes["parameters"] == ("taken", {})
    assert learned.code == ""

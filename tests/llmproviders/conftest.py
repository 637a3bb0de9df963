"""What the provider tests share: an endpoint at the scripted upstream, and asking it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from llmproviders import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    ProviderError,
    ReasoningDelta,
    ThoughtSoFar,
)
from llmproviders.backends.openai_compatible import OpenAICompatible
from tests.upstream import ScriptedUpstream

KEY = "sk-test-0123456789"


@dataclass
class Outcome:
    """All that came of one call."""

    deltas: list[Delta] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def content(self) -> str:
        return self._texts()[1]

    @property
    def reasoning(self) -> str:
        return self._texts()[0]

    def _texts(self) -> tuple[str, str]:
        reasoning = content = ""
        for delta in self.deltas:
            if isinstance(delta, ThoughtSoFar):
                reasoning, content = reasoning + content, ""
            elif isinstance(delta, ContentDelta):
                content += delta.text
            elif isinstance(delta, ReasoningDelta):
                reasoning += delta.text
        return reasoning, content

    @property
    def finished(self) -> CompletionFinished:
        assert self.error is None, self.error
        *before, last = self.deltas
        assert isinstance(last, CompletionFinished)
        assert not any(isinstance(delta, CompletionFinished) for delta in before)
        return last


Ask = Callable[..., Awaitable[Outcome]]
Limits = Callable[..., None]


def request(text: str = "Hello", **options: Any) -> CompletionRequest:
    return CompletionRequest((ChatMessage("user", text),), **options)


def endpoint(url: str, *, key: str = KEY, **fields: Any) -> Endpoint:
    return Endpoint("test", "Test", url, "test-model", api_key=key, **fields)


@pytest.fixture
def ask(upstream: ScriptedUpstream) -> Ask:
    """Ask the scripted upstream (or ``url``) and collect what comes."""

    async def asked(text: str = "Hello", *, url: str = "", key: str = KEY, **fields: Any) -> Outcome:
        outcome = Outcome()
        provider = OpenAICompatible(endpoint(url or upstream.url, key=key, **fields))
        try:
            async with aclosing(provider.stream(request(text))) as deltas:
                async for delta in deltas:
                    outcome.deltas.append(delta)
        except ProviderError as error:
            outcome.error = error
        return outcome

    return asked


@pytest.fixture
def limits(settings: Any) -> Callable[..., None]:
    """Set keys of ``LLMPROVIDERS`` for this test."""

    def change(**values: object) -> None:
        settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, **values}

    return change


@pytest.fixture(autouse=True)
def no_retries(limits: Callable[..., None]) -> None:
    """A test of one fault wants one call; the tests of retries say so."""
    limits(MAX_RETRIES=0)

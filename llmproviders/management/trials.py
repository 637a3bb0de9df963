"""Endpoints tried: whether a model answers, and which models a server has. In an event loop of the call's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from llmproviders.exceptions import ProviderError, UnknownModelType, UpstreamTimeout
from llmproviders.net.http import close_client
from llmproviders.registry import get_provider
from llmproviders.types import ChatMessage, CompletionFinished, CompletionRequest, Endpoint

# Of the answer: a word is enough, but who thinks first needs more.
FEW_TOKENS, SOME_TOKENS = 8, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one call went. ``code`` and ``reason`` are those of the error, ``""`` without one; times in ms."""

    type: str
    model: str
    host: str
    ok: bool
    code: str = ""
    reason: str = ""
    first_token_ms: int | None = None
    total_ms: int


async def ask_all(endpoints: Sequence[Endpoint], timeout: float, max_tokens: int = FEW_TOKENS) -> list[Report]:
    """Ask all at once; ``timeout`` seconds for each."""
    try:
        return await asyncio.gather(*(ask(endpoint, timeout, max_tokens) for endpoint in endpoints))
    finally:
        await close_client()


async def ask(endpoint: Endpoint, timeout: float, max_tokens: int = FEW_TOKENS) -> Report:
    """Make one call and report on it; whatever the provider says is wrong is part of the report."""
    started = time.perf_counter()
    first: int | None = None
    error: ProviderError | UnknownModelType | None = None
    try:
        async with asyncio.timeout(timeout), aclosing(_deltas(endpoint, max_tokens)) as deltas:
            async for delta in deltas:
                if first is None and not isinstance(delta, CompletionFinished):
                    first = _milliseconds_since(started)
    except TimeoutError:
        error = UpstreamTimeout(_("No whole answer within %(seconds)g s.") % {"seconds": timeout})
    except (ProviderError, UnknownModelType) as failure:
        error = failure
    return Report(
        type=endpoint.model_type,
        model=endpoint.model,
        host=urlsplit(endpoint.api_url).hostname or "-",
        ok=error is None,
        code=error.code if error else "",
        reason=_(str(error)) if error else "",
        first_token_ms=first,
        total_ms=_milliseconds_since(started),
    )


async def names_of(endpoint: Endpoint, timeout: float) -> list[str]:
    """Return the names of a server's models; raises ``ProviderError`` and ``UnknownModelType``."""
    try:
        return await get_provider(endpoint).list_models(seconds=timeout)
    finally:
        await close_client()


def _deltas(endpoint: Endpoint, max_tokens: int) -> Any:
    asked = CompletionRequest((ChatMessage("user", "Say hello."),), temperature=0.0, max_tokens=max_tokens)
    return get_provider(endpoint).stream(asked)


def _milliseconds_since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)

"""A person's own endpoint, tried before it is kept: which models it has, and whether one answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from django.utils.translation import gettext_lazy as _

from ..access.rules import Caller
from ..engine import completions
from ..engine.completions import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Endpoint,
    ProviderError,
    ThoughtSoFar,
)
from ..exceptions import InvalidRequest, ServerBusy
from ..models import UserConfig

# Of all callers of a process, and of one account.
MOST_AT_ONCE, MOST_OF_ONE = 16, 2
# How long an endpoint may take (seconds).
LIST_SECONDS, TEST_SECONDS = 20.0, 60.0
# A reasoning model thinks before it says its two words.
REQUEST = CompletionRequest((ChatMessage("user", "Say hello in two words."),), temperature=0.0, max_tokens=256)
MOST_SHOWN = 200

# Whose.
_running: list[str] = []


@dataclass(frozen=True, slots=True)
class Trial:
    """How a call went: what was said (its beginning), by which model, and how long it took."""

    reply: str
    model: str
    milliseconds: int


def endpoint_to_try(*, caller: Caller, user_id: str | None, given: Mapping[str, Any], needs_model: bool) -> Endpoint:
    """Return the endpoint that ``given`` names; what it leaves out is as saved, the key only for the saved URL.

    A database job, for a caller that may configure. Raises ``InvalidRequest`` where URL or model are missing, and
    ``UnreadableKey``.
    """
    whose = caller.labelled(user_id).user_identifier
    saved = UserConfig.objects.owned_by(whose).first() or UserConfig()
    url = given.get("custom_api_url") or saved.custom_api_url
    model = given.get("custom_model") or saved.custom_model
    missing = {"custom_api_url": not url, "custom_model": needs_model and not model}
    if errors := {name: [_("Needed, as none is saved.")] for name, is_so in missing.items() if is_so}:
        raise InvalidRequest(errors=errors)
    key = given.get("custom_api_key")
    if key is None:
        key = completions.saved_key(saved) if url == saved.custom_api_url else ""
    return completions.own_endpoint(url, model or "-", key)


async def list_models(caller: Caller, endpoint: Endpoint) -> list[str]:
    """Return the names of an endpoint's models; raises ``ProviderError``, ``ServerBusy``."""
    with _place(caller.subject):
        return await completions.list_models(endpoint, seconds=LIST_SECONDS)


async def try_out(caller: Caller, endpoint: Endpoint) -> Trial:
    """Ask an endpoint's model for two words; raises ``ProviderError``, ``ServerBusy``."""
    said: list[str] = []
    model = ""
    started = time.monotonic()
    with _place(caller.subject):
        try:
            async with asyncio.timeout(TEST_SECONDS):
                async with aclosing(cast(Any, completions.stream(endpoint, REQUEST))) as deltas:
                    async for delta in deltas:
                        if isinstance(delta, ThoughtSoFar):
                            said.clear()
                        elif isinstance(delta, ContentDelta):
                            said.append(delta.text)
                        elif isinstance(delta, CompletionFinished):
                            model = delta.model
        except TimeoutError:
            raise completions.too_slow() from None
        except ProviderError as error:
            if not completions.is_silence(error):  # who only thought until the end of its tokens works all the same
                raise
    return Trial("".join(said)[:MOST_SHOWN], model or endpoint.model, round((time.monotonic() - started) * 1000))


@contextmanager
def _place(subject: str) -> Iterator[None]:
    if len(_running) >= MOST_AT_ONCE or (subject and _running.count(subject) >= MOST_OF_ONE):
        raise ServerBusy()
    _running.append(subject)
    try:
        yield
    finally:
        _running.remove(subject)

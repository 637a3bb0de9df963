"""What the views of OpenAI's API are written with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from drf_spectacular.utils import OpenApiResponse

from ..engine.completions import CompletionFinished, Delta
from ..engine.relaying import Relaying
from ..web.base import ApiView
from ..web.credential_watch import CredentialWatch
from ..web.parsers import HistoryParser
from ..web.sse import PING
from .errors import openai_error

THEIRS = OpenApiResponse({"type": "object", "additionalProperties": True}, description="As OpenAI's API has it.")


class OpenAIView(ApiView):
    """A view whose errors look like theirs."""

    render_error = staticmethod(openai_error)
    parser_classes = [HistoryParser]


class Teller(Protocol):
    """Writes what a model said as events."""

    finished: CompletionFinished | None

    def begin(self) -> bytes:
        """Return the events that open a stream."""

    def tell(self, batch: list[Delta]) -> bytes:
        """Take deltas in; return the events that tell them, nothing where there is nothing to tell."""


async def told_by(
    teller: Teller, first: list[Delta], batches: AsyncGenerator[list[Delta], None], watch: CredentialWatch
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a stream but for its end, and pings; closing it closes ``batches``."""
    async with aclosing(batches):
        yield teller.begin() + teller.tell(first)
        async for batch in batches:
            if told := teller.tell(batch):
                yield told
            elif not batch:
                yield PING
            if teller.finished is None:  # who has all of it needs no credential any more
                await watch.check()


def listed(shown: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Return a page of a list, of objects with ids."""
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": has_more}


def headers_of_relay(relaying: Relaying) -> dict[str, str]:
    """Return the header that says who answered."""
    return {"X-Model-Type": relaying.endpoint.model_type}

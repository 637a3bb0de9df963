"""What is new in somebody's conversations, as every door tells it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ..access.rules import Caller
from ..database import db
from ..engine import engines
from ..engine.feed import Event
from .credential_watch import CredentialWatch
from .serializers import ConversationSerializer


async def watched(caller: Caller) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield what is new, and now and then nothing; raises ``NotAuthenticated`` once the caller may not see it."""
    watch = CredentialWatch(caller)
    engine = engines.current()
    engine.ensure_started()
    with engine.feed.watching(caller) as watcher:
        async with aclosing(watcher.batches()) as batches:
            async for events in batches:
                await watch.check()
                yield await db.read(_payloads, events) if events else []


def _payloads(events: list[Event]) -> list[dict[str, Any]]:
    return [payload(event) for event in events]


def payload(event: Event) -> dict[str, Any]:
    """Return the JSON object that every door sends for ``event``. It may ask the database."""
    change = event.change
    if change is None:
        return {"event": "resync"}
    told: dict[str, Any] = {"event": change.what, "change": change.change, "session_id": str(change.session_id)}
    if change.generation_id is not None:
        told |= {"generation_id": str(change.generation_id), "message_id": change.message_id}
    if change.status:
        told["status"] = change.status
    if event.conversation is not None:
        told["conversation"] = ConversationSerializer(event.conversation).data
    return told

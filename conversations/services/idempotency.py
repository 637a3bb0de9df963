"""One key, one answer: a request that was stored before is found again, and never begins a second one."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..engine.events import AnswerIds, ids_of
from ..exceptions import IdempotencyMismatch, InvalidRequest
from ..models import Generation
from .conversations import get_conversation

IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's promise that two requests are the same: its key, and a hash of what it asked for."""

    key: str
    hash: str

    @classmethod
    def of(cls, key: str | None, asked: Mapping[str, Any]) -> Self | None:
        """Return what a request's header promises of its body, in which ``stream`` does not count; None without.

        Raises ``InvalidRequest`` for a key that is not 1 to 255 visible ASCII characters.
        """
        if key is None:
            return None
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
            raise InvalidRequest(errors={IDEMPOTENCY_KEY: [_("1 to 255 visible ASCII characters.")]})
        counts = {name: _told(value) for name, value in asked.items() if name != "stream"}
        return cls(key, hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest())


def _told(value: Any) -> str | None:
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, default=str)
    return None if value is None else str(value)


def find_reply(
    *,
    caller: Caller,
    idempotency: Idempotency | None,
    session_id: uuid.UUID | None = None,
    user_id: str | None = None,
) -> AnswerIds | None:
    """Return the answer that an equal request began, if any; begins none. May raise ``IdempotencyMismatch``."""
    authorize(caller, Action.CHAT)
    return stored_reply(caller, session_id, user_id, idempotency)


def _whose(caller: Caller, session_id: uuid.UUID | None, user_id: str | None) -> str:
    """Return whose answer it will be: the conversation's owner's, or the caller's for a new conversation."""
    if session_id is None:
        return caller.labelled(user_id).user_identifier
    whose: str = get_conversation(caller=caller, session_id=session_id, action=Action.CHAT).user_identifier
    return whose


def stored_reply(
    caller: Caller, session_id: uuid.UUID | None, user_id: str | None, idempotency: Idempotency | None
) -> AnswerIds | None:
    """Return the answer that this key already has; raises ``IdempotencyMismatch`` if it was for something else."""
    if idempotency is None:
        return None
    whose = _whose(caller, session_id, user_id)
    earlier = Generation.objects.with_ids().filter(user_identifier=whose, idempotency_key=idempotency.key).first()
    if earlier is None:
        return None
    if earlier.idempotency_hash != idempotency.hash:
        raise IdempotencyMismatch()
    return ids_of(earlier)

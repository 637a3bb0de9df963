"""Relays in limits, budgets and usage: begun and settled in a transaction each."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from ..database.compiled import Delete, Insert, Select, given
from ..database.transactions import replayed
from ..models import Generation, Relay, Worker
from . import budgets, usage
from .budgets import Account, Outcome
from .usage import Spender

_relays = Insert(Relay)
_locked = Select(lambda: Relay.objects.select_for_update().filter(pk=given(Relay, "id")))
_delete = Delete(lambda: Relay.objects.filter(pk=given(Relay, "id")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a relay is begun with, by the names of its columns."""

    model_type: str
    estimated_prompt_tokens: int
    max_tokens: int
    input_price: Decimal | None
    output_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Counted:
    """What an upstream counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None


@replayed
def begin(account: Account, *, owner: Any, user_identifier: str, worker_id: uuid.UUID, begun: Begun) -> uuid.UUID:
    """Reserve what a relay may cost, and note that it runs; raises ``TooManyAnswers`` or ``BudgetExhausted``."""
    account.lock()
    account.check_answers()
    relay_id: uuid.UUID = _relays.add(
        owner_id=None if owner is None else owner.pk,
        user_identifier=user_identifier,
        worker_id=worker_id,
        **asdict(begun),
        charges=account.take(begun.estimated_prompt_tokens + begun.max_tokens),
    )
    return relay_id


@replayed
def switch(relay_id: uuid.UUID, begun: Begun) -> None:
    """Another model answers instead."""
    Relay.objects.filter(pk=relay_id).update(**asdict(begun))


@replayed
def settle(relay_id: uuid.UUID, *, status: str, text: str, counted: Counted | None) -> bool:
    """End a relay: what it cost is in the budgets and in usage then. Idempotent; tells whether this was the end."""
    relay = _taken(relay_id)
    if relay is None:
        return False
    outcome = Outcome(relay_id, status, counted.total_tokens if counted else None, text)
    _charge(relay, outcome.cost(prompt_tokens=relay.estimated_prompt_tokens, max_tokens=relay.max_tokens))
    spent = usage.spent(
        _spender(relay),
        status=status,
        text=text,
        prompt_tokens=counted.prompt_tokens if counted else None,
        completion_tokens=counted.completion_tokens if counted else None,
        reasoning_tokens=counted.reasoning_tokens if counted else None,
    )
    usage.record([spent], budgets.today())
    return True


def give_up(relay_ids: Iterable[uuid.UUID]) -> int:
    """End relays of which nobody knows what became: they cost what they reserved. Returns how many."""
    return sum(_give_up(relay_id) for relay_id in list(relay_ids))


@replayed
def _give_up(relay_id: uuid.UUID) -> bool:
    relay = _taken(relay_id)
    if relay is None:
        return False
    spent = usage.spent(
        _spender(relay),
        status=Generation.Status.INTERRUPTED,
        text="",
        prompt_tokens=relay.estimated_prompt_tokens,
        completion_tokens=relay.max_tokens,
    )
    usage.record([spent], budgets.today())
    return True


def end_of(user_id: Any) -> None:
    """Settle the relays of an account that is about to go, as stopped before the first word."""
    for pk in list(Relay.objects.filter(owner=user_id).order_by("pk").values_list("pk", flat=True)):
        settle(pk, status=Generation.Status.STOPPED, text="", counted=None)


def of_worker(worker_id: uuid.UUID, *, but: Collection[uuid.UUID] = ()) -> list[uuid.UUID]:
    """Return the relays of a worker, but for some."""
    found = Relay.objects.filter(worker=worker_id).values_list("pk", flat=True)
    return [relay_id for relay_id in found if relay_id not in but]


def stop(relay_id: uuid.UUID) -> Relay | None:
    """Let the process that passes an answer on end it; return the relay, None where there is none that runs."""
    if not Relay.objects.filter(pk=relay_id, is_stopped=False).update(is_stopped=True):
        return None
    return Relay.objects.filter(pk=relay_id).first()


def stopped_of(worker_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the relays of a worker that are to be ended."""
    return list(Relay.objects.filter(worker=worker_id, is_stopped=True).values_list("pk", flat=True))


def orphans() -> list[uuid.UUID]:
    """Return the relays whose worker has no row."""
    return list(Relay.objects.exclude(worker__in=Worker.objects.values("pk")).values_list("pk", flat=True))


def _taken(relay_id: uuid.UUID) -> Relay | None:
    """Delete a relay and return what it was; None where another was quicker."""
    relay = _locked.first(id=relay_id)
    return relay if relay is not None and _delete.run(id=relay_id) else None


def _charge(relay: Relay, cost: int) -> None:
    for budget_id, tokens in sorted(relay.charges):
        budgets.spend([budget_id], cost - tokens)


def _spender(relay: Relay) -> Spender:
    prices = relay.input_price, relay.output_price
    return Spender(relay.user_identifier, relay.model_type, relay.estimated_prompt_tokens, *prices)

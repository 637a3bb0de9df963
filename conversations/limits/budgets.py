"""How many answers an account may have at a time, and how many tokens it may spend a day (UTC).

Tokens are reserved before the model is asked, as much as the answer may cost at most, and settled when it ends,
whatever ends it: so many requests at once cannot spend what is there once. A budget that has anything left lets one
answer begin; that one may overspend, no other. Rows change by conditional UPDATE only, always in the order of
their ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone

from .. import conf
from ..access.rules import Caller
from ..database.compiled import Count, Delete, InsertMany, Select, Update, given
from ..database.transactions import replayed
from ..exceptions import BudgetExhausted, TooManyAnswers
from ..models import Generation, GenerationChunk, Relay, TokenBudget, TokenCharge
from . import allowances, usage
from .estimates import estimate

if TYPE_CHECKING:
    from .allowances import Limits

# How long what was spent is kept.
KEPT_DAYS = 35
# When to try again for whom too many answers are being made.
ANSWER_SECONDS = 5
# What upstreams count may correct an estimate by this much at most.
LOWEST, HIGHEST = 0.5, 3.0


_lock = Select(
    lambda: (
        get_user_model()
        ._default_manager.select_for_update()
        .filter(pk=given(get_user_model(), get_user_model()._meta.pk.name, "id"))
        .order_by("pk")
        .values_list("pk", flat=True)
    )
)
_count_running = Count(
    lambda: Generation.objects.running().filter(user_identifier=given(Generation, "user_identifier"))
)
_count_relays = Count(lambda: Relay.objects.filter(user_identifier=given(Relay, "user_identifier")))
_reserve = Update(
    lambda: TokenBudget.objects.filter(pk=given(TokenBudget, "id"), spent__lt=given(TokenBudget, "spent", "limit")),
    lambda: {"spent": F("spent") + given(TokenBudget, "spent", "tokens")},
)
_add = Update(
    lambda: TokenBudget.objects.filter(pk=given(TokenBudget, "id")),
    lambda: {"spent": F("spent") + given(TokenBudget, "spent", "tokens")},
)
_charges_of = Select(
    lambda: TokenCharge.objects.filter(generation=given(TokenCharge, "generation")).order_by("budget_id", "pk")
)
_delete_charge = Delete(lambda: TokenCharge.objects.filter(pk=given(TokenCharge, "id")))
_charges = InsertMany(TokenCharge)


@cache
def _rows_of(subjects: int) -> Select[tuple[str, int, int]]:
    """Find the budgets of so many subjects on a day."""
    names = [given(TokenBudget, "subject", f"subject_{index}") for index in range(subjects)]
    rows = TokenBudget.objects.filter(subject__in=names, day=given(TokenBudget, "day"))
    return Select(lambda: rows.values_list("subject", "pk", "spent"))


@dataclass(frozen=True, slots=True)
class OpenBudget:
    """A budget's row of today, and what may be spent of it."""

    pk: int
    limit: int
    spent: int


@dataclass(frozen=True, slots=True)
class Account:
    """What an account may have, looked up before the transaction that begins an answer."""

    user_id: int
    user_identifier: str
    max_answers: int
    budgets: Sequence[OpenBudget]

    def lock(self) -> None:
        """Take turns with other answers of this account that begin; first thing in the transaction.

        First, because the rows that are inserted later take a lock on the account's row of their own: two that
        both had theirs would wait for each other.
        """
        is_limited = self.max_answers or self.budgets
        if is_limited and connection.features.has_select_for_update:  # SQLite has one writer anyway
            _lock.all(id=self.user_id)

    def check_answers(self) -> None:
        """Raise ``TooManyAnswers`` where as many as may be are being made, by any process."""
        if not self.max_answers:
            return
        running = _count_running.number(user_identifier=self.user_identifier)
        if running + _count_relays.number(user_identifier=self.user_identifier) >= self.max_answers:
            raise TooManyAnswers(retry_after=ANSWER_SECONDS)

    def reserve(self, generation_id: uuid.UUID, *, prompt_tokens: int, max_tokens: int) -> tuple[int, ...]:
        """Reserve what an answer may cost, in every budget; return their ids. Raises ``BudgetExhausted``."""
        tokens = prompt_tokens + max_tokens
        ids = tuple(budget_id for budget_id, _tokens in self.take(tokens))
        _charges.run(
            {"generation_id": generation_id, "budget_id": pk, "tokens": tokens, "prompt_tokens": prompt_tokens}
            for pk in ids
        )
        return ids

    def take(self, tokens: int) -> list[tuple[int, int]]:
        """Take tokens from every budget; return of each its id and how many. Raises ``BudgetExhausted``."""
        for budget in self.budgets:
            if not _reserve.run(id=budget.pk, limit=budget.limit, tokens=tokens):
                raise exhausted()
        return [(budget.pk, tokens) for budget in self.budgets]


NO_LIMITS = Account(0, "", 0, ())


def account_of(caller: Caller) -> Account:
    """Return what ``caller`` may have; to be called outside of a transaction. Raises ``BudgetExhausted``.

    Who finds nothing left is refused here already, before anything is locked. On an open server nothing is limited.
    """
    if caller.user is None or not conf.get().REQUIRE_LOGIN:
        return NO_LIMITS
    limits = allowances.look_up(caller.user)
    wanted = wanted_by(caller, limits)
    day = today()
    budgets = budgets_of(wanted, day)
    if any(not budget.pk for budget in budgets):
        _make_rows(wanted, day)
        budgets = budgets_of(wanted, day)
    if any(budget.spent >= budget.limit for budget in budgets):
        raise exhausted()
    return Account(caller.user.pk, caller.user_identifier, limits.max_answers, budgets)


def wanted_by(caller: Caller, limits: Limits) -> dict[str, int]:
    """Return what the subjects that ``caller`` spends from may spend a day."""
    wanted = {f"group:{group_id}": tokens for group_id, tokens in limits.group_tokens}
    if limits.tokens_per_day:
        wanted[caller.user_identifier] = limits.tokens_per_day
    return wanted


def budgets_of(wanted: Mapping[str, int], day: date) -> list[OpenBudget]:
    """Return the subjects' budgets of a day, in the order of their ids; one that is missing has id 0."""
    if not wanted:
        return []
    subjects = {f"subject_{index}": subject for index, subject in enumerate(wanted)}
    rows = {subject: (pk, spent) for subject, pk, spent in _rows_of(len(wanted)).all(day=day, **subjects)}
    found = [
        OpenBudget(pk, limit, spent) for subject, limit in wanted.items() for pk, spent in [rows.get(subject, (0, 0))]
    ]
    return sorted(found, key=lambda budget: budget.pk)


@replayed
def _make_rows(subjects: Iterable[str], day: date) -> None:
    """Make a day's rows where they are missing, and drop those of long ago.

    Not in the transaction that spends: on MySQL two of them would wait for each other over the new row.
    """
    rows = [TokenBudget(subject=subject, day=day) for subject in sorted(subjects)]
    TokenBudget.objects.bulk_create(rows, ignore_conflicts=True)
    TokenBudget.objects.filter(day__lt=day - timedelta(days=KEPT_DAYS)).delete()


def today() -> date:
    return _now().date()


def _now() -> datetime:
    return timezone.now().astimezone(UTC)


def resets_at() -> datetime:
    """Return when the next day begins."""
    now = _now()
    return datetime.combine(now.date() + timedelta(days=1), time(), tzinfo=now.tzinfo)


def exhausted() -> BudgetExhausted:
    return BudgetExhausted(retry_after=max(1, round((resets_at() - _now()).total_seconds())))


# Settling ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answer: how it ended, what its upstream counted, and the text that there is."""

    generation_id: uuid.UUID
    status: str
    total_tokens: int | None
    text: str

    def cost(self, *, prompt_tokens: int, max_tokens: int) -> int:
        """Return what it cost, in tokens: a failure that brought nothing is free, an early stop costs its prompt."""
        if self.status == Generation.Status.FAILED and not self.text and self.total_tokens is None:
            return 0
        return cost(self.total_tokens, self.text, prompt_tokens, max_tokens)


def cost(total_tokens: int | None, text: str, prompt_tokens: int, max_tokens: int) -> int:
    """Return what was spent: as the upstream counted it, else an estimate.

    The upstream is believed within bounds: it may be a user's own, and the budget a whole group's.
    """
    if total_tokens is not None:
        return min(total_tokens, round((prompt_tokens + max_tokens) * HIGHEST))
    return prompt_tokens + (estimate(text) if text else 0)


def settle(outcomes: Sequence[Outcome]) -> None:
    """Replace what ended answers had reserved by what they cost; in the transaction that ends them. Idempotent."""
    found = [(charge, outcome) for outcome in outcomes for charge in _charges_of.all(generation=outcome.generation_id)]
    for charge, outcome in sorted(found, key=lambda pair: (pair[0].budget_id, pair[0].pk)):
        if _delete_charge.run(id=charge.pk):
            prompt_tokens = charge.prompt_tokens
            cost_now = outcome.cost(prompt_tokens=prompt_tokens, max_tokens=charge.tokens - prompt_tokens)
            _add.run(id=charge.budget_id, tokens=cost_now - charge.tokens)


@replayed
def add(budget_ids: Iterable[int], tokens: int) -> None:
    """Add what was spent beside an answer, as for a title."""
    spend(budget_ids, tokens)


def spend(budget_ids: Iterable[int], tokens: int) -> None:
    """Add what was spent, in a transaction that does more."""
    for pk in sorted(budget_ids):
        _add.run(id=pk, tokens=tokens)


@receiver(pre_delete, sender=Generation, dispatch_uid="conversations.limits.budgets")
def _settle_deleted(instance: Generation, **_kwargs: Any) -> None:
    """A running answer that is deleted, by whatever deletes it, costs what a stopped one does, and is counted so."""
    if instance.is_running and Generation.objects.running().select_for_update().filter(pk=instance.pk).first():
        chunks = GenerationChunk.objects.of(instance.pk, instance.log_from)
        text = "".join(chunks.values_list("text", flat=True))
        chunks.delete()
        settle([Outcome(instance.pk, Generation.Status.STOPPED, None, text)])
        if spender := usage.spender_of(instance.pk):
            usage.record([usage.spent(spender, status=Generation.Status.STOPPED, text=text)], today())

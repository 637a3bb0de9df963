"""What was used: a row an owner, day (UTC) and model type, to which each answer is added as it ends.

It is one transaction with the end. So no answer is counted twice, or not at all; and what was used stays when
conversations are pruned and deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db.models import F

from ..database.compiled import Update, given
from ..models import BILLION, KEPT_COUNTS, DailyUsage, Generation
from .estimates import estimate

# No answer counts for more: what an upstream says is taken as it is.
MOST_TOKENS, MOST_COST = 2**31 - 1, 10**15

_add = Update(
    lambda: DailyUsage.objects.filter(
        **{name: given(DailyUsage, name) for name in ("user_identifier", "day", "model_type")}
    ),
    lambda: {name: F(name) + given(DailyUsage, name) for name in KEPT_COUNTS},
)


@dataclass(frozen=True, slots=True)
class Spender:
    """Who pays for an answer, which model type makes it, and at which prices."""

    user_identifier: str
    model_type: str
    estimated_prompt_tokens: int
    input_price: Decimal | None
    output_price: Decimal | None

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> int | None:
        """Return what so many tokens cost, in billionths; None without a price, or where they were not counted."""
        if prompt_tokens is None or completion_tokens is None:
            return None
        return cost(self.input_price, self.output_price, prompt_tokens, completion_tokens)


def cost(
    input_price: Decimal | None, output_price: Decimal | None, prompt_tokens: int, completion_tokens: int
) -> int | None:
    """Return what tokens cost by prices per million, in billionths; None where there is neither price."""
    if input_price is None and output_price is None:
        return None
    millionths = (input_price or 0) * prompt_tokens + (output_price or 0) * completion_tokens
    return min(MOST_COST, round(millionths * BILLION / 1_000_000))


@dataclass(frozen=True, slots=True)
class Spent:
    """What one answer adds to whose row."""

    user_identifier: str
    model_type: str
    counts: dict[str, int]


def spent(
    spender: Spender,
    *,
    status: str,
    text: str,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    reasoning_tokens: int | None = None,
) -> Spent:
    """Return what an ended answer adds.

    Exact is what its upstream counted of a whole one. Else it is estimated: what the upstream said before it broke,
    or by the texts; a failure that brought nothing counts without tokens.
    """
    is_counted = prompt_tokens is not None and completion_tokens is not None
    if prompt_tokens is None or completion_tokens is None:
        came = bool(text) or status != Generation.Status.FAILED
        prompt_tokens = spender.estimated_prompt_tokens if came else 0
        completion_tokens = estimate(text) if text else 0
    is_exact = is_counted and status == Generation.Status.COMPLETED
    counts = {
        "requests": 1,
        "prompt_tokens": min(MOST_TOKENS, prompt_tokens),
        "completion_tokens": min(MOST_TOKENS, completion_tokens),
        "cost": spender.cost(prompt_tokens, completion_tokens) or 0,
    }
    if not is_exact:
        counts = {f"estimated_{name}": count for name, count in counts.items()}
    elif reasoning_tokens:
        counts["reasoning_tokens"] = min(MOST_TOKENS, reasoning_tokens)
    if status == Generation.Status.FAILED:
        counts["failed_requests"] = 1
    return Spent(spender.user_identifier, spender.model_type, counts)


def record(answers: Iterable[Spent], day: date) -> None:
    """Add ended answers to the rows of a day, in the transaction that ends them; always in the order of the rows."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for answer in answers:
        total = sums.setdefault((answer.user_identifier, answer.model_type), dict.fromkeys(KEPT_COUNTS, 0))
        for name, count in answer.counts.items():
            total[name] += count
    for (user_identifier, model_type), counts in sorted(sums.items()):
        row = {"user_identifier": user_identifier, "day": day, "model_type": model_type}
        if not _add.run(**row, **counts):
            DailyUsage.objects.bulk_create([DailyUsage(**row)], ignore_conflicts=True)
            _add.run(**row, **counts)


def spender_of(generation_id: uuid.UUID) -> Spender | None:
    """Return who pays for an answer; None where it is gone."""
    row = Generation.objects.filter(pk=generation_id).values_list(*SPENDER_FIELDS).first()
    return None if row is None else Spender(*row)


# Of a generation, in the order of `Spender`.
SPENDER_FIELDS = (
    "user_identifier",
    "message__model_type",
    "estimated_prompt_tokens",
    "input_price",
    "output_price",
)

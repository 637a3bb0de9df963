"""What somebody used, added up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db.models import Sum

from ..access.rules import Action, Caller, authorize
from ..models import ALL_COUNTS, USAGE_GROUPS, DailyUsage


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Sums of ``ALL_COUNTS``: of each group, and of all."""

    rows: list[dict[str, Any]]
    total: dict[str, int]


def get_usage(*, caller: Caller, first: date, last: date, by: Collection[str]) -> UsageReport:
    """Return what ``caller`` used from the first day to the last, told apart by ``USAGE_GROUPS``."""
    authorize(caller, Action.READ)
    days = DailyUsage.objects.for_owner(caller).filter(day__range=(first, last))
    sums = {name: Sum(name, default=0) for name in ALL_COUNTS}
    groups = [column for name, column in USAGE_GROUPS.items() if name in by]
    rows = list(days.values(*groups).annotate(**sums).order_by(*groups)) if groups else []
    return UsageReport(rows, days.aggregate(**sums))

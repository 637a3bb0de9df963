"""Which limits apply to an account: its own allowance, else its groups', else the settings.

Field by field: what the account's own row says counts; else the most generous of its groups; else the settings.
0 is no limit. What was looked up is kept for ``KEPT_SECONDS`` in the process; answers and budgets ask anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet

from .. import conf
from ..database.compiled import Select, given
from ..models import Allowance

if TYPE_CHECKING:
    from django.contrib.auth.models import User

KEPT_SECONDS = 10.0
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force for one account. ``group_tokens`` has what groups of theirs may spend, by group id."""

    rate: str
    max_answers: int
    tokens_per_day: int
    group_tokens: tuple[tuple[int, int], ...] = ()


_kept: dict[int, tuple[float, Limits]] = {}
_lock = Lock()


def limits_of(user: User) -> Limits:
    """Return an account's limits, as they were at most ``KEPT_SECONDS`` ago."""
    with _lock:
        since, limits = _kept.get(user.pk, (0.0, None))
    if limits is not None and time.monotonic() - since < KEPT_SECONDS:
        return limits
    return look_up(user)


def look_up(user: User) -> Limits:
    """Return an account's limits as they are now: one query."""
    rows = _rows.all(user=user.pk)
    limits = _in_force([row for row in rows if row.user_id], [row for row in rows if row.group_id])
    with _lock:
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[user.pk] = (time.monotonic(), limits)
    return limits


def _of_an_account() -> QuerySet[Allowance]:
    account = given(Allowance, "user")
    mine = Q(user=account)
    if (groups := _groups()) is not None:
        memberships = groups.remote_field.through._default_manager.filter(**{groups.m2m_field_name(): account})
        mine |= Q(group__in=memberships.values(groups.m2m_reverse_field_name()))
    return Allowance.objects.filter(mine)


def _groups() -> Any:
    """Return the user model's field for groups; a project's own may have none, or others than Django's."""
    fields = get_user_model()._meta.many_to_many
    return next((field for field in fields if field.name == "groups" and issubclass(field.related_model, Group)), None)


_rows = Select(_of_an_account)


def _in_force(own: list[Allowance], groups: list[Allowance]) -> Limits:
    settings = conf.get()
    requests = _field("requests_per_minute", own, groups)
    max_answers = _field("max_answers", own, groups)
    tokens = _field("tokens_per_day", own, groups)
    return Limits(
        rate=settings.RATE_LIMIT if requests is None else f"{requests}/minute" if requests else "",
        max_answers=settings.MAX_ANSWERS_PER_CALLER if max_answers is None else max_answers,
        tokens_per_day=settings.TOKENS_PER_DAY if tokens is None else tokens,
        group_tokens=tuple(
            (row.group_id, row.group_tokens_per_day) for row in groups if row.group_id and row.group_tokens_per_day
        ),
    )


def _field(name: str, own: list[Allowance], groups: list[Allowance]) -> int | None:
    for rows in (own, groups):
        if given := [value for row in rows if (value := getattr(row, name)) is not None]:
            return 0 if 0 in given else max(given)
    return None


def forget() -> None:
    """Forget what was looked up: for tests."""
    with _lock:
        _kept.clear()

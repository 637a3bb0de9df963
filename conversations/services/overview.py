"""What is going on in all of the server, for those who run it: no texts, and the same few queries at any size.

What was used is read from the rows of days, how fast models answer from the newest answers.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Count, F, QuerySet, Sum

from ..access.rules import ACCOUNT_PREFIX
from ..engine import completions, engines, workers
from ..engine.completions import breaker
from ..limits import relays
from ..models import MESSAGE_TEXTS, DailyUsage, Generation, Relay, Worker

# So many of them are shown.
MOST_RUNNING, MOST_USERS, MOST_ENDPOINTS, MOST_WORKERS = 100, 20, 20, 100
# So many answers, the newest, say how fast models are.
SAMPLE = 2_000

REQUESTS = F("requests") + F("estimated_requests")
TOKENS = F("prompt_tokens") + F("completion_tokens") + F("estimated_prompt_tokens") + F("estimated_completion_tokens")
SUMS = {
    "all_requests": Sum(REQUESTS, default=0),
    "all_tokens": Sum(TOKENS, default=0),
    "all_cost": Sum(F("cost") + F("estimated_cost"), default=0),
    "all_failed": Sum("failed_requests", default=0),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What all used on one day of one model type; ``cost`` is in billionths."""

    day: date
    model_type: str
    requests: int
    tokens: int
    cost: int
    failed: int


@dataclass(frozen=True, slots=True)
class Spender:
    """What one user used; ``name`` is the account's, where it is there."""

    user_identifier: str
    name: str
    requests: int
    tokens: int
    cost: int
    failed: int


@dataclass(slots=True)
class EndpointState:
    """How a model type did in the newest answers, in seconds; and how long it is passed over here.

    None says that this cannot be known: of users' own models, and of those that are offered no more.
    """

    model_type: str
    model: str = ""
    answers: int = 0
    failures: int = 0
    first_token: list[float] = field(default_factory=list)
    first_token_by_day: dict[date, list[float]] = field(default_factory=dict)
    whole: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    passed_over: float | None = None

    @property
    def times(self) -> tuple[float | None, float | None, float | None]:
        """The first token's median, what 95 % of them keep to, and the same of whole answers."""
        return middle(self.first_token), middle(self.first_token, 0.95), middle(self.whole, 0.95)

    @property
    def worst_error(self) -> str:
        """What failed most often."""
        return self.errors.most_common(1)[0][0] if self.errors else ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that makes answers; ``lives`` is None where this one cannot tell."""

    worker: Worker
    answers: int
    relays: int
    lives: bool | None

    @property
    def all_answers(self) -> int:
        """With those that are passed on and not stored."""
        return self.answers + self.relays

    @property
    def host(self) -> str:
        """The machine's name, without what else tells it from others."""
        return self.worker.host.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Running:
    """What runs now: the newest of it, and how much there is."""

    generations: list[Generation]
    relays: list[Relay]
    total: int
    total_relays: int

    @property
    def all(self) -> int:
        """How many run, stored or not."""
        return self.total + self.total_relays


def running() -> Running:
    """Return what is being answered now, without texts."""
    generations = Generation.objects.running()
    passed_on = Relay.objects.filter(is_stopped=False)
    light = generations.select_related("message__conversation", "owner", "worker").defer(
        "error_message",
        *(f"message__{name}" for name in MESSAGE_TEXTS),
        "message__conversation__title",
        "message__conversation__system_prompt",
    )
    return Running(
        list(light.order_by("-created_at")[:MOST_RUNNING]),
        list(passed_on.select_related("owner", "worker").order_by("-created_at")[:MOST_RUNNING]),
        generations.count(),
        passed_on.count(),
    )


def stop_relay(relay_id: uuid.UUID) -> Relay | None:
    """End an answer that is passed on, within a second; return its relay, None where it ended or is ending already."""
    return relays.stop(relay_id)


def usage(first: date, last: date) -> list[Usage]:
    """Return what was used from the first day to the last, by day and model type."""
    rows = DailyUsage.objects.filter(day__range=(first, last)).values("day", "model_type").annotate(**SUMS)
    found = rows.order_by("day", "model_type").values_list("day", "model_type", *SUMS)
    return [Usage(*row) for row in found]


def spenders(first: date, last: date) -> list[Spender]:
    """Return who used the most tokens in those days."""
    rows: Any = DailyUsage.objects.filter(day__range=(first, last)).values("user_identifier").annotate(**SUMS)
    top = list(rows.order_by("-all_tokens", "user_identifier").values_list("user_identifier", *SUMS)[:MOST_USERS])
    names = _names(identifier for identifier, *_ in top)
    return [Spender(identifier, names.get(identifier, ""), *sums) for identifier, *sums in top]


def _names(identifiers: Iterable[str]) -> dict[str, str]:
    keys = [text.removeprefix(ACCOUNT_PREFIX) for text in identifiers if text.startswith(ACCOUNT_PREFIX)]
    model = get_user_model()
    accounts: QuerySet[Any] = model._default_manager.filter(pk__in=keys)
    return {f"{ACCOUNT_PREFIX}{pk}": str(name) for pk, name in accounts.values_list("pk", model.USERNAME_FIELD)}


def endpoints(since: datetime) -> list[EndpointState]:
    """Return how model types did in the newest answers since then: the failing first, then the slow."""
    newest = Generation.objects.exclude(status=Generation.Status.RUNNING).order_by("-message_id")
    states: dict[str, EndpointState] = {}
    for model_type, model, created, *rest in newest.values_list(*ANSWER)[:SAMPLE]:
        if created >= since:
            _add(states.setdefault(model_type, EndpointState(model_type)), model, created, *rest)
    for endpoint in completions.list_endpoints():
        left = breaker.seconds_left(endpoint)
        if left or endpoint.model_type in states:
            state = states.setdefault(endpoint.model_type, EndpointState(endpoint.model_type, endpoint.model))
            state.passed_over = left
    ordered = sorted(
        states.values(), key=lambda state: (-state.failures, -(middle(state.first_token) or 0), state.model_type)
    )
    return ordered[:MOST_ENDPOINTS]


# Of an answer, in the order in which `_add` takes them.
ANSWER = (
    "message__model_type",
    "message__model",
    "created_at",
    "first_token_at",
    "ended_at",
    "status",
    "error_code",
)


def _add(
    state: EndpointState,
    model: str,
    created: datetime,
    first_token: datetime | None,
    ended: datetime | None,
    status: str,
    error: str,
) -> None:
    state.answers += 1
    state.model = state.model or model
    if status == Generation.Status.FAILED:
        state.failures += 1
        state.errors[error] += 1
    elif first_token:
        seconds = (first_token - created).total_seconds()
        state.first_token.append(seconds)
        state.first_token_by_day.setdefault(created.date(), []).append(seconds)
    if status == Generation.Status.COMPLETED and ended:
        state.whole.append((ended - created).total_seconds())


def middle(values: list[float], share: float = 0.5) -> float | None:
    """Return the value that so large a share of all keeps to; None where there is none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else None


def processes() -> list[Process]:
    """Return the processes that make answers, and whether they live."""
    answers = dict(Generation.objects.running().values_list("worker").annotate(Count("pk")).order_by())
    relays = dict(Relay.objects.values_list("worker").annotate(Count("pk")).order_by())
    beats = engines.heartbeats()
    return [
        Process(worker, answers.get(worker.pk, 0), relays.get(worker.pk, 0), workers.seems_alive(worker, beats))
        for worker in Worker.objects.order_by("-started_at")[:MOST_WORKERS]
    ]

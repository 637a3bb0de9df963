"""What is going on: answers that run, what was used, how models do, processes, tables. No text of anybody is on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import services
from ..access.rules import Caller
from ..database import sizes
from ..models import (
    BILLION,
    Conversation,
    DailyUsage,
    Feedback,
    Generation,
    GenerationChunk,
    Message,
    Overview,
    SearchText,
    TokenBudget,
    TokenCharge,
    UserConfig,
)
from ..services import overview
from . import charts
from .charts import Measure

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

PERIODS = (7, 30)
TABLES: tuple[type[Model], ...] = (
    Conversation,
    Message,
    SearchText,
    Generation,
    GenerationChunk,
    Feedback,
    DailyUsage,
    UserConfig,
    TokenBudget,
    TokenCharge,
)
MEASURES = (
    Measure(gettext_lazy("Answers"), lambda row: row.requests, charts.whole, 4),
    Measure(gettext_lazy("Tokens used"), lambda row: row.tokens, charts.whole, 4),
    Measure(gettext_lazy("Cost"), lambda row: row.cost / BILLION, charts.money),
    Measure(gettext_lazy("Failed answers"), lambda row: row.failed, charts.whole, 4),
)


@admin.register(Overview)
class OverviewAdmin(_ModelAdmin):
    """One page, in the place of a list: so it stands in each admin site's index, for those who may see it."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        stop: Any = self.admin_site.admin_view(self.stop_view)
        stop_relay: Any = self.admin_site.admin_view(self.stop_relay_view)
        return [
            path("stop/<uuid:generation_id>/", stop, name="conversations_overview_stop"),
            path("stop-relay/<uuid:relay_id>/", stop_relay, name="conversations_overview_stop_relay"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """There are no rows of it: the pages of rows, which every admin has, find none."""
        return Overview.objects.none()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked: Any = request
        asked.current_app = self.admin_site.name
        days = 30 if request.GET.get("days") == "30" else 7
        context = {
            **self.admin_site.each_context(request),
            "title": _("Overview"),
            "opts": self.opts,
            "days": days,
            "periods": PERIODS,
            "now": timezone.now(),
            **_running(request),
            **_used(days),
            **_endpoints(days),
            "processes": overview.processes(),
            **_tables(),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/conversations/overview/change_list.html", context)

    def stop_view(self, request: HttpRequest, generation_id: uuid.UUID) -> HttpResponse:
        """End an answer, whoever makes it; what is stored of it stays."""
        stop = partial(services.stop_generation, caller=Caller(sees_all=True), generation_id=generation_id)
        return self._stopped(request, stop)

    def stop_relay_view(self, request: HttpRequest, relay_id: uuid.UUID) -> HttpResponse:
        """End an answer that is passed on, whoever does that."""
        return self._stopped(request, partial(overview.stop_relay, relay_id))

    def _stopped(self, request: HttpRequest, stop: Callable[[], Model | None]) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and _may_stop(request)):
            raise PermissionDenied
        if stopped := stop():
            self.log_change(request, stopped, _("Stopped."))
            self.message_user(request, _("The answer was stopped."), messages.SUCCESS)
        else:
            self.message_user(request, _("That answer had ended already."), messages.WARNING)
        name = f"{self.admin_site.name}:conversations_overview_changelist"
        return HttpResponseRedirect(reverse(name))


def _may_stop(request: HttpRequest) -> bool:
    return request.user.has_perm("conversations.stop_generation")


def _running(request: HttpRequest) -> dict[str, Any]:
    return {
        "running": overview.running(),
        "may_stop": _may_stop(request),
        "may_open": request.user.has_perm("conversations.view_conversation"),
    }


def _first_of(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days - 1)  # as usage is counted


def _endpoints(days: int) -> dict[str, Any]:
    first = _first_of(days)
    endpoints = overview.endpoints(datetime.combine(first, time(), UTC))
    return {
        "endpoints": endpoints,
        "sample": overview.SAMPLE,
        "first_tokens": charts.draw_times(_("First token"), endpoints, first, days),
    }


def _used(days: int) -> dict[str, Any]:
    first = _first_of(days)
    today = first + timedelta(days=days - 1)
    usage = overview.usage(first, today)
    names = charts.names_of(usage, _("all others"))
    return {
        "charts": [charts.draw(measure, usage, names, first, days) for measure in MEASURES],
        "by_day": _by_day(usage, first, days),
        "spenders": [
            (
                spender.name or spender.user_identifier or _("nobody"),
                [charts.whole(spender.requests), charts.whole(spender.tokens)],
                [charts.money(spender.cost / BILLION), charts.whole(spender.failed)],
            )
            for spender in overview.spenders(first, today)
        ],
    }


def _tables() -> dict[str, Any]:
    found = sizes.sizes(TABLES)
    return {
        "tables": [(table.model._meta.verbose_name_plural, _rows(table), table.bytes) for table in found],
        "total_bytes": sizes.total_bytes(),
    }


def _rows(table: sizes.TableSize) -> str:
    """Write how many rows a table has, and how sure that is."""
    rows = charts.whole(table.rows)
    match table.kind:
        case "estimate":
            return _("about %(rows)s") % {"rows": rows}
        case "at most":
            return _("at most %(rows)s") % {"rows": rows}
        case "at least":
            return _("more than %(rows)s") % {"rows": rows}
    return rows


def _by_day(usage: Iterable[overview.Usage], first: date, days: int) -> list[tuple[datetime, list[str]]]:
    """Return each day, the newest first, with its numbers as they are written."""
    sums = {first + timedelta(days=day): [0.0] * len(MEASURES) for day in range(days)}
    for row in usage:
        for index, measure in enumerate(MEASURES):
            sums[row.day][index] += measure.value(row)
    return [
        (
            datetime.combine(day, time(), UTC),
            [measure.write(value) for measure, value in zip(MEASURES, values, strict=True)],
        )
        for day, values in reversed(sums.items())
    ]

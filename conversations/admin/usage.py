"""What was used, and what people think of answers."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext_lazy as _

from ..models import BILLION, KEPT_COUNTS, MESSAGE_TEXTS, DailyUsage, Feedback
from .base import ReadOnlyAdmin, TextsAdmin, link, one_line

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection").
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
COLUMNS = ("day", "user_identifier", "model_type", *KEPT_COUNTS)
PAGE = 1_000


class _Echo:
    """Gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def as_cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet reckons with."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULAS) else text


@admin.register(DailyUsage)
class DailyUsageAdmin(ReadOnlyAdmin):
    list_display = (
        "day",
        "whose",
        "model_type",
        "requests",
        "prompt_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "estimated_requests",
        "estimated_prompt_tokens",
        "estimated_completion_tokens",
        "failed_requests",
        "total_cost",
    )
    list_filter = ("day",)
    date_hierarchy = "day"
    ordering = ("-day", "user_identifier", "model_type")
    search_fields = ("=user_identifier", "=model_type")
    search_help_text = _("User identifier, such as user:5, or model type")
    actions = ("as_csv",)

    @admin.display(description=_("whose"), ordering="user_identifier")
    def whose(self, usage: DailyUsage) -> str:
        return one_line(usage.user_identifier or "-")

    @admin.display(description=_("cost"))
    def total_cost(self, usage: DailyUsage) -> str:
        return f"{usage.total_cost:.6f}" if usage.total_cost else ""

    @admin.action(description=_("Download as CSV"), permissions=["view"])
    def as_csv(self, request: HttpRequest, queryset: QuerySet[DailyUsage]) -> StreamingHttpResponse:
        """Send the rows as CSV, read page by page; costs in the currency of the prices."""
        response = StreamingHttpResponse(_lines(queryset), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = 'attachment; filename="usage.csv"'
        return response


def _lines(rows: QuerySet[DailyUsage]) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)  # by this spreadsheets know that it is UTF-8
    last = 0
    while page := list(rows.filter(pk__gt=last).order_by("pk")[:PAGE]):
        for row in page:
            yield writer.writerow([as_cell(_value(row, name)) for name in COLUMNS])
        last = page[-1].pk


def _value(row: DailyUsage, name: str) -> object:
    value = getattr(row, name)
    return f"{value / BILLION:.9f}" if name.endswith("cost") else value


@admin.register(Feedback)
class FeedbackAdmin(TextsAdmin, ReadOnlyAdmin):
    # What people say may repeat what was said to them.
    texts = ("text", "tags")
    list_display = ("message_link", "rating", "model_type", "words", "created_at")
    list_filter = ("rating", "created_at")
    list_select_related = ("message",)
    ordering = ("-created_at", "-pk")
    fields = ("message_link", "rating", "text", "tags", "created_at")
    readonly_fields = ("message_link", "created_at")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer(*(f"message__{name}" for name in MESSAGE_TEXTS))

    def get_fields(self, request: HttpRequest, obj: Feedback | None = None) -> tuple[str, ...]:
        return self.readable(request, self.fields)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        hidden = self.readable(request, ("text",))
        return tuple(name for name in self.list_display if name != "words" or hidden)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """It goes with its message: whoever may delete that, or an account with all it has, may delete this too."""
        is_own_page = request.resolver_match is not None and "feedback" in (request.resolver_match.url_name or "")
        return not is_own_page and request.user.has_perm("conversations.delete_message")

    @admin.display(description=_("message"))
    def message_link(self, feedback: Feedback) -> str:
        return link(feedback.message, feedback.message)

    @admin.display(description=_("model"), ordering="message__model_type")
    def model_type(self, feedback: Feedback) -> str:
        return one_line(feedback.message.model_type)

    @admin.display(description=_("text"))
    def words(self, feedback: Feedback) -> str:
        tags = " ".join(f"#{tag}" for tag in feedback.tags)
        return one_line(f"{feedback.text[:80]} {tags}".strip())

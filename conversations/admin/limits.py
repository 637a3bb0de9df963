"""Limits, and what was spent."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Allowance, TokenBudget
from .base import LightAdmin, ReadOnlyAdmin, owner_search_field


@admin.register(Allowance)
class AllowanceAdmin(LightAdmin):
    """Whose a row is, is said once. Requests are counted by a new limit within seconds, answers at once."""

    list_display = (
        "__str__",
        "user",
        "group",
        "requests_per_minute",
        "max_answers",
        "tokens_per_day",
        "group_tokens_per_day",
    )
    list_select_related = ("user", "group")
    ordering = ("pk",)
    raw_id_fields = ("user",)
    search_help_text = _("User name or group")
    fieldsets = (
        (_("Whose"), {"fields": ("user", "group")}),
        (_("Limits"), {"fields": ("requests_per_minute", "max_answers", "tokens_per_day", "group_tokens_per_day")}),
    )

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return (owner_search_field("user"), "group__name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", "group") if obj else ()


@admin.register(TokenBudget)
class TokenBudgetAdmin(ReadOnlyAdmin):
    list_display = ("subject", "day", "spent")
    list_filter = ("day",)
    date_hierarchy = "day"
    ordering = ("-day", "subject")
    search_fields = ("=subject",)
    search_help_text = _("Subject, such as user:5 or group:3")

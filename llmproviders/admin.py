"""Presets in Django admin. Keys go in and never come out."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib import admin
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .key_admin import KeyAdmin, KeyForm
from .models import Preset


class PresetForm(KeyForm):
    class Meta:
        model = Preset
        fields = (
            "type",
            "name",
            "backend",
            "api_url",
            "model",
            "api_key",
            "context_window",
            "max_tokens",
            "temperature",
            "order",
            "is_enabled",
        )


@admin.register(Preset)
class PresetAdmin(KeyAdmin):
    form = PresetForm
    list_display = ("type", "name", "model", "backend", "host", "has_key", "order", "is_enabled")
    list_editable = ("order", "is_enabled")
    list_filter = ("is_enabled", "backend")
    search_fields = ("type", "name", "model", "api_url")
    ordering = ("order", "type")
    readonly_fields = ("masked_key", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("type", "name", "is_enabled", "order")}),
        (gettext_lazy("Endpoint"), {"fields": ("backend", "api_url", "model", "api_key")}),
        (gettext_lazy("Limits"), {"fields": ("context_window", "max_tokens", "temperature")}),
        (gettext_lazy("History"), {"fields": ("created_at", "updated_at")}),
    )

    @admin.display(description=gettext_lazy("host"), ordering="api_url")
    def host(self, preset: Preset) -> str:
        """The URL's host and port, without what else a URL may carry."""
        return urlsplit(preset.api_url).netloc.rpartition("@")[2] or _("this machine")

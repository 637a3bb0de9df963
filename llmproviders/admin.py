"""Presets in Django admin. Keys go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, Case, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from .fields import DecryptionFailed
from .models import Preset

if TYPE_CHECKING:
    _PresetModelAdmin = admin.ModelAdmin[Preset]
    _PresetModelForm = forms.ModelForm[Preset]
else:
    _PresetModelAdmin = admin.ModelAdmin
    _PresetModelForm = forms.ModelForm


class PresetForm(_PresetModelForm):
    """A key belongs to the URL that it was entered for: another URL without a key leaves none."""

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

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        data = self.cleaned_data if cleaned is None else cleaned
        if "api_url" in self.changed_data and data.get("api_key") is None:
            data["api_key"] = ""
        return data


@admin.register(Preset)
class PresetAdmin(_PresetModelAdmin):
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

    def get_queryset(self, request: HttpRequest) -> QuerySet[Preset]:
        # Without the key itself: one that cannot be decrypted must not close the list, where it can be deleted.
        has_key = Case(When(api_key="", then=Value(False)), default=Value(True), output_field=BooleanField())
        return super().get_queryset(request).defer("api_key").annotate(has_key=has_key)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Preset | None:
        preset = super().get_object(request, object_id, from_field)
        if preset is None:
            return None
        try:
            preset.refresh_from_db(fields=["api_key"])
        except DecryptionFailed as error:
            preset.api_key = ""
            messages.error(request, str(error))
        return preset

    def get_fieldsets(self, request: HttpRequest, obj: Preset | None = None) -> Any:
        """Without permission to change, show the masked key: Django shows such a page with the plain values."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (
                name,
                {**options, "fields": ["masked_key" if field == "api_key" else field for field in options["fields"]]},
            )
            for name, options in fieldsets
        ]

    @method_decorator(sensitive_post_parameters("api_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(request, *args, **kwargs)

    @admin.display(description=gettext_lazy("host"), ordering="api_url")
    def host(self, preset: Preset) -> str:
        """The URL's host and port, without what else a URL may carry."""
        return urlsplit(preset.api_url).netloc.rpartition("@")[2] or _("this machine")

    @admin.display(description=gettext_lazy("key"), boolean=True, ordering="has_key")
    def has_key(self, preset: Any) -> bool:
        return bool(preset.has_key)

    @admin.display(description=gettext_lazy("API key"))
    def masked_key(self, preset: Preset) -> str:
        return preset.masked_key() or _("none")

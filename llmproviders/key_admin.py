"""Admin of rows that hold a URL and the key for it: keys go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import BooleanField, Case, Model, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from .fields import DecryptionFailed, mask

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _ModelForm = forms.ModelForm


class KeyForm(_ModelForm):
    """A key belongs to the URL that it was entered for: another URL without a key leaves none."""

    url_field = "api_url"
    key_field = "api_key"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        data = self.cleaned_data if cleaned is None else cleaned
        if self.url_field in self.changed_data and data.get(self.key_field) is None:
            data[self.key_field] = ""
        return data


class KeyAdmin(_ModelAdmin):
    """``list_display`` may name ``has_key``; ``key_field`` is the encrypted column."""

    key_field = "api_key"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Without the key itself: one that cannot be decrypted must not close the list, where it can be deleted.
        no_key = When(**{self.key_field: ""}, then=Value(False))
        has_key = Case(no_key, default=Value(True), output_field=BooleanField())
        rows: QuerySet[Any] = super().get_queryset(request).defer(self.key_field).annotate(has_key=has_key)
        return rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row; a key that cannot be decrypted counts as none, so that it can be entered again."""
        item = super().get_object(request, object_id, from_field)
        try:
            item and getattr(item, self.key_field)
        except DecryptionFailed as error:
            setattr(item, self.key_field, "")
            messages.error(request, str(error))
        return item

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Without permission to change, show the masked key: Django shows such a page with the plain values."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [(name, {**options, "fields": self._masked(options["fields"])}) for name, options in fieldsets]

    def _masked(self, names: Any) -> list[Any]:
        return ["masked_key" if name == self.key_field else name for name in names]

    @method_decorator(sensitive_post_parameters())
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(request, *args, **kwargs)

    @admin.display(description=gettext_lazy("key"), boolean=True, ordering="has_key")
    def has_key(self, item: Any) -> bool:
        return bool(item.has_key)

    @admin.display(description=gettext_lazy("API key"))
    def masked_key(self, item: Any) -> str:
        return mask(getattr(item, self.key_field)) or _("none")

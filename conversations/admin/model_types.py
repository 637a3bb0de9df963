"""Rows that name a model type: a filter by it, and its check in forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import get_text_list
from django.utils.translation import gettext_lazy as _

from ..engine import completions

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelForm = forms.ModelForm


class ModelTypeFilter(admin.SimpleListFilter):
    """By the model types that there are; asking the rows themselves would read all of them."""

    title = _("model type")
    parameter_name = "model_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(model_type, model_type) for model_type in sorted(completions.known_model_types())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(model_type=self.value()) if self.value() else None


class ModelTypeForm(_ModelForm):
    """A form with a field that names a model type."""

    def check_model_type(self, name: str) -> str:
        chosen = str(self.cleaned_data[name])
        known = completions.known_model_types()
        # One that is gone meanwhile may stay: it is passed over when an answer is asked for.
        if chosen and chosen not in known and name in self.changed_data:
            names = get_text_list(sorted(known), _("or"))
            raise forms.ValidationError(_("There is no such model type; use %(types)s.") % {"types": names})
        return chosen

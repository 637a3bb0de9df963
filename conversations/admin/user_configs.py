"""Users' model settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from llmproviders.key_admin import KeyAdmin, KeyForm

from ..access.rules import ACCOUNT_PREFIX, identifier_of
from ..engine import completions
from ..engine.completions import validate_users_key
from ..models import UserConfig
from .base import OwnedAdmin, one_line, owner_search_field
from .model_types import ModelTypeForm


class UserConfigForm(KeyForm, ModelTypeForm):
    """A row is an account's, by its owner, or that of a ``user_id`` on an open server."""

    url_field = "custom_api_url"
    key_field = "custom_api_key"

    class Meta:
        model = UserConfig
        fields = (
            "owner",
            "user_identifier",
            "current_model_type",
            "max_tokens",
            "custom_api_url",
            "custom_model",
            "custom_api_key",
        )

    def clean_user_identifier(self) -> str:
        given = str(self.cleaned_data["user_identifier"])
        if owner := self.cleaned_data.get("owner"):
            return identifier_of(owner)
        if given.startswith(ACCOUNT_PREFIX):
            raise forms.ValidationError(_("For an account choose the owner."))
        return given

    def clean_current_model_type(self) -> str:
        return self.check_model_type("current_model_type")

    def clean_custom_api_url(self) -> str:
        return self._checked("custom_api_url", completions.validate_url)

    def clean_custom_model(self) -> str:
        return self._checked("custom_model", completions.validate_model_name)

    def clean_custom_api_key(self) -> str | None:
        if self.cleaned_data["custom_api_key"] is None:  # as it was
            return None
        return self._checked("custom_api_key", validate_users_key)

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or self.cleaned_data
        if data.get("current_model_type") == completions.CUSTOM:
            for name in ("custom_api_url", "custom_model"):
                if name in data and not data[name]:
                    self.add_error(name, _("Needed for model type “custom”."))
        return data

    def _checked(self, name: str, validate: Any) -> str:
        value = str(self.cleaned_data[name])
        try:
            return str(validate(value)) if value else ""
        except completions.InvalidEndpoint as error:
            raise forms.ValidationError(error.message) from error


@admin.register(UserConfig)
class UserConfigAdmin(KeyAdmin, OwnedAdmin):
    form = UserConfigForm
    key_field = "custom_api_key"
    list_display = ("whose", "current_model_type", "max_tokens", "own_model", "has_key", "updated_at")
    list_filter = (("custom_api_url", admin.EmptyFieldListFilter), "updated_at")
    list_select_related = ("owner",)
    ordering = ("-updated_at", "-pk")
    raw_id_fields = ("owner",)
    search_help_text = _("User identifier, user name, URL or model")
    readonly_fields = ("created_at", "updated_at")
    fieldsets = (
        (_("Whose"), {"fields": ("owner", "user_identifier")}),
        (None, {"fields": ("current_model_type", "max_tokens")}),
        (_("Own model"), {"fields": ("custom_api_url", "custom_model", "custom_api_key")}),
        (_("History"), {"fields": ("created_at", "updated_at")}),
    )

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("user_identifier", owner_search_field(), "custom_api_url", "custom_model")

    def get_readonly_fields(self, request: HttpRequest, obj: UserConfig | None = None) -> tuple[str, ...]:
        """Whose a row is, is said once."""
        return ("owner", "user_identifier", *self.readonly_fields) if obj else self.readonly_fields

    @admin.display(description=_("own model"), ordering="custom_model")
    def own_model(self, config: UserConfig) -> str:
        return one_line(config.custom_model or "-")

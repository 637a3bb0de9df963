"""API keys of accounts: made, shown once, revoked; by ``api_keys``, which tells the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables

from ..access import api_keys
from ..models import ApiKey, Scope
from .base import LightAdmin, owner_search_field

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[ApiKey]
else:
    _ModelForm = forms.ModelForm

SHOWN = ("user", "hint", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")


class NewKeyForm(_ModelForm):
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("scopes"),
        choices=Scope.choices,
        initial=[scope.value for scope in api_keys.DEFAULT_SCOPES],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = ApiKey
        fields = ("user", "name", "scopes", "expires_at")

    def clean_scopes(self) -> str:
        return " ".join(sorted(self.cleaned_data["scopes"]))

    def clean_expires_at(self) -> Any:
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError(_("That has passed already."))
        return moment


@admin.register(ApiKey)
class ApiKeyAdmin(LightAdmin):
    """A key acts as its account. So only superusers make one for an account that is not their own."""

    list_display = ("name", "user", "hint", "scopes", "expires_at", "last_used_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "last_used_at", "expires_at")
    list_select_related = ("user",)
    ordering = ("-pk",)
    raw_id_fields = ("user",)
    search_help_text = gettext_lazy("Name, beginning of the key or user name")
    actions = ("revoke_selected",)
    change_form_template = "admin/conversations/apikey/change_form.html"

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("name", "hint", owner_search_field("user"))

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        if not change:
            kwargs["form"] = NewKeyForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return ("name", *SHOWN) if obj else NewKeyForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return SHOWN if obj else ()

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        staff: Any = request.user
        if db_field.name == "user" and not staff.is_superuser:
            accounts = get_user_model()._default_manager
            kwargs |= {"queryset": accounts.filter(pk=staff.pk), "initial": staff.pk}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # A new key's page shows the key, and leads nowhere else.
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": object_id is not None}
        return super().changeform_view(request, object_id, form_url, {**buttons, **(extra_context or {})})

    @method_decorator(sensitive_variables("token"))
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            # The name alone: when the key was used last may be noted at this moment.
            obj.save(update_fields=["name"])
            return
        key, token = api_keys.make(user=obj.user, name=obj.name, scopes=obj.scopes.split(), expires_at=obj.expires_at)
        obj.pk, obj.hint, obj.hash = key.pk, key.hint, key.hash
        obj.token = token  # until the answer is made

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the key. Not by a message: those travel in a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("The new API key"),
            "opts": self.opts,
            "original": obj,
            "token": obj.token,
        }
        return TemplateResponse(request, "admin/conversations/apikey/made.html", context)

    def response_change(self, request: HttpRequest, obj: ApiKey) -> HttpResponse:
        if "_revoke" in request.POST:
            self._revoke(request, obj)
            self.message_user(request, _("API key revoked."), messages.SUCCESS)
            return self.response_post_save_change(request, obj)
        return super().response_change(request, obj)

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        api_keys.revoke(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            api_keys.revoke(key)
        super().delete_queryset(request, queryset)

    @admin.action(description=gettext_lazy("Revoke selected API keys"), permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.filter(revoked_at=None))
        for key in keys:
            self._revoke(request, key)
        self.message_user(request, _("API keys revoked: %(count)d") % {"count": len(keys)}, messages.SUCCESS)

    def _revoke(self, request: HttpRequest, key: ApiKey) -> None:
        api_keys.revoke(key)
        self.log_change(request, key, _("Revoked."))

"""Pages of one's own account: login, logout, password, API keys."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import views
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from conversations import conf
from conversations.access import api_keys
from conversations.access.rules import Caller
from conversations.exceptions import ChatError, NotFound
from conversations.models import ApiKey, Scope
from conversations.models.api_keys import NAME_LENGTH

from .logins import LoginForm, PasswordChangeView


class Login(views.LoginView):
    template_name = "accounts/login.html"
    authentication_form = LoginForm

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(needs_login=conf.get().REQUIRE_LOGIN, **kwargs)


class Logout(views.LogoutView):
    next_page = "login"


# Templates of names of their own: under Django's names they would be those of admin's pages, too.
class PasswordChange(PasswordChangeView):
    template_name = "accounts/password_change.html"


class PasswordChanged(views.PasswordChangeDoneView):
    template_name = "accounts/password_changed.html"


class KeyForm(forms.Form):
    """A new API key."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=NAME_LENGTH, help_text=gettext_lazy("What the key is for."), strip=True
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("It may"),
        choices=Scope.choices,
        initial=[scope.value for scope in api_keys.DEFAULT_SCOPES],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.IntegerField(
        label=gettext_lazy("Days until it ends"),
        min_value=1,
        max_value=api_keys.MAX_DAYS,
        required=False,
        help_text=gettext_lazy("Empty for never."),
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("token")
def account(request: HttpRequest) -> HttpResponse:
    """Show the account and its keys; a POST makes a key, which is on the page of the answer and nowhere else."""
    form = KeyForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            key, token = _make_key(request, form.cleaned_data)
        except ChatError as refusal:
            form.add_error(None, str(refusal))
        else:
            return render(request, "accounts/key.html", {"key": key, "token": token})
    context = {"form": form, "keys": api_keys.list_keys(caller=_caller(request))}
    return render(request, "accounts/account.html", context, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def revoke_key(request: HttpRequest, key_id: int) -> HttpResponse:
    """Revoke one of the account's keys; go back to the account."""
    if request.method == "POST":  # a GET is what follows a login in between
        try:
            api_keys.revoke_key(caller=_caller(request), key_id=key_id)
        except NotFound as error:
            raise Http404 from error
        messages.success(request, _("API key revoked."))
    return redirect("account")


def _make_key(request: HttpRequest, data: dict[str, Any]) -> tuple[ApiKey, str]:
    return api_keys.create_key(
        caller=_caller(request),
        name=data["name"],
        scopes=data["scopes"],
        expires_at=api_keys.in_days(data["days"]),
    )


def _caller(request: HttpRequest) -> Caller:
    assert request.user.is_authenticated
    return Caller.of(request.user)

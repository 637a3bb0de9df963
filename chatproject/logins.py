"""How often a password may be wrong: what django-axes, which counts, has to know of this project.

Changing one's password counts too: the old one is a guess like those at login. Whoever found a browser that is logged
in could else try passwords there as often as they like.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import Any, cast

from axes.utils import reset
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import authenticate, forms, views
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables

from conversations.access.credentials import Connection, client_block

_turns = [Lock() for _ in range(64)]


def address(request: HttpRequest) -> str | None:
    """Return from where the attempts count together, None where there is no address."""
    return client_block(Connection.from_request(request)) or None


def turn_of(name: str | None, source: str | None) -> Lock:
    """Return what attempts for a name from an address hold while they are judged: one at a time.

    Sent all at once, they would all be judged before the first failure is counted.
    """
    return _turns[hash((name, source)) % len(_turns)]


def locked_out(request: HttpRequest, *_details: Any) -> HttpResponse:
    """Answer a login that comes after too many failures, whatever its password."""
    seconds = math.ceil(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {"minutes": math.ceil(seconds / 60)}
    answer = render(request, "accounts/locked.html", context, status=429)
    answer.headers["Retry-After"] = str(seconds)
    return answer


class LoginForm(forms.AuthenticationForm):
    """Judges attempts for one name from one address one after the other."""

    def clean(self) -> dict[str, Any]:
        request = self.request or HttpRequest()
        with turn_of(self.cleaned_data.get("username"), address(request)):
            return super().clean()


class AdminLoginForm(LoginForm, AdminAuthenticationForm):
    """The same for admin's own login page."""


class PasswordChangeForm(forms.PasswordChangeForm):
    """Django's; a wrong old password counts, and the middleware answers who gave too many."""

    # As admin's page asks for.
    required_css_class = "required"

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    @sensitive_variables("old_password")
    def clean_old_password(self) -> str:
        old_password = str(self.cleaned_data["old_password"])
        name, source = self.user.get_username(), address(self.request)
        with turn_of(name, source):
            found = authenticate(self.request, username=name, password=old_password)
        if found != self.user:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        reset(ip=source, username=name)
        return old_password


class PasswordChangeView(views.PasswordChangeView):
    """Django's with that form, which has to know where the attempt comes from."""

    form_class = PasswordChangeForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}


class AdminSite(admin.AdminSite):
    """Django's, whose pages count wrong passwords."""

    login_form = AdminLoginForm
    site_header = "chatproject"
    site_title = "chatproject"
    index_title = gettext_lazy("Administration")

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """As Django's, which names its form in the middle of it."""
        request.current_app = self.name
        change = PasswordChangeView.as_view(
            template_name=self.password_change_template or "registration/password_change_form.html",
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return cast(TemplateResponse, change(request))

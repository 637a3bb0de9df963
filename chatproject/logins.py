"""How often a password may be wrong: what django-axes, which counts, has to know of this project."""

from __future__ import annotations

import math
from threading import Lock
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from conversations.credentials import Connection, client_block

_turns = [Lock() for _ in range(64)]


def address(request: HttpRequest) -> str | None:
    """Return from where the attempts count together, None where there is no address."""
    return client_block(Connection.from_meta(request.META)) or None


def locked_out(request: HttpRequest, *_details: Any) -> HttpResponse:
    """Answer a login that comes after too many failures, whatever its password."""
    seconds = math.ceil(settings.AXES_COOLOFF_TIME.total_seconds())
    context = {"minutes": math.ceil(seconds / 60)}
    answer = render(request, "accounts/locked.html", context, status=429)
    answer.headers["Retry-After"] = str(seconds)
    return answer


class LoginForm(AuthenticationForm):
    """Judges attempts for one name from one address one after the other.

    Sent all at once, they would all be judged before the first failure is counted.
    """

    def clean(self) -> dict[str, Any]:
        request = self.request or HttpRequest()
        who = (self.cleaned_data.get("username"), address(request))
        with _turns[hash(who) % len(_turns)]:
            return super().clean()


class AdminLoginForm(LoginForm, AdminAuthenticationForm):
    """The same for admin's own login page."""


class AdminSite(admin.AdminSite):
    """Django's, with that form."""

    login_form = AdminLoginForm

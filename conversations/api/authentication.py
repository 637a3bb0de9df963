"""Django REST framework's side of ``credentials``: ``request.user`` is a ``Caller``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.request import Request

from ..access import Caller
from ..credentials import Connection, check_origin, identify
from ..exceptions import NotAuthenticated, PermissionRefused
from ..limits import check_rate
from .gate import RATE, SAFE_METHODS


class CallerAuthentication(BaseAuthentication):
    """Identifies the caller by what ``credentials`` says, and counts the call; a refusal is its problem+json.

    What a browser adds by itself, a cookie or being on this machine, is no proof that a page of ours asked:
    then an unsafe method needs Django's CSRF token, or on an open server our own origin.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        connection = Connection.from_meta(request.META)
        try:
            caller = identify(connection)
        except NotAuthenticated:
            request.META[RATE] = check_rate(connection)
            raise
        request.META[RATE] = check_rate(connection, caller)
        if request.method not in SAFE_METHODS:
            if caller.credential.kind == "session":
                check_csrf(request._request)
            elif caller.credential.kind == "open" and "origin" in connection.headers:
                check_origin(connection)  # without one it is no page; its Host was judged already
        return caller, None


def check_csrf(request: HttpRequest) -> None:
    """Raise ``PermissionRefused`` (``csrf_failed``) unless the request carries its session's CSRF token."""
    check = CSRFCheck(lambda _request: HttpResponse())
    check.process_request(request)
    if check.process_view(request, lambda *_args: HttpResponse(), (), {}):
        raise PermissionRefused(
            _("Send the value of the csrftoken cookie in the header X-CSRFToken, from a page of this site."),
            code="csrf_failed",
        )

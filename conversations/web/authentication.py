"""Django REST framework's side of ``credentials``: ``request.user`` is a ``Caller``."""

from __future__ import annotations

import logging
from copy import copy

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.request import Request

from ..access.credentials import Connection, check_origin, identify
from ..access.rules import Caller
from ..exceptions import NotAuthenticated, PermissionRefused
from ..limits.rates import check_rate
from .gate import RATE, SAFE_METHODS
from .pace import mark_known

logger = logging.getLogger("conversations")

# How both of Django's reasons end, that of an `Origin` and that of a `Referer`.
UNTRUSTED = REASON_BAD_ORIGIN.rpartition("%s")[2]


class CallerAuthentication(BaseAuthentication):
    """Identifies the caller by what ``credentials`` says, and counts the call; a refusal is its problem+json.

    What a browser adds by itself, a cookie or being on this machine, is no proof that a page of ours asked:
    then an unsafe method needs Django's CSRF token, or on an open server our own origin.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        connection = Connection.from_request(request)
        try:
            caller = identify(connection)
        except NotAuthenticated:
            _count(request, connection)
            raise
        mark_known(request)
        _count(request, connection, caller)
        if request.method not in SAFE_METHODS:
            if caller.credential.kind == "session":
                check_csrf(request._request)
            elif caller.credential.kind == "open" and "origin" in connection.headers:
                check_origin(connection)  # without one it is no page; its Host was judged already
        return caller, None


class CountedByAddress(BaseAuthentication):
    """For what everybody may see: asks for nothing, and counts the call as one of the address's."""

    def authenticate(self, request: Request) -> None:
        _count(request, Connection.from_request(request))


def _count(request: Request, connection: Connection, caller: Caller | None = None) -> None:
    """Count a call: once, though its job may run a second time (`db.write_together`). Raises ``RateLimited``."""
    if RATE not in request.META:
        request.META[RATE] = check_rate(connection, caller)


def check_csrf(request: HttpRequest) -> None:
    """Raise ``PermissionRefused`` (``csrf_failed``) unless the request carries its session's CSRF token."""
    check = CSRFCheck(lambda _request: HttpResponse())
    check.process_request(request)
    # Of a POST it would look for the token in a form, which is read only here then, and whole: the header it is.
    asked = copy(request)
    asked.method = "PUT"
    reason = check.process_view(asked, lambda *_args: HttpResponse(), (), {})
    if reason is not None:
        detail = _("Send the value of the csrftoken cookie in the header X-CSRFToken, from a page of this site.")
        raise PermissionRefused(untrusted_origin(request, str(reason)) or detail, code="csrf_failed")


def untrusted_origin(request: HttpRequest, reason: str) -> Promise | None:
    """Return what to say, after a WARNING in the log, where Django's CSRF check did not trust the page's origin.

    Mostly it is the site's own, behind a proxy, that ``CSRF_TRUSTED_ORIGINS`` does not name.
    """
    if not reason.endswith(UNTRUSTED):
        return None
    origin = request.headers.get("Origin") or request.headers.get("Referer")
    logger.warning("%s refused: its origin %r is not in CSRF_TRUSTED_ORIGINS", request.path, origin)
    return _(
        "This page's origin is not trusted. Behind a proxy, whoever runs the server has to name the site's own origin "
        "(https://…) in CSRF_TRUSTED_ORIGINS."
    )

"""What a request asks for: kinds of paths, and what is refused before any view."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from conversations.web import asgi
from conversations.web.errors import problem_response

# Pages with forms, sessions and logins; the first is the chat page. The API's documentation tries calls with the
# session's CSRF token.
PAGES = ("/admin/", "/accounts/")
PAGES_ALONE = frozenset({"", "/accounts", "/docs"})
# Probes of load balancers and containers, which name the address that they call as Host.
HEALTH = frozenset({"/api/health", "/api/health/ready"})
PASSWORD_PAGES = frozenset({"/accounts/login", "/accounts/password", "/admin/login", "/admin/password_change"})


def is_page(path: str) -> bool:
    """Whether the path, as the URL configuration has it, belongs to the pages that have sessions."""
    return path.startswith(PAGES) or path.removesuffix("/") in PAGES_ALONE


def takes_a_password(request: HttpRequest) -> bool:
    """Whether the path is one where passwords are judged, by design slowly."""
    return request.method == "POST" and request.path_info.rstrip("/") in PASSWORD_PAGES


def is_static(request: HttpRequest) -> bool:
    """Whether the path is one of a static file."""
    return request.path_info.startswith(str(settings.STATIC_URL).removeprefix(settings.FORCE_SCRIPT_NAME or ""))


def complete_path(request: HttpRequest) -> None:
    """Put the path below which a proxy serves us before the request's own, where the proxy took it away."""
    if settings.FORCE_SCRIPT_NAME:
        request.path = settings.FORCE_SCRIPT_NAME + request.path_info


def drop_trailing_slash(request: HttpRequest) -> None:
    """Let every path answer with a slash too, for every method: no redirect, which would lose a body."""
    path = request.path_info
    if path.endswith("/") and path != "/" and not path.startswith("/admin/") and not is_static(request):
        request.path_info = request.path_info[:-1]
        request.path = request.path[:-1]


def normalise_scheme(request: HttpRequest) -> None:
    """Write what a proxy says of TLS as Django takes it, in small letters."""
    if settings.SECURE_PROXY_SSL_HEADER and (said := request.META.get(settings.SECURE_PROXY_SSL_HEADER[0])):
        request.META[settings.SECURE_PROXY_SSL_HEADER[0]] = said.lower()


def refusal_of(request: HttpRequest) -> HttpResponse | None:
    """Return the answer to a request that no view should see."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    if not request.path_info.startswith("/"):
        # Such as `OPTIONS *`, where the server in front of us let it pass.
        return problem_response(status=400, code="bad_request", detail=_("The request could not be understood."))
    if scope.get("http_version") == "1.1" and "HTTP_HOST" not in request.META:
        detail = _("HTTP/1.1 asks for a Host header.")
        return problem_response(status=400, code="invalid_host", detail=detail)
    if asgi.TOO_LARGE in scope:
        return asgi.too_large()
    if request.path_info in HEALTH:
        return None
    try:
        request.get_host()
    except DisallowedHost:
        detail = _("This server does not answer to that Host; see ALLOWED_HOSTS.")
        return problem_response(status=400, code="invalid_host", detail=detail)
    return None

"""Pages of the project itself: the API's documentation, and errors."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.negotiation import DefaultContentNegotiation

from conversations.web.authentication import untrusted_origin
from conversations.web.errors import problem_response
from conversations.web.gate import read_only

from .asked import is_page, is_static

# First parts of the API's paths: there a browser gets errors in the API's form, too.
API = frozenset({"api", "chat", "conversations", "generations", "messages", "openapi.json", "schema"})


@read_only
async def favicon(request: HttpRequest) -> HttpResponseBase:
    """Answer browsers that ask here whatever the page said: for JSON, and where no page is."""
    return HttpResponse(_icon(), content_type="image/x-icon", headers={"Cache-Control": "public, max-age=86400"})


@cache
def _icon() -> bytes:
    return (Path(__file__).parent / "static" / "chatproject" / "favicon.ico").read_bytes()


class Docs(SpectacularSwaggerSplitView):
    """Swagger UI from local files, its script apart from the page as the content security policy asks."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    content_negotiation_class = DefaultContentNegotiation
    url_name = "schema"


async def unknown_path(request: HttpRequest) -> HttpResponseBase:
    """Answer a path that no other pattern took: with DEBUG, too, where Django would list the patterns."""
    return not_found(request)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400."""
    return _error(request, 400, "bad_request", _("The request could not be understood."))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403."""
    return _error(request, 403, "forbidden", _("You may not do this."))


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 to a form without its token, or of an origin that is not trusted."""
    detail = _("The form could not be checked: cookies are blocked, or the page is too old. Reload it and try again.")
    return _error(request, 403, "csrf_failed", str(untrusted_origin(request, reason) or detail))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404."""
    return _error(request, 404, "not_found", _("There is nothing here."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500; the log has the traceback."""
    return _error(request, 500, "internal_error", _("Something went wrong on our side."))


def _error(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    if not _wants_page(request):
        return problem_response(status=status, code=code, detail=detail)
    # Without the request: a context processor must not fail while an error is shown.
    return HttpResponse(render_to_string("error.html", {"status": status, "detail": detail}), status=status)


def _wants_page(request: HttpRequest) -> bool:
    if is_page(request.path_info) or is_static(request):
        return True
    first_part = request.path_info.split("/")[1]
    return first_part not in API and "text/html" in request.headers.get("Accept", "")

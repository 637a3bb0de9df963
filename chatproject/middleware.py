"""What HTTP requests pass beside Django's own middleware, with no thread hop.

Each of Django's own hands its hooks to a thread, once or twice a request. Here those that the API needs, too, run
theirs, which only compute, on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from corsheaders import middleware as cors
from django.conf import settings
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders
from django.middleware import common, security
from django.utils import translation
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin

from conversations.access.credentials import is_session_key
from conversations.exceptions import request_id

from .asked import (
    HEALTH,
    complete_path,
    drop_trailing_slash,
    is_static,
    normalise_scheme,
    refusal_of,
)

Answer = HttpResponseBase | Awaitable[HttpResponseBase]
GetResponse = Callable[[HttpRequest], Any]

CLIENT_LEFT = 499
access = logging.getLogger("chatproject.access")

# Headers that many answers get alike, and the language of an answer: each worked out once --------------------

# Characters of an Accept-Language whose outcome is kept: browsers send far fewer.
MEMORABLE = 200
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# Name and value by the name in lower case: how Django's `HttpResponse.headers` hold them.
Headers = dict[str, tuple[str, str]]


def encoded(headers: Mapping[str, str]) -> Headers:
    """Return headers as ``add_headers`` takes them."""
    return dict(ResponseHeaders(headers)._store)


def add_headers(response: HttpResponseBase, headers: Headers) -> None:
    """Give the answer those headers that it does not have. Django would check each value's characters each time."""
    store: Headers = response.headers._store
    for key, header in headers.items():
        store.setdefault(key, header)


STATIC_HEADERS = encoded(SECURITY_HEADERS)


@lru_cache(maxsize=16)
def headers_in(language: str) -> Headers:
    """Return the headers of what is no static file, in a language."""
    return encoded({**SECURITY_HEADERS, "Content-Language": language, "Cache-Control": "no-store"})


def add_vary(response: HttpResponseBase, name: str) -> None:
    """Say that the answer depends on a header of the request."""
    response.headers["Vary"] = _vary(response.headers.get("Vary", ""), name)


@lru_cache(maxsize=64)
def _vary(present: str, name: str) -> str:
    response = HttpResponse(headers={"Vary": present} if present else None)
    patch_vary_headers(response, [name])
    return response.headers["Vary"]


def language_of(request: HttpRequest) -> str:
    """Return the language of the answer: of a cookie, else one that is accepted, else the project's."""
    accepted = request.META.get("HTTP_ACCEPT_LANGUAGE", "")
    if request.META.get("HTTP_COOKIE") or len(accepted) > MEMORABLE:
        return translation.get_language_from_request(request)
    return _accepted_language(accepted, settings.LANGUAGE_CODE)


@lru_cache(maxsize=256)
def _accepted_language(accepted: str, _otherwise: str) -> str:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = accepted
    return translation.get_language_from_request(request)


class RequestMiddleware:
    """Outermost: language, trailing slash, security headers and the access log."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if self.is_async:
            return self._answer(request)
        visit = Visit(request)
        with translation.override(visit.language):
            return visit.end(self.get_response(request))

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        visit = Visit(request)
        # It stays for what is left of the request's own task: a stream is sent after this returns.
        translation.activate(visit.language)
        try:
            return visit.end(await self.get_response(request))
        except asyncio.CancelledError:
            visit.log(CLIENT_LEFT)
            raise


class Visit:
    """One request from the moment it came in until its answer is sent."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.path = request.path
        self.started = time.perf_counter()
        self.language = language_of(request)
        complete_path(request)
        drop_trailing_slash(request)
        normalise_scheme(request)
        self.level = logging.DEBUG if request.path_info in HEALTH else logging.INFO

    def end(self, response: HttpResponseBase) -> HttpResponseBase:
        """Complete the headers, and log the request: a stream when it ends."""
        if is_static(self.request):
            add_headers(response, STATIC_HEADERS)
        else:
            add_headers(response, headers_in(self.language))
            add_vary(response, "Accept-Language")
        if response.streaming:
            # What Django closes once the last part is sent, or the client has left.
            response._resource_closers.append(lambda: self.log(response.status_code))  # type: ignore[attr-defined]
        else:
            self.log(response.status_code)
        return response

    def log(self, status: int) -> None:
        """Write the access line, of probes for DEBUG only; never the query string, which may hold a secret."""
        if not access.isEnabledFor(self.level):
            return
        fields = {
            "method": self.request.method,
            "path": self.path,
            "status": status,
            "ms": round((time.perf_counter() - self.started) * 1000, 1),
        }
        text = "%(method)s %(path)s %(status)d %(ms).1f ms"
        access.log(self.level, text, fields, extra={"fields": fields, "request_id": request_id.get()})


# Django's own -----------------------------------------------------------------------------------------------


class OnLoop(MiddlewareMixin):
    """For middleware whose hooks only compute: they run on the event loop instead of in a thread."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        before = getattr(self, "process_request", None)
        after = getattr(self, "process_response", None)
        response = before(request) if before else None
        if response is None:
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        return after(request, response) if after else response


class CorsMiddleware(cors.CorsMiddleware):
    """Answers for programs of other origins. Most requests name none."""

    def add_response_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add what a browser asks for."""
        if "HTTP_ORIGIN" in request.META:
            return super().add_response_headers(request, response)
        if request._cors_enabled:  # type: ignore[attr-defined]
            add_vary(response, "origin")
        return response


class SecurityMiddleware(OnLoop, security.SecurityMiddleware):
    """HTTPS redirect, HSTS, no framing and Content-Length for every path; refuses what no view should see."""

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        self._plain, self._secure = self._headers(secure=False), self._headers(secure=True)

    def _headers(self, *, secure: bool) -> Headers:
        """What Django adds to each answer, the header of its `XFrameOptionsMiddleware` too."""
        request, response = HttpRequest(), HttpResponse()
        request.is_secure = lambda: secure  # type: ignore[method-assign]
        before = encoded(response.headers)
        added = encoded(super().process_response(request, response).headers)
        framing = encoded({"X-Frame-Options": str(settings.X_FRAME_OPTIONS).upper()})
        return {key: header for key, header in added.items() if key not in before} | framing

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        return refusal_of(request) or super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # type: ignore[override]
        """Complete the headers."""
        add_headers(response, self._secure if request.is_secure() else self._plain)
        is_known = "Content-Length" in response.headers or response.status_code == 204
        if isinstance(response, HttpResponse) and not is_known:
            response.headers["Content-Length"] = str(len(response.content))
        return response


class CommonMiddleware(OnLoop, common.CommonMiddleware):
    """What Django's does besides Content-Length, if a setting asks for any of it; else there is no such layer."""

    def __init__(self, get_response: GetResponse) -> None:
        if not (settings.PREPEND_WWW or settings.APPEND_SLASH or settings.DISALLOWED_USER_AGENTS):
            raise MiddlewareNotUsed
        super().__init__(get_response)


class SessionMiddleware(sessions.SessionMiddleware):
    """Django's; a cookie that can name no session counts as none."""

    def process_request(self, request: HttpRequest) -> None:
        """Begin the session."""
        if not is_session_key(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")):
            del request.COOKIES[settings.SESSION_COOKIE_NAME]
        super().process_request(request)

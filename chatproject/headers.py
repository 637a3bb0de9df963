"""Headers that many answers get alike, and the language of an answer: each worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders
from django.utils import translation
from django.utils.cache import patch_vary_headers

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

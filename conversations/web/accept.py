"""What a caller asks for beside the call: one of two forms of answer, and a language."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest
from django.http.request import MediaType
from django.utils import translation


def asks_for_json(request: HttpRequest) -> bool:
    """Whether `Accept` names JSON, and no type that an event stream would be."""
    accepted = list(_accepted(request.headers.get("Accept", "")))
    return any(map(_is_json, accepted)) and not any(map(_is_stream, accepted))


def _accepted(header: str) -> Iterator[MediaType]:
    """Yield the types that are wanted at all; what cannot be read is passed over."""
    for token in header.split(","):
        try:
            media_type = MediaType(token.strip())
        except ValueError:
            continue
        if media_type.quality > 0:
            yield media_type


def _is_json(media_type: MediaType) -> bool:
    kind, form = media_type.main_type, media_type.sub_type
    return kind == "application" and (form in ("json", "*") or form.endswith("+json"))


def _is_stream(media_type: MediaType) -> bool:
    kind, form = media_type.main_type, media_type.sub_type
    return kind == "*" or (kind == "text" and form in ("event-stream", "*"))


def activate_language(accept_language: str) -> None:
    """Let all that follows speak the language which a header asks for, as Django chooses it for requests."""
    request = HttpRequest()
    request.META["HTTP_ACCEPT_LANGUAGE"] = accept_language
    translation.activate(translation.get_language_from_request(request))

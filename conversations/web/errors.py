"""Every error of the API as `application/problem+json`, with DEBUG on or off."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, TooManyFieldsSent
from django.http import Http404, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions as drf

from ..database import outages
from ..exceptions import (
    CONTENT_TYPE,
    ChatError,
    DatabaseBusy,
    InvalidRequest,
    NotFound,
    PermissionRefused,
    RateLimited,
    UnfitForDatabase,
    problem,
    problem_of,
)

logger = logging.getLogger("conversations.api")


def problem_response(
    *, status: int, code: str, detail: str | Promise, headers: Mapping[str, str] | None = None, **extra: Any
) -> HttpResponse:
    """Return a problem+json answer; ``extra`` adds members such as ``errors`` or ``retry_after``."""
    return _response(problem(status=status, code=code, detail=detail, **extra), headers)


def _response(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> HttpResponse:
    content = json.dumps(body, ensure_ascii=False).encode()
    response = HttpResponse(content, status=body["status"], content_type=CONTENT_TYPE, headers=headers)
    if body["status"] == 401:
        response["WWW-Authenticate"] = "Bearer"
    if body.get("retry_after") is not None:
        response["Retry-After"] = str(body["retry_after"])
    return response


def as_chat_error(error: Exception) -> ChatError | None:
    """Return the refusal that an exception means, None for a fault of ours."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, drf.ValidationError):
        return InvalidRequest(errors=_by_field(error.detail))
    if outages.is_outage(error):
        outages.database.report(error)
        return DatabaseBusy()
    if outages.is_unfit_data(error):
        logger.error("the database cannot hold what it was given: %s", error)
        return UnfitForDatabase()
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, PermissionDenied | drf.PermissionDenied):
        return PermissionRefused()
    if isinstance(error, TooManyFieldsSent):  # what no client means, such as 1,001 parameters in a query
        return InvalidRequest()
    return None


def _by_field(detail: Any) -> dict[str, Any]:
    return dict(detail) if isinstance(detail, Mapping) else {"non_field_errors": detail}


def problem_from(error: Exception) -> HttpResponse:
    """Answer an exception; one that nobody expected is logged and told as a plain 500."""
    refusal = as_chat_error(error)
    if refusal is not None:
        return _response(problem_of(refusal), refusal.headers if isinstance(refusal, RateLimited) else None)
    if isinstance(error, drf.APIException):
        return _framework_problem(error)
    logger.error("a view failed", exc_info=error)
    return _response(problem_of(ChatError()))


def _framework_problem(error: drf.APIException) -> HttpResponse:
    if isinstance(error, drf.ParseError):
        return problem_response(status=400, code="malformed_json", detail=str(error.detail))
    if isinstance(error, drf.UnsupportedMediaType):
        detail = _("Send the body as application/json.")
        return problem_response(status=415, code="unsupported_media_type", detail=detail)
    if isinstance(error, drf.MethodNotAllowed):
        return problem_response(status=405, code="method_not_allowed", detail=str(error.detail))
    return problem_response(status=error.status_code, code=str(error.default_code), detail=str(error.detail))

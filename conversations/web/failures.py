"""Answers that failed, as problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

from ..engine import answer_errors
from ..engine.completions import ProviderError
from ..engine.events import INTERRUPTED, Ending
from .errors import problem_from, problem_response


def failure(
    code: str,
    reason: str,
    retry_after: int | None,
    *,
    status: int,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> HttpResponse:
    """Return the problem of a failed answer; ``status`` is that of a code which is none of ours."""
    return problem_response(
        status=answer_errors.ANSWER_STATUS.get(code, status),
        code=code,
        detail=answer_errors.describe(code, reason),
        headers=headers,
        retry_after=answer_errors.retry_after_of(code, retry_after),
        **extra,
    )


def failure_of(ending: Ending, *, headers: Mapping[str, str] | None = None, **extra: Any) -> HttpResponse:
    """Return the problem of a stored answer that ended in failure, or was interrupted."""
    code = ending.error_code or INTERRUPTED
    return failure(code, ending.error_message, ending.retry_after, status=500, headers=headers, **extra)


def error_from(error: Exception) -> HttpResponse:
    """Answer an exception, a model's failure among them."""
    if not isinstance(error, ProviderError):
        return problem_from(error)
    seconds = None if error.retry_after is None else round(error.retry_after)
    return failure(error.code, error.message, seconds, status=502)


def sentence_of(problem: dict[str, Any]) -> str:
    """Return what a problem says in one line, with the first field that is wrong and why."""
    fields = problem.get("errors") or {}
    field = next(iter(fields), None)
    reason = None if field is None else first_of(fields[field])
    if reason is None:
        return str(problem["detail"])
    if reason == problem["detail"]:
        return f"{field}: {reason}"
    return f"{problem['detail']} {field}: {reason}"


def keep_headers(problem: HttpResponse, answer: HttpResponse) -> None:
    """Let an answer that tells a problem in another form have what the problem's headers say."""
    for name in ("Retry-After", "WWW-Authenticate", "Allow"):
        if name in problem:
            answer[name] = problem[name]


def first_of(value: Any) -> str:
    """Return the first reason among those of a field, which may be fields themselves."""
    while isinstance(value, list | dict) and value:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return str(value)

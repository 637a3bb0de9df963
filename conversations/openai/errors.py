"""Refusals as OpenAI's API tells them: their clients show nothing else."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpResponse

from ..web.failures import error_from, first_of, keep_headers
from .stored import AnswerFailed

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
# Names where theirs are other than ours.
CODES = {
    (400, "context_length"): "context_length_exceeded",
    (401, "login_required"): "invalid_api_key",
    (401, "invalid_key"): "invalid_api_key",
    (429, "budget_exhausted"): "insufficient_quota",
}
# What a model's server refuses it refuses to whoever asks, who chose all of it here.
STATUSES = {"upstream_rate_limit": 429, "upstream_bad_request": 400}
# What waiting may mend, but for what it does not.
RETRIED = frozenset({408, 409, 429})
NEVER_RETRIED = frozenset(
    {
        "answer_stopped",
        "budget_exhausted",
        "local_model_missing",
        "needs_asgi",
        "unfit_for_database",
        "upstream_authentication",
        "upstream_unpaid",
    }
)


def error_of(problem: dict[str, Any]) -> dict[str, Any]:
    """Return what stands under ``error`` for a problem."""
    status, code = problem["status"], problem["code"]
    fields = problem.get("errors") or {}
    param = next(iter(fields), None)
    message = problem["detail"]
    if param is not None:
        message = f"{message} {param}: {first_of(fields[param])}"
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if code == "budget_exhausted":
        kind = "insufficient_quota"
    return {"message": message, "type": kind, "param": param, "code": CODES.get((status, code), code)}


def as_theirs(response: HttpResponse) -> HttpResponse:
    """Return a problem's answer in their form, with what its headers say."""
    problem = json.loads(response.content)
    problem["status"] = status = STATUSES.get(problem["code"], problem["status"])
    content = json.dumps({"error": error_of(problem)}, ensure_ascii=False).encode()
    answer = HttpResponse(content, status=status, content_type="application/json")
    keep_headers(response, answer)
    retried = status >= 500 or status in RETRIED
    if not retried or problem["code"] in NEVER_RETRIED:
        answer["x-should-retry"] = "false"
    return answer


def openai_error(error: Exception) -> HttpResponse:
    """Answer an exception."""
    if not isinstance(error, AnswerFailed):
        return as_theirs(error_from(error))
    answer = as_theirs(error.problem)
    answer["x-should-retry"] = "false"  # it is stored, and another call would make another
    return answer

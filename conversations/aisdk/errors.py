"""Refusals as plain text: the client takes the body of one for the message of its error."""

from __future__ import annotations

import json

from django.http import HttpResponse

from ..web.failures import error_from, keep_headers, sentence_of

# The code of a problem, for programs.
CODE = "X-Error-Code"


def text_error(error: Exception) -> HttpResponse:
    """Answer an exception with its sentence; the status, and what the headers say, are those of its problem."""
    response = error_from(error)
    problem = json.loads(response.content)
    answer = HttpResponse(sentence_of(problem), status=response.status_code, content_type="text/plain; charset=utf-8")
    answer[CODE] = problem["code"]
    keep_headers(response, answer)
    return answer

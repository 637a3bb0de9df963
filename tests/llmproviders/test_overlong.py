"""What servers in use say of a prompt that is too long, of an answer's bound, and what only looks like either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmproviders import exceptions as e
from llmproviders.failures import from_response
from llmproviders.overlong import answer_limit, asks_for_a_shorter_answer
from llmproviders.reasons import said_in

# Of `overlong`: who says it (or said it once), the window that it names, and the prompt's tokens. `look_alikes` are
# about money, time or other fields. Of `answer_bounds`: what may be asked for instead, and whether for any prompt.
KNOWN: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("overlong.json").read_text())


def refusal(status: int, body: Any) -> e.ProviderError:
    said = {"error": {"message": body}} if isinstance(body, str) and not body.startswith("<") else body
    return from_response(status, {}, (said if isinstance(said, str) else json.dumps(said)).encode())


@pytest.mark.parametrize("case", KNOWN["overlong"], ids=lambda case: case["who"])
def test_a_prompt_that_is_too_long(case: dict[str, Any]) -> None:
    error = refusal(case["status"], case["said"])
    assert isinstance(error, e.ContextLengthExceeded), repr(error)
    assert (error.limit, error.prompt_tokens) == (case["limit"], case["prompt"])


@pytest.mark.parametrize("case", KNOWN["look_alikes"])
def test_what_only_looks_like_it(case: dict[str, Any]) -> None:
    assert type(refusal(case["status"], case["said"])).__name__ == case["kind"]


@pytest.mark.parametrize("case", KNOWN["answer_bounds"])
def test_a_bound_of_the_answer(case: dict[str, Any]) -> None:
    said = said_in({"error": {"message": case["said"]}})
    assert asks_for_a_shorter_answer(said)
    assert answer_limit(said, 9000) == (case["bound"], case["lasts"])

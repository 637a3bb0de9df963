"""The JSON of an answer: as servers write it, which is not always as they should."""

from __future__ import annotations

import json
import re
from typing import Any

from django.utils.translation import gettext_noop

from ..exceptions import AnswerTooLarge

# Of an answer with one for each token; the smallest chunk has some hundred bytes.
MAX_DOCUMENTS = 50_000
# Control characters inside a text are taken: some servers do not escape a tab.
_JSON = json.JSONDecoder(strict=False)
_BLANKS = re.compile(r"\s*")


def parsed(text: str) -> Any:
    """Return JSON as a value. Raises ``ValueError``, also for what is nested too deep."""
    try:
        return _JSON.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a document, or of a list of them; of other values nothing is known."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def sequence(text: str) -> tuple[list[dict[str, Any]], str]:
    """Return the objects of JSON documents that follow each other, and what is left where they end.

    Raises ``AnswerTooLarge`` for more than ``MAX_DOCUMENTS``: all are read in one go, while others wait.
    """
    found: list[dict[str, Any]] = []
    at = _after_blanks(text, 0)
    while text.startswith(("{", "["), at) and not text.startswith("[DONE]", at):
        try:
            document, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        found += objects(document)
        if len(found) > MAX_DOCUMENTS:
            raise AnswerTooLarge(gettext_noop("The model's server sent more than it may."))
        at = _after_blanks(text, end)
    return found, text[at:]


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at

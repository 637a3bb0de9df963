"""What one JSON document of an answer says, in any server's dialect: texts, counts, the finish reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ..types import Usage

Kind = Literal["content", "reasoning", "unknown"]

# DeepSeek, older vLLM, GLM; newer vLLM, OpenRouter; Copilot. Where several come they say the same.
REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
_FIELDS: tuple[tuple[str, Kind], ...] = (
    *((name, "reasoning") for name in REASONING_FIELDS),
    ("content", "content"),
    ("refusal", "content"),
)
# What the type of a part of a list makes of its text (OpenAI, Mistral, Databricks, Cohere).
PARTS: Mapping[str, Kind] = {
    "text": "content",
    "output_text": "content",
    "refusal": "content",
    "thinking": "reasoning",
    "reasoning": "reasoning",
    "reasoning_text": "reasoning",
    "summary_text": "reasoning",
}
# Where a part has its text, or more parts.
_TEXTS = ("text", "thinking", "reasoning", "summary", "refusal", "content")
MAX_PART_DEPTH = 8

_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_DETAILS = ("completion_tokens_details", "output_tokens_details")
# A database column holds it too.
_MOST_TOKENS = 2**31 - 1


class Text(NamedTuple):
    """A piece of text; of an ``unknown`` part its type."""

    kind: Kind
    text: str


def choice_of(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The one choice that was asked for: the only one whatever its index (some count tokens there), else the first."""
    choices = document.get("choices")
    if not isinstance(choices, list):
        return None
    if len(choices) == 1:
        return choices[0] if isinstance(choices[0], dict) else None
    found = [choice for choice in choices if isinstance(choice, dict)]
    return next((choice for choice in found if not choice.get("index")), None)


def texts_of(message: object) -> list[Text]:
    """The texts of a delta or message, in their order. A refusal is what the model says."""
    if not isinstance(message, dict):
        return []
    found: list[Text] = []
    for name, kind in _FIELDS:
        if value := message.get(name):
            if kind == "reasoning" and found:
                continue
            found += [Text(kind, value)] if isinstance(value, str) else _parts(value, kind, 0)
    return found


def _parts(value: object, kind: Kind, depth: int) -> Iterator[Text]:
    if isinstance(value, str):
        yield Text(kind, value)
        return
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            yield Text(kind, part)
        elif isinstance(part, dict) and depth < MAX_PART_DEPTH:
            yield from _part(part, kind, depth)


def _part(part: dict[str, Any], kind: Kind, depth: int) -> Iterator[Text]:
    named = part.get("type") or "text"
    own = PARTS.get(named) if isinstance(named, str) else None
    if own is None:
        yield Text("unknown", named if isinstance(named, str) else "?")
        return
    # What is within a thought is one, whatever it calls itself.
    kind = kind if kind == "reasoning" else own
    value = next((value for name in _TEXTS if (value := part.get(name))), None)
    if value:
        yield from _parts(value, kind, depth + 1)


def usage_of(document: Mapping[str, Any], choice: Mapping[str, Any] | None) -> Usage | None:
    """The counts of a document: its own, or those of its choice (Kimi)."""
    counts = document.get("usage") or (choice.get("usage") if choice else None)
    return _usage(counts) if counts else None


def fullest(*counts: Usage | None) -> Usage | None:
    """Servers that count while they answer may end with zeros."""
    return max((count for count in counts if count is not None), key=lambda count: count.total_tokens, default=None)


def _usage(value: object) -> Usage | None:
    """None where it makes no sense, or where nothing was counted."""
    if not isinstance(value, dict):
        return None
    prompt, completion, total = _first(value, _PROMPT), _first(value, _COMPLETION), count(value.get("total_tokens"))
    if prompt is None or completion is None:
        return None
    total = max(total or 0, prompt + completion)
    return Usage(prompt, completion, total, _reasoning(value)) if 0 < total <= _MOST_TOKENS else None


def _reasoning(value: Mapping[str, object]) -> int | None:
    """Of the completion's tokens: beside it (DeepSeek's older servers), or among its details."""
    details = next((value[name] for name in _DETAILS if isinstance(value.get(name), dict)), {})
    assert isinstance(details, dict)
    detailed = count(details.get("reasoning_tokens"))
    return count(value.get("reasoning_tokens")) if detailed is None else detailed


def _first(value: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    return next((number for name in names if (number := count(value.get(name))) is not None), None)


def count(value: object) -> int | None:
    """A whole number, also as a float or as text."""
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None

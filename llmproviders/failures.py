"""An upstream's refusals as errors of ours: classed by status first, by its own words last.

Pure functions. What they take was written by a stranger and may repeat the key that we sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from django.utils.translation import gettext_noop

from .exceptions import (
    ContextLengthExceeded,
    ProviderError,
    UpstreamAuthenticationFailed,
    UpstreamBadRequest,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from .text import clean

MAX_REASON_CHARS = 300
MAX_SAID_CHARS = 65_536
MAX_RETRY_AFTER = 86_400.0

PLAIN: Mapping[type[ProviderError], str] = {
    UpstreamAuthenticationFailed: gettext_noop("The model's server did not accept the key."),
    UpstreamRateLimited: gettext_noop("The model's server is asked too much at the moment."),
    ContextLengthExceeded: gettext_noop("The conversation is too long for the model."),
    UpstreamBadRequest: gettext_noop("The model's server refused the request."),
    UpstreamUnavailable: gettext_noop("The model's server is not available."),
    UpstreamTimeout: gettext_noop("The model's server did not answer in time."),
    UpstreamProtocolError: gettext_noop("The model's server did not answer in the expected format."),
}

# All that a user is told where there is no connection, or may be none: whatever the reason, one text.
UNREACHABLE = gettext_noop("The model's server cannot be reached.")

_CONTEXT_LENGTH = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|prompt is too long|reduce the length|too many (input )?tokens"
    r"|input (is )?too long|input length|exceeds? the (maximum|max) number of (input )?tokens"
    r"|上下文|超长|过长|超过.{0,12}长度",
    re.IGNORECASE,
)
# Words of `type` and `code` for errors that come inside a stream, where there is no status.
_WORDS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"auth|api_?key|permission|forbidden", 401),
        (r"rate_?limit|quota|too_?many", 429),
        (r"time_?out", 504),
        (r"invalid_?request|bad_?request|not_?found|content_filter|context_length|exceed_context", 400),
    )
)
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+"), r"\1 ***"),
    (re.compile(r"(?i)//[^/\s@]+@"), "//***@"),
    (
        re.compile(r"(?i)((?:api[-_]?key|access[-_]?token|token|key|secret|password)\s*[=:]\s*['\"]?)[^\s&'\",;]+"),
        r"\1***",
    ),
    (re.compile(r"\b(?:sk|pk|rk|gsk|hf|xai|ghp|glpat|nvapi|r8|pplx|key|fw|tgp)[-_][\w.*-]{4,}"), "***"),
    (re.compile(r"\bAIza[\w-]{16,}"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*"), "***"),
    (re.compile(r"\b(?=\w*[0-9])(?=\w*[A-Za-z])\w{32,}\b"), "***"),
)
_CONTROL = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_HTML = re.compile(r"<\s*(!doctype|html|head|body)", re.IGNORECASE)


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, key: str = "") -> ProviderError:
    """The error for a response that is no 2xx. ``key`` is what was sent, so that it can be blotted out."""
    document = _parsed(body)
    reason, words = _said(document)
    if 300 <= status < 400:
        return UpstreamProtocolError(gettext_noop("The model's server redirects to another address."), status=status)
    return _error(status, reason, words, key=key, retry_after=retry_after(headers))


def from_document(document: Mapping[str, Any], *, key: str = "") -> ProviderError | None:
    """The error that a JSON object in a 200 answer reports, or None if it reports none."""
    if not (document.get("error") or document.get("object") == "error"):
        return None
    reason, words = _said(document)
    return _error(_status_of(document, words), reason, words, key=key)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, 0 to a day, from ``Retry-After`` (seconds or a date); None when it says nothing usable."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def clean_reason(text: str, *, key: str = "") -> str:
    """One short line of an upstream's own words, with secrets blotted out; ``""`` if nothing of use is left."""
    line = _CONTROL.sub(" ", clean(text[:MAX_SAID_CHARS])).strip()
    if _HTML.search(line):
        return ""
    line = without_key(line, key)
    for pattern_of_secret, replacement in _SECRETS:
        line = pattern_of_secret.sub(replacement, line)
    return line if len(line) <= MAX_REASON_CHARS else line[: MAX_REASON_CHARS - 1].rstrip() + "…"


def without_key(text: str, key: str) -> str:
    """``text`` with the key that was sent blotted out."""
    if not key or key not in text:
        return text
    # A short key may be part of ordinary words.
    pattern = re.escape(key) if len(key) >= 8 else rf"(?<!\w){re.escape(key)}(?!\w)"
    return re.sub(pattern, "***", text)


def _error(status: int, reason: str, words: str, *, key: str, retry_after: float | None = None) -> ProviderError:
    kind = _kind(status, f"{words} {reason}")
    return kind(clean_reason(reason, key=key) or PLAIN[kind], status=status, retry_after=retry_after)


def _kind(status: int, said: str) -> type[ProviderError]:
    if status in (401, 403):
        return UpstreamAuthenticationFailed
    if status == 429:
        return UpstreamRateLimited
    if status in (408, 504):
        return UpstreamTimeout
    if status >= 500:
        return UpstreamUnavailable
    if status < 400:
        return UpstreamProtocolError
    if status in (400, 413, 422) and _CONTEXT_LENGTH.search(said):
        return ContextLengthExceeded
    return UpstreamBadRequest


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _said(document: Any) -> tuple[str, str]:
    """``(reason, type and code)`` of an error body: OpenAI's shape, vLLM's flat one, FastAPI's ``detail``."""
    if not isinstance(document, Mapping):
        return "", ""
    error = document.get("error") or document
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, Mapping):
        return "", ""
    reason = error.get("message") or error.get("msg") or error.get("detail") or ""
    if isinstance(reason, list) and reason and isinstance(reason[0], Mapping):
        reason = reason[0].get("msg", "")
    words = " ".join(str(error.get(name)) for name in ("type", "code") if isinstance(error.get(name), (str, int)))
    return (reason if isinstance(reason, str) else ""), words


def _status_of(document: Mapping[str, Any], words: str) -> int:
    error = document["error"] if isinstance(document.get("error"), Mapping) else document
    code = str(error.get("code", ""))
    if re.fullmatch(r"[45][0-9][0-9]", code):
        return int(code)
    return next((status for pattern, status in _WORDS if pattern.search(words)), 500)


def _seconds_until(date: str) -> float:
    try:
        when = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return math.nan
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()

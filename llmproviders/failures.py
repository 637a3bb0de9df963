"""An upstream's refusals as errors of ours: classed by status first, by its own words last.

Pure functions. What they take was written by a stranger and may repeat the key that we sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from django.utils.translation import gettext_noop

from .exceptions import (
    ContextLengthExceeded,
    ModelLoading,
    ProviderError,
    UpstreamAuthenticationFailed,
    UpstreamBadRequest,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnpaid,
)
from .overlong import is_overlong, numbers
from .reasons import Said, said_by, said_in
from .reasons import clean_reason as clean_reason  # for readers of answers, too
from .reasons import without_key as without_key

MAX_RETRY_AFTER = 86_400.0

PLAIN: Mapping[type[ProviderError], str] = {
    UpstreamAuthenticationFailed: gettext_noop("The model's server did not accept the key."),
    UpstreamRateLimited: gettext_noop("The model's server is asked too much at the moment."),
    ContextLengthExceeded: gettext_noop("The conversation is too long for the model."),
    UpstreamUnpaid: gettext_noop("The account at the model's server has no credit left."),
    ModelLoading: gettext_noop("The model's server is still loading the model."),
    UpstreamBadRequest: gettext_noop("The model's server refused the request."),
    UpstreamUnavailable: gettext_noop("The model's server is not available."),
    UpstreamTimeout: gettext_noop("The model's server did not answer in time."),
    UpstreamProtocolError: gettext_noop("The model's server did not answer in the expected format."),
}

# All that a user is told where there is no connection, or may be none: whatever the reason, one text.
UNREACHABLE = gettext_noop("The model's server cannot be reached.")
UNKNOWN_NAME = gettext_noop("The name of the model's server is not known.")
BAD_CERTIFICATE = gettext_noop("The certificate of the model's server is not valid.")
NO_TLS = gettext_noop("No secure connection to the model's server could be made.")
CONNECTION_REFUSED = gettext_noop("The model's server refused the connection.")
CLOSED = gettext_noop("The model's server closed the connection without an answer.")
NOT_STARTED = gettext_noop("The embedded model did not start; the server's log says why.")
# The reasons of an `UpstreamUnavailable` that no answer said.
UNANSWERED = frozenset(
    {"", UNREACHABLE, UNKNOWN_NAME, BAD_CERTIFICATE, NO_TLS, CONNECTION_REFUSED, CLOSED, NOT_STARTED}
)

_RATE = re.compile(r"rate_?limit|too_?many_?requests|throttl", re.IGNORECASE)
# Money, or a contract that has ended: nothing that waiting mends.
_UNPAID = re.compile(
    r"insufficient[_ ](user[_ ])?(quota|balance|credits?|funds?)|billing_(hard_limit|not_active)|billing hard limit"
    r"|exceeded[_ ](your[_ ])?current[_ ]quota|arrearage|overdue|payment[_ ]required|(credit|account) balance"
    r"|balance (is )?(insufficient|not enough|too low|exhausted)|not enough (balance|credits?)|good standing"
    r"|(used|out of|no) (all )?(available |remaining |your )?credits|credits? (limit|exhausted|depleted)"
    r"|spend(ing)?[_ ]limit|monthly included credits|access[_ ]terminated|free quota|FreeTierOnly"
    r"|free tier of the model"
    r"|subscription (has )?(expired|ended)"
    r"|欠费|余额|充值|资源包|额度.{0,6}(用尽|不足|耗尽|用完)|套餐.{0,6}(到期|过期)",
    re.IGNORECASE,
)
# Some answer 400 (Gemini, xAI). That may as well be about a value that it quotes, and then anybody chose the words:
# of the reason only its beginning counts, which is the server's own.
_WRONG_KEY_CODE = re.compile(
    r"(?<!\S)((incorrect|invalid|wrong)_?api_?key|api_?key_?(not_?valid|invalid|incorrect))(?!\S)", re.IGNORECASE
)
_WRONG_KEY = re.compile(
    r"(incorrect|invalid|wrong) api[ _-]?key|api[ _-]?key (is )?(not valid|invalid|incorrect)", re.IGNORECASE
)
# What was said, rather than who said it (OpenRouter answers 403): by its code, or in words that speak of no right.
_FLAGGED_CODE = re.compile(r"moderation|flagged|data_?inspection|content_?(policy|filter)", re.IGNORECASE)
_FLAGGED = re.compile(
    r"\b(input|prompt|content|message|text|image)s?\b[^.]{0,40}\bflagged"
    r"|\bflagged[^.]{0,40}\b(input|prompt|content|message|text|image)|content (policy|filter)",
    re.IGNORECASE,
)
_RIGHTS = re.compile(r"(?<![a-z])keys?\b|\baccounts?\b|\baccess|\bpermission", re.IGNORECASE)
# What is said where `Retry-After` is not (Gemini, OpenAI, Groq, Azure).
_AGAIN = re.compile(
    r"(?:try again|retry)(?: \w{1,20}){0,3}? (?:in|after) (?=\d)"
    r"(?:(\d{1,4}) ?h(?:(?:ou)?rs?)?(?![a-z])[ ,]{0,2}(?:and )?)?"
    r"(?:(\d{1,4}) ?m(?:in(?:ute)?s?)?(?![a-z])[ ,]{0,2}(?:and )?)?"
    r"(?:(\d{1,6}(?:\.\d{1,12})?) ?((?:milli|m)?s))?",
    re.IGNORECASE,
)
# The same sentence says of other servers that a minute's share is used up, and when there is more.
_COMES_BACK = re.compile(r"retry in \d|per ?(minute|second)|try again in \d|GenerateRequestsPerMinute", re.IGNORECASE)
# GLM's for accounts: locked, in arrears, a package that ended, and shares of a day, some hours or a week.
_UNPAID_CODES = frozenset({"1112", "1113", "1304", "1308", "1309", "1310"})
_LOADING = re.compile(
    r"(is|still|currently) (currently |still )?(loading|warming up|starting up|initiali[sz]ing)"
    r"|loading (the )?model|warming up"
    r"|model[^.]{0,60}(not (yet )?(ready|loaded)|being loaded)|(模型|服务).{0,8}(加载中|启动中)|正在(加载|启动)",
    re.IGNORECASE,
)
# Words of `type` and `code` for errors that come inside a stream, where there is no status.
_WORDS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), status)
    for pattern, status in (
        (r"auth|api_?key|permission|forbidden", 401),
        (r"rate_?limit|quota|too_?many|resource_?exhausted|throttl", 429),
        (r"overloaded|unavailable|server_?error|internal", 503),
        (r"time_?out", 504),
        (
            r"invalid_?request|invalid_?(argument|parameter)|bad_?request|unsupported|not_?found|content_filter|context_length|exceed_context"
            r"|data_?inspection",
            400,
        ),
    )
)
# A code that says that all is well (Spark).
_NO_CODES = (0, "0", 200, "200")
# Beside 200: what an error without `error` has, and an answer has not.
_OWN_WAYS = ("error_code", "error_msg", "error_message", "errors", "detail", "message", "msg", "base_resp", "Message")


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, key: str = "") -> ProviderError:
    """The error for a response that is no 2xx. ``key`` is what was sent, so that it can be blotted out."""
    if 300 <= status < 400:
        return UpstreamProtocolError(gettext_noop("The model's server redirects to another address."), status=status)
    return _error(status, said_by(body), key=key, retry_after=retry_after(headers))


def from_document(document: Mapping[str, Any], *, key: str = "") -> ProviderError | None:
    """The error that a JSON object in a 200 answer reports, or None if it reports none."""
    if not (document.get("error") or document.get("object") == "error" or _reports(document)):
        return None
    said = said_in(document)
    return _error(_status_of(said.words), said, key=key)


def _reports(document: Mapping[str, Any]) -> bool:
    """Whether an object that is no part of an answer tells of an error in a way of its own."""
    if document.get("choices") or document.get("usage"):
        return False
    state = document.get("base_resp")
    if isinstance(state, Mapping):
        return bool(state.get("status_code"))
    if document.get("success") is False or (isinstance(code := document.get("error_code"), int) and code):
        return True
    return document.get("code") not in _NO_CODES and any(
        isinstance(value := document.get(name), str | list | Mapping)
        and value
        and not (isinstance(value, Mapping) and "role" in value)
        for name in _OWN_WAYS
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, 0 to a day, from ``Retry-After`` (seconds or a date); None when it says nothing usable."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    return _bounded(seconds) if math.isfinite(seconds) else None


def _said_to_wait(reason: str) -> float | None:
    """Seconds to wait, where the reason says it in words: ``in 1m2.5s``, ``after 34 seconds``."""
    found = _AGAIN.search(reason)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, count, unit = found.groups()
    seconds = float(count or 0) / (1000 if unit and unit.lower().startswith("m") else 1)
    return _bounded(3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _error(status: int, said: Said, *, key: str, retry_after: float | None = None) -> ProviderError:
    kind = _kind(status, said)
    message = clean_reason(said.reason, key=key) or PLAIN[kind]
    if kind is ContextLengthExceeded:
        sizes = numbers(said)
        return ContextLengthExceeded(message, status=status, limit=sizes.limit, prompt_tokens=sizes.prompt)
    if kind is ModelLoading and retry_after is None:
        estimate = said.counts.get("estimated_time")
        retry_after = None if estimate is None else _bounded(estimate)
    if kind is UpstreamRateLimited and retry_after is None:
        retry_after = _said_to_wait(said.reason)
    return kind(message, status=status, retry_after=retry_after)


def _kind(status: int, said: Said) -> type[ProviderError]:
    if status >= 400 and _is_unpaid(status, said):
        return UpstreamUnpaid
    if status == 403 and _is_flagged(said):
        return UpstreamBadRequest
    if status in (401, 403) or (status == 400 and _is_wrong_key(said)):
        return UpstreamAuthenticationFailed
    if status == 429:
        return UpstreamRateLimited
    if status in (408, 504):
        return UpstreamTimeout
    if status >= 500 and _LOADING.search(said.all):
        return ModelLoading
    if status >= 400 and is_overlong(said, status):
        return ContextLengthExceeded
    if status >= 500:
        return UpstreamUnavailable
    if status < 400:
        return UpstreamProtocolError
    return UpstreamRateLimited if _RATE.search(said.words) else UpstreamBadRequest


def _is_wrong_key(said: Said) -> bool:
    return bool(_WRONG_KEY_CODE.search(said.words) or _WRONG_KEY.match(said.reason))


def _is_flagged(said: Said) -> bool:
    if _FLAGGED_CODE.search(said.words):
        return True
    return bool(_FLAGGED.search(said.reason)) and not _RIGHTS.search(said.reason)


def _is_unpaid(status: int, said: Said) -> bool:
    if status == 402 or "insufficient_quota" in said.words or _UNPAID_CODES & set(said.words.split()):
        return True
    return bool(_UNPAID.search(said.all)) and not _COMES_BACK.search(said.reason)


def _status_of(words: str) -> int:
    if code := next((word for word in words.split() if re.fullmatch(r"[45][0-9][0-9]", word)), ""):
        return int(code)
    return next((status for pattern, status in _WORDS if pattern.search(words)), 500)


def _seconds_until(date: str) -> float:
    try:
        when = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return math.nan
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()

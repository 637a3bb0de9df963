"""Refusals classed and their words cleaned, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders import exceptions as e
from llmproviders.failures import PLAIN, clean_reason, from_document, from_response, retry_after


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": {"message": "Incorrect key"}}, e.UpstreamAuthenticationFailed, "Incorrect key"),
        (403, "<html>no</html>", e.UpstreamAuthenticationFailed, PLAIN[e.UpstreamAuthenticationFailed]),
        (429, {"error": "slow down"}, e.UpstreamRateLimited, "slow down"),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, e.ContextLengthExceeded, "x"),
        (400, {"error": {"type": "context_size"}}, e.ContextLengthExceeded, PLAIN[e.ContextLengthExceeded]),
        (400, {"object": "error", "message": "context size is 5"}, e.ContextLengthExceeded, "context size is 5"),
        (413, {"error": {"message": "prompt is too long"}}, e.ContextLengthExceeded, "prompt is too long"),
        (400, {"error": {"message": "max_tokens is too large"}}, e.UpstreamBadRequest, "max_tokens is too large"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, e.UpstreamBadRequest, "field required"),
        (404, {"detail": "Not Found"}, e.UpstreamBadRequest, "Not Found"),
        (413, "", e.UpstreamBadRequest, PLAIN[e.UpstreamBadRequest]),
        (500, "<!doctype html><h1>Oops</h1>", e.UpstreamUnavailable, PLAIN[e.UpstreamUnavailable]),
        (503, {"message": "loading model"}, e.UpstreamUnavailable, "loading model"),
        (500, {"error": {"message": "context length"}}, e.UpstreamUnavailable, "context length"),
        (408, "", e.UpstreamTimeout, PLAIN[e.UpstreamTimeout]),
        (504, "", e.UpstreamTimeout, PLAIN[e.UpstreamTimeout]),
        (302, "", e.UpstreamProtocolError, "The model's server redirects to another address."),
        (400, "[" * 3000, e.UpstreamBadRequest, PLAIN[e.UpstreamBadRequest]),
        (400, [1], e.UpstreamBadRequest, PLAIN[e.UpstreamBadRequest]),
        (400, {"error": {"message": {"nested": 1}}}, e.UpstreamBadRequest, PLAIN[e.UpstreamBadRequest]),
    ],
)  # fmt: skip
def test_a_failure_is_classed_by_status_first(
    status: int, body: Any, kind: type[e.ProviderError], message: str
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    error = from_response(status, {}, content.encode())
    assert type(error) is kind
    assert (str(error), error.status) == (message, status)


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"error": {"message": "m", "code": 400}}, e.UpstreamBadRequest),
        ({"error": {"message": "m", "code": "429"}}, e.UpstreamRateLimited),
        ({"error": {"message": "m", "type": "InternalServerError", "code": 500}}, e.UpstreamUnavailable),
        ({"error": {"message": "m", "type": "rate_limit_error"}}, e.UpstreamRateLimited),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, e.UpstreamAuthenticationFailed),
        ({"error": {"message": "prompt is too long", "type": "invalid_request"}}, e.ContextLengthExceeded),
        ({"error": "something"}, e.UpstreamUnavailable),
        ({"error": True}, e.UpstreamUnavailable),
        ({"object": "error", "message": "m", "code": 401}, e.UpstreamAuthenticationFailed),
    ],
)  # fmt: skip
def test_an_error_object_is_classed_by_its_code_or_type(document: dict[str, Any], kind: type[e.ProviderError]) -> None:
    assert type(from_document(document)) is kind


@pytest.mark.parametrize("document", [{}, {"error": None}, {"choices": []}, {"object": "chat.completion.chunk"}])
def test_no_error(document: dict[str, Any]) -> None:
    assert from_document(document) is None


def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    seconds = retry_after({"retry-after": date})
    assert seconds is not None
    assert 55 < seconds <= 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 0.5 ", 0.5),
        ("-5", 0.0),
        ("99999999999999", 86_400.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("Wed, 99 Foo 9999 99:99:99 GMT", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("Incorrect API key provided: sk-ab***xyz. See docs.", "Incorrect API key provided: *** See docs."),
        ("Bad header: Bearer abc.def-123", "Bad header: Bearer ***"),
        ("cannot reach http://user:pass@proxy/", "cannot reach http://***@proxy/"),
        ("see https://x.example/?api_key=abc123&x=1", "see https://x.example/?api_key=***&x=1"),
        ("token 0123456789abcdef0123456789abcdef failed", "token *** failed"),
        ("my-own-key-1 is wrong, my-own-key-1", "*** is wrong, ***"),
        ("a\x00b\r\nc\x1b[31m\u202ed", "ab c [31m d"),
        ("lone \ud800", "lone \ufffd"),
        ("<html><body>secret</body></html>", ""),
        ("Prompt contains 40000 tokens", "Prompt contains 40000 tokens"),
    ],
)
def test_a_reason_is_cleaned(said: str, cleaned: str) -> None:
    assert clean_reason(said, key="my-own-key-1") == cleaned


def test_a_short_key_does_not_garble_words() -> None:
    assert clean_reason("key abc in abcd", key="abc") == "key *** in abcd"


@given(text=st.text(st.characters(codec=None), max_size=2000), key=st.text("abc-_019", min_size=8, max_size=30))
def test_any_reason_becomes_one_short_line_without_the_key(text: str, key: str) -> None:
    reason = clean_reason(f"{text}{key}{text}"[:3000], key=key)
    assert len(reason) <= 300
    assert key not in reason
    assert reason.isprintable() or "\n" not in reason
    reason.encode()

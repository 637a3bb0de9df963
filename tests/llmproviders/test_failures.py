"""Refusals classed and their words cleaned, without a server."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproviders import exceptions as e
from llmproviders.failures import PLAIN, from_document, from_response, retry_after
from llmproviders.reasons import clean_reason


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"error": {"message": "Incorrect key"}}, e.UpstreamAuthenticationFailed, "Incorrect key"),
        (403, "<html>no</html>", e.UpstreamAuthenticationFailed, PLAIN[e.UpstreamAuthenticationFailed]),
        (400, [{"error": {"message": "API key not valid.", "code": 400}}], e.UpstreamAuthenticationFailed,
         "API key not valid."),
        (400, {"code": "x", "error": "Incorrect API key provided"}, e.UpstreamAuthenticationFailed,
         "Incorrect API key provided"),
        (400, [{"error": {"message": "API key not valid. Please pass one.", "status": "INVALID_ARGUMENT"}}],
         e.UpstreamAuthenticationFailed, "API key not valid. Please pass one."),
        (400, {"error": {"message": "No", "code": "invalid_api_key"}}, e.UpstreamAuthenticationFailed, "No"),
        (400, {"error": {"message": "No", "status": "API_KEY_INVALID"}}, e.UpstreamAuthenticationFailed, "No"),
        (400, {"code": "InvalidApiKey", "message": "No"}, e.UpstreamAuthenticationFailed, "No"),
        (403, {"error": {"message": "m requires moderation. Your input was flagged"}}, e.UpstreamBadRequest,
         "m requires moderation. Your input was flagged"),
        (429, {"error": "slow down"}, e.UpstreamRateLimited, "slow down"),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, e.ContextLengthExceeded, "x"),
        (400, {"error": {"type": "context_size"}}, e.ContextLengthExceeded, PLAIN[e.ContextLengthExceeded]),
        (400, {"object": "error", "message": "context size is 5"}, e.ContextLengthExceeded, "context size is 5"),
        (413, {"error": {"message": "prompt is too long"}}, e.ContextLengthExceeded, "prompt is too long"),
        (400, {"error": {"message": "max_tokens is too large"}}, e.UpstreamBadRequest, "max_tokens is too large"),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, e.UpstreamBadRequest, "field required"),
        (404, {"detail": "Not Found"}, e.UpstreamBadRequest, "Not Found"),
        (413, "", e.ContextLengthExceeded, PLAIN[e.ContextLengthExceeded]),
        (500, "<!doctype html><h1>Oops</h1>", e.UpstreamUnavailable, PLAIN[e.UpstreamUnavailable]),
        (503, {"message": "loading model"}, e.ModelLoading, "loading model"),
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
        ({"error": {"message": "m", "code": "data_inspection_failed"}}, e.UpstreamBadRequest),
        ({"code": "DataInspectionFailed", "message": "m"}, e.UpstreamBadRequest),
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
    ("reason", "seconds"),
    [
        ("Rate limit reached for gpt-4: Limit 3, Used 3. Please try again in 20s. Visit https://x", 20.0),
        ("Rate limit reached. Please try again in 6ms.", 0.006),
        ("Please try again in 2m59.56s.", 179.56),
        ("try again in 8h6m", 29_160.0),
        ("Please retry after 34 seconds.", 34.0),
        ("You exceeded your quota. Please retry in 22.519263958s.", 22.519263958),
        ("Please retry your request after 3 minutes", 180.0),
        ("Please try again in 500 milliseconds", 0.5),
        ("retry after 5 hours, 30 minutes and 2 seconds", 19_802.0),
        ("retry after 10 messages", None),
        ("try again in 3 months", None),
        ("Please try again in 999999h", None),
        ("Please try again in a moment", None),
        ("Try again later, in 2026", None),
    ],
)
def test_how_long_to_wait_is_taken_from_words_where_no_header_says_it(reason: str, seconds: float | None) -> None:
    body = json.dumps({"error": {"message": reason, "code": "rate_limit_exceeded"}}).encode()
    assert from_response(429, {}, body).retry_after == seconds
    assert from_response(429, {"retry-after": "7"}, body).retry_after == 7.0
    assert from_response(400, {}, b'{"error": "try again in 5s"}').retry_after is None


def test_the_reason_is_found_in_what_was_compressed() -> None:
    body = gzip.compress(b'{"error": {"message": "slow down"}}')
    assert str(from_response(429, {}, body)) == "slow down"
    assert str(from_response(429, {}, body[:20])) == PLAIN[e.UpstreamRateLimited]
    bomb = gzip.compress(b" " * 100_000_000 + b"x", 1)
    before = time.process_time()
    assert str(from_response(429, {}, bomb)) == PLAIN[e.UpstreamRateLimited]
    assert time.process_time() - before < 1


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


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('[{"error": {"code": 400, "message": "key not valid", "status": "INVALID_ARGUMENT"}}]', "key not valid"),
        ('data: {"error": {"message": "No such model"}}\n\ndata: [DONE]\n\n', "No such model"),
        ('event: error\ndata: {"code": "InvalidParameter", "message": "bad"}\n\n', "bad"),
        ('error: {"code":400,"message":"in a field"}\n\n', "in a field"),
        ("model not found: qwen", "model not found: qwen"),
        ("Internal Server Error", "Internal Server Error"),
        ("<html><head><title>404 Not\n Found</title></head><body>host db-1</body></html>", "404 Not Found"),
        ("<html><body>host db-1</body></html>", PLAIN[e.UpstreamBadRequest]),
        ("Traceback (most recent call last):\n  File 'x'\nValueError: no such thing", "ValueError: no such thing"),
        ({"error": {"message": "Provider error", "metadata": {"raw": "the real one"}}}, "the real one"),
        ({"error": {"message": "Provider error", "metadata": {"raw": '{"error":{"message":"deep"}}'}}}, "deep"),
        ({"error": {"message": '{"error": {"message": "wrapped"}}'}}, "wrapped"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": {"error": "told in detail"}}, "told in detail"),
        ({"detail": [{"loc": ["body", "x"], "msg": "Field required"}]}, "Field required"),
        ({"error": ["Error in `parameters`"]}, "Error in `parameters`"),
        ({"errors": [{"code": 10000, "message": "no route"}], "success": False}, "no route"),
        ({"errors": ["first", "second"]}, "first"),
        ({"error_code": 336003, "error_msg": "a user's first"}, "a user's first"),
        ({"code": 1210, "msg": "参数有误", "success": False}, "参数有误"),
        ({"Message": "capital"}, "capital"),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, "invalid params"),
        ({"timestamp": 1, "status": 400, "error": "Bad Request", "message": "no handler", "path": "/"}, "no handler"),
        ({"error": "invalid_request", "error_description": "the longer one"}, "the longer one"),
        ({"Response": {"Error": {"Code": "X", "Message": "of a cloud"}}}, "of a cloud"),
        ({"type": "urn:x", "title": "Bad Request", "status": 400, "detail": "a problem"}, "a problem"),
        ('{"error": {"message": "cut off", "type": "inva', "cut off"),
        ('\ufeff{"message": "behind a mark"}', "behind a mark"),
        ("\x00\x01\x02\x03" * 50, PLAIN[e.UpstreamBadRequest]),
        ({"error": {"message": "key sk-abcdefgh is wrong"}}, "key *** is wrong"),
        ("plain with Bearer abcdef", "plain with Bearer ***"),
    ],
)  # fmt: skip
def test_the_reason_is_found(body: Any, reason: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    assert str(from_response(400, {}, content.encode())) == reason


@pytest.mark.parametrize(
    ("document", "kind", "reason"),
    [
        ({"code": 1113, "msg": "账户已欠费", "success": False}, e.UpstreamUnpaid, "账户已欠费"),
        ({"error_code": 18, "error_msg": "request limit reached"}, e.UpstreamUnavailable, "request limit reached"),
        ({"base_resp": {"status_code": 1004, "status_msg": "no"}, "choices": None}, e.UpstreamUnavailable, "no"),
        ({"detail": "Not authenticated"}, e.UpstreamUnavailable, "Not authenticated"),
        ({"errors": [{"message": "of a list"}]}, e.UpstreamUnavailable, "of a list"),
        ({"status": 401, "message": "who are you"}, e.UpstreamAuthenticationFailed, "who are you"),
    ],
)  # fmt: skip
def test_a_reason_beside_200(document: dict[str, Any], kind: type[e.ProviderError], reason: str) -> None:
    error = from_document(document)
    assert (type(error), str(error)) == (kind, reason)


@pytest.mark.parametrize(
    "document",
    [
        {"choices": [{"delta": {}}], "message": "x"},
        {"choices": [], "usage": {"prompt_tokens": 1}, "detail": "x"},
        {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": []},
        {"message": {"role": "assistant", "content": "x"}},
        {"errors": [], "message": ""},
    ],
)
def test_what_is_part_of_an_answer_reports_nothing(document: dict[str, Any]) -> None:
    assert from_document(document) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, ""),
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
        (429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试"}}),
        (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
        (429, {"error": {"code": "1112", "message": "locked"}}),
        (400, {"code": "Arrearage", "message": "make sure your account is in good standing."}),
        (400, {"error": {"message": "Your credit balance is too low to access the Anthropic API."}}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (403, {"error": {"code": "AccountOverdueError", "message": "the account has an overdue balance"}}),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "Your account is suspended"}}),
        (429, {"error": "Your team has either used all available credits or reached its monthly spending limit."}),
        (403, {"error": {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier is used up"}}),
    ],
)  # fmt: skip
def test_what_only_money_mends(status: int, body: Any) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    assert type(from_response(status, {}, content.encode())) is e.UpstreamUnpaid

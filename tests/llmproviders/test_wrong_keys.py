"""Refusals that are a matter of the key, and such that only look like one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmproviders import exceptions as e
from llmproviders.failures import from_response


@pytest.mark.parametrize(
    "reason",
    [
        "Invalid value: 'invalid api key'. Supported values are: 'low', 'medium' and 'high'.",
        "'invalid api key' is not one of ['text', 'json_object']",
        '"API key not valid" is no format',
        "1 validation error: Input should be 'auto' [type=enum, input_value='wrong api key', input_type=str]",
    ],
)
def test_what_a_refusal_quotes_is_no_wrong_key(reason: str) -> None:
    body = json.dumps({"error": {"message": reason, "type": "invalid_request_error", "code": "invalid_value"}})
    assert type(from_response(400, {}, body.encode())) is e.UpstreamBadRequest


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (e.UpstreamAuthenticationFailed,
         {"message": "Your account was flagged for suspicious activity and its key was disabled"}),
        (e.UpstreamAuthenticationFailed,
         {"message": "You have no permission to change the content filter of this deployment"}),
        (e.UpstreamAuthenticationFailed, {"message": "your key has no access to omni-moderation-latest"}),
        (e.UpstreamAuthenticationFailed, {"message": "Your API keys were flagged"}),
        (e.UpstreamBadRequest, {"message": "Your prompt was flagged by our policy", "type": "permission_error"}),
        (e.UpstreamBadRequest, {"message": "flagged content in input", "code": "PERMISSION_DENIED"}),
        (e.UpstreamBadRequest, {"message": "No access", "code": "content_filter"}),
        (e.UpstreamBadRequest, {"message": "No", "code": "DataInspectionFailed"}),
    ],
)  # fmt: skip
def test_what_was_said_is_told_from_who_said_it(kind: type[e.ProviderError], error: dict[str, Any]) -> None:
    assert type(from_response(403, {}, json.dumps({"error": error}).encode())) is kind

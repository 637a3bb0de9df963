"""Headers of programs in pages of other origins: which they may send, and which they get to see."""

from __future__ import annotations

EXPOSED = [
    "X-Session-Id",
    "X-Message-Id",
    "X-Generation-Id",
    "X-Request-Id",
    "X-Model-Type",
    "X-Should-Retry",
    "Location",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
]
ALLOWED = [
    "accept",
    "accept-language",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    # Of OpenAI's client and the AI SDK, which set it in browsers too: Firefox and Safari ask for it then.
    "user-agent",
    "x-csrftoken",
    "x-request-id",
    # What OpenAI's clients say of themselves in a browser.
    "openai-organization",
    "openai-project",
    *(
        f"x-stainless-{what}"
        for what in (
            "arch",
            "helper-method",
            "lang",
            "os",
            "package-version",
            "retry-count",
            "runtime",
            "runtime-version",
            "timeout",
        )
    ),
]

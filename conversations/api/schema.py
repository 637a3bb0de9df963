"""What drf-spectacular cannot see by itself: who may call, the problems of every call, health."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension

Schema = dict[str, Any]

PROBLEM_STATUSES = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504)
PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457. `code` is a stable word; `detail` is in the caller's language.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "object", "additionalProperties": True, "description": "What is wrong, by field."},
        "retry_after": {"type": "integer", "description": "Seconds to wait."},
        "session_id": {"type": "string", "format": "uuid", "description": "Of an answer that failed."},
        "message_id": {"type": "integer", "description": "Of an answer that failed."},
        "generation_id": {"type": "string", "format": "uuid", "description": "Of an answer that failed."},
    },
    "required": ["type", "title", "status", "detail", "code", "request_id"],
}
HEALTH = {
    "/api/health": ("health", "Say that the process answers; touches neither database nor network."),
    "/api/health/ready": ("ready", "Say whether this process can answer chats: database, migrations, channel layer."),
}


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """On an open server nothing is asked for; with login an API key, or Django's session."""

    target_class = "conversations.api.authentication.CallerAuthentication"
    name = ["key", "session"]

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: `chatkey_…`."},
            {
                "type": "apiKey",
                "in": "cookie",
                "name": settings.SESSION_COOKIE_NAME,
                "description": "A browser's session. Unsafe methods need the header X-CSRFToken.",
            },
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[Schema]:
        return [{}, {"key": []}, {"session": []}]


def complete(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """Post-processing hook: add the problem answer, once, to every call, and the health calls."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    components.setdefault("responses", {})["Problem"] = {
        "description": "What was refused or failed, and why.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, (name, text) in HEALTH.items():
        result["paths"][path] = {"get": _health(name, text)}
    for operations in result["paths"].values():
        for operation in operations.values():
            for status in PROBLEM_STATUSES:
                operation["responses"].setdefault(str(status), {"$ref": "#/components/responses/Problem"})
    return result


def _health(name: str, text: str) -> Schema:
    ok = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    return {
        "operationId": name,
        "description": text,
        "tags": ["health"],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": ok}}}},
    }

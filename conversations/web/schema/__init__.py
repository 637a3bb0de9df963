"""What drf-spectacular cannot see by itself: who may call, the problems of every call, health."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import get_script_prefix
from drf_spectacular.extensions import OpenApiAuthenticationExtension

from .components import COMPONENTS, EVENTS, FEED, UI_EVENTS, Schema
from .links import add_headers_and_links
from .operations import TAGS, ApiSchema, summary_of

__all__ = ["EVENTS", "FEED", "UI_EVENTS", "ApiSchema", "CallerScheme", "complete"]

PROBLEM_STATUSES = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504)
SHARED_RESPONSES = {401: "Unauthorized", 429: "TryLater", 503: "TryLater"}
# Where errors look as in OpenAI's API, and where they are plain text.
OPENAI_PATHS, TEXT_PATHS = "/v1/", "/api/chat"
# What does nothing without a body, though each of its fields may be left out.
NEEDS_BODY = frozenset(
    {
        "/api/agui",
        "/api/chat",
        "/chat",
        "/v1/chat/completions",
        "/v1/conversations/{conversation_id}",
        "/v1/conversations/{conversation_id}/items",
        "/v1/responses",
    }
)
OPTIONAL = {
    "ConversationDeleted": frozenset({"restorable_until"}),
    "Reply": frozenset({"tool_calls"}),
    "Usage": frozenset({"reasoning_tokens", "cost"}),
    "UsageRow": frozenset({"day", "model_type"}),
}
HEALTH = {
    "/api/health": ("health", "Say that the process answers; touches neither database nor network."),
    "/api/health/ready": ("ready", "Say whether this process can answer chats: database, migrations, channel layer."),
}


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """With login an API key, or Django's session; an open server asks for neither, and minds neither."""

    target_class = "conversations.web.authentication.CallerAuthentication"
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
        return [{"key": []}, {"session": []}]


def complete(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """Post-processing hook: what the views do not say. Problems, health, what always comes, servers and groups."""
    components = result.setdefault("components", {})
    _say_what_always_comes(components.setdefault("schemas", {}))
    components["schemas"].update(COMPONENTS)
    components.setdefault("responses", {}).update(PROBLEM_RESPONSES)
    for path, (name, text) in HEALTH.items():
        result["paths"][path] = {"get": _health(name, text)}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            if path in NEEDS_BODY and "requestBody" in operation:
                operation["requestBody"]["required"] = True
            for status in PROBLEM_STATUSES:
                shared = SHARED_RESPONSES.get(status, "Problem")
                shared = f"{_form_of_errors(path)}{shared}"
                operation["responses"].setdefault(str(status), {"$ref": f"#/components/responses/{shared}"})
    add_headers_and_links(result)
    # Relative to where the document is served, so that it holds under any name and path prefix.
    result.setdefault("servers", [{"url": get_script_prefix(), "description": "The server of this document."}])
    used = {tag for operations in result["paths"].values() for call in operations.values() for tag in call["tags"]}
    result.setdefault("tags", [{"name": tag, "description": TAGS[tag]} for tag in TAGS if tag in used])
    return result


def _form_of_errors(path: str) -> str:
    """Return what the names of a path's errors begin with."""
    return "OpenAI" if OPENAI_PATHS in path else "Text" if path.startswith(TEXT_PATHS) else ""


def _say_what_always_comes(schemas: Schema) -> None:
    """Requests take no unknown field; of what we send, no property is left out but some that are named here."""
    for name, schema in schemas.items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False  # StrictSerializer refuses them
        elif "properties" in schema:
            left_out = OPTIONAL.get(name, frozenset())
            schema["required"] = [field for field in schema["properties"] if field not in left_out]


ERRORS: dict[str, Schema] = {
    "Problem": {"description": "What was refused or failed, and why."},
    "Unauthorized": {
        "description": "Nobody is logged in, or the API key or session does not hold (any more).",
        "headers": {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "enum": ["Bearer"]}}},
    },
    "TryLater": {
        "description": "Not now, and why.",
        "headers": {"Retry-After": {"description": "Seconds, where they are known.", "schema": {"type": "integer"}}},
    },
}


def _with_content(error: Schema, media_type: str, shape: str) -> Schema:
    return {**error, "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}}


PROBLEM_RESPONSES = {
    **{name: _with_content(error, "application/problem+json", "Problem") for name, error in ERRORS.items()},
    **{
        f"Text{name}": {**error, "content": {"text/plain": {"schema": {"type": "string"}}}}
        for name, error in ERRORS.items()
    },
    **{f"OpenAI{name}": _with_content(error, "application/json", "OpenAIError") for name, error in ERRORS.items()},
}


def _health(name: str, text: str) -> Schema:
    ok = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    return {
        "operationId": name,
        "summary": summary_of(text),
        "description": text,
        "tags": ["health"],
        "security": [],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": ok}}}},
    }

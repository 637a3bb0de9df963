"""What drf-spectacular cannot see by itself: who may call, the problems of every call, health."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension

Schema = dict[str, Any]

PROBLEM_STATUSES = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504)
SHARED_RESPONSES = {401: "Unauthorized", 429: "TryLater", 503: "TryLater"}
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
STREAM_EVENT: Schema = {
    "type": "object",
    "description": "A server-sent event. `data` is JSON: a `chunk` or `reasoning`, an `error`, and at last `done`.",
    "properties": {
        "id": {"type": "string", "description": "Send it as Last-Event-ID to resume after this event."},
        "event": {"type": "string", "enum": ["message"]},
        "data": {"type": "string"},
        "retry": {"type": "integer"},
    },
    "required": ["data"],
}
EVENTS = {"$ref": "#/components/schemas/StreamEvent"}
HEALTH = {
    "/api/health": ("health", "Say that the process answers; touches neither database nor network."),
    "/api/health/ready": ("ready", "Say whether this process can answer chats: database, migrations, channel layer."),
}


ANSWER_HEADERS: Schema = {
    "X-Session-Id": {"required": True, "schema": {"type": "string", "format": "uuid"}},
    "X-Message-Id": {"required": True, "schema": {"type": "integer"}},
    "X-Generation-Id": {"required": True, "schema": {"type": "string", "format": "uuid"}},
}
LOCATION: Schema = {"Location": {"required": True, "schema": {"type": "string", "format": "uri-reference"}}}
# Path, method and status of the answers whose headers say something.
RESPONSE_HEADERS = (
    ("/chat", "post", "200", ANSWER_HEADERS),
    ("/messages/{message_id}/regenerate", "post", "200", ANSWER_HEADERS),
    ("/generations/{generation_id}/stream", "get", "200", ANSWER_HEADERS),
    ("/conversations", "post", "201", LOCATION),
)

# What can be done next with what a call made: the operation, and the parameter that it takes.
CONVERSATION_CALLS = {
    "conversations_retrieve": "session_id",
    "conversations_history_retrieve": "session_id",
    "conversations_partial_update": "session_id",
    "conversations_destroy": "session_id",
}
ANSWER_CALLS = {
    **CONVERSATION_CALLS,
    "generations_retrieve": "generation_id",
    "generations_stream_retrieve": "generation_id",
    "generations_stop_create": "generation_id",
    "messages_regenerate_create": "message_id",
}
ANSWER_IDS = {
    "session_id": "$response.header.X-Session-Id",
    "generation_id": "$response.header.X-Generation-Id",
    "message_id": "$response.header.X-Message-Id",
}
LINKS = (
    ("/conversations", "post", "201", CONVERSATION_CALLS, {"session_id": "$response.body#/session_id"}),
    ("/chat", "post", "200", ANSWER_CALLS, ANSWER_IDS),
    ("/messages/{message_id}/regenerate", "post", "200", ANSWER_CALLS, ANSWER_IDS),
    ("/api/keys", "post", "201", {"api_keys_destroy": "key_id"}, {"key_id": "$response.body#/id"}),
)


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """With login an API key, or Django's session; an open server asks for neither, and minds neither."""

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
        return [{"key": []}, {"session": []}]


def complete(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """Post-processing hook: add the problem answer, once, to every call, and the health calls."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in schemas.items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False  # StrictSerializer refuses them
    schemas.update({"Problem": PROBLEM, "StreamEvent": STREAM_EVENT})
    components.setdefault("responses", {}).update(
        {
            "Problem": _problem("What was refused or failed, and why."),
            "Unauthorized": _problem(
                "Nobody is logged in, or the API key or session does not hold (any more).",
                {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "enum": ["Bearer"]}}},
            ),
            "TryLater": _problem(
                "Not now, and why.",
                {"Retry-After": {"description": "Seconds, where they are known.", "schema": {"type": "integer"}}},
            ),
        }
    )
    for path, (name, text) in HEALTH.items():
        result["paths"][path] = {"get": _health(name, text)}
    for operations in result["paths"].values():
        for operation in operations.values():
            for status in PROBLEM_STATUSES:
                shared = SHARED_RESPONSES.get(status, "Problem")
                operation["responses"].setdefault(str(status), {"$ref": f"#/components/responses/{shared}"})
    for path, method, code, headers in RESPONSE_HEADERS:
        _response(result, path, method, code)["headers"] = headers
    for path, method, code, calls, ids in LINKS:
        _response(result, path, method, code)["links"] = {
            name: {"operationId": name, "parameters": {parameter: ids[parameter]}} for name, parameter in calls.items()
        }
    return result


def _response(result: Schema, path: str, method: str, code: str) -> Schema:
    """Return a response of the document, or one that is nowhere: a project may serve some of the calls only."""
    response: Schema = result["paths"].get(path, {}).get(method, {}).get("responses", {}).get(code, {})
    return response


def _problem(description: str, headers: Schema | None = None) -> Schema:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, **({"headers": headers} if headers else {}), "content": content}


def _health(name: str, text: str) -> Schema:
    ok = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    return {
        "operationId": name,
        "description": text,
        "tags": ["health"],
        "responses": {"200": {"description": "", "content": {"application/json": {"schema": ok}}}},
    }

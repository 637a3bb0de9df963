"""What schemathesis has to know of this API beyond its schema; the run loads it (schemathesis.toml)."""

from __future__ import annotations

import os
import uuid
from typing import Any

import schemathesis

UPSTREAM = os.environ["SCHEMA_TEST_UPSTREAM"]
OWN_KEY = os.environ["SCHEMA_TEST_KEY_ID"]
# What a schema cannot say: which values this server was configured with, or has made itself.
CONFIGURED: dict[str, Any] = {"model_type": "default", "custom_api_url": ""}
MADE = ("cursor", "after", "lastEventId")


if os.environ["SCHEMA_TEST_RUN"] == "chains":

    @schemathesis.hook
    def before_load_schema(_context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
        """Hide what looks like the id of a thing that no call makes: no chain of calls would begin with that call."""
        for name in ("AttachmentCreateRequest", "ChatRequest", "ConversationCreateRequest", "ConfigUpdateRequest"):
            for field in ("user_id", "session_id"):
                raw_schema["components"]["schemas"][name]["properties"].pop(field, None)


@schemathesis.hook
def filter_query(_context: schemathesis.HookContext, query: dict[str, Any]) -> bool:
    """Leave out what has no form of its own in a URL: null and empty containers arrive as the empty text."""
    return not any(value is None or value in ([], {}) for value in (query or {}).values())


@schemathesis.hook
def filter_body(context: schemathesis.HookContext, body: Any) -> bool:
    """Leave out an empty list in a form: its values are sent one by one, so that nothing of it arrives."""
    if any(alternative.media_type != "multipart/form-data" for alternative in context.operation.body):
        return True
    return not isinstance(body, dict) or [] not in body.values()


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """Let a valid call be one that can be known to be valid, and the run not revoke its own key."""
    if case.operation.label == "DELETE /api/keys/{key_id}" and str(case.path_parameters.get("key_id")) == OWN_KEY:
        case.path_parameters["key_id"] = 2**31 - 1
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name in ("from", "to"):  # nor which of two days is the later one
        case.query.pop(name, None)
    if isinstance(case.body, dict):
        if case.body.get("session_id"):
            case.body.pop("temporary", None)
        # Which of them fit together, and what there is.
        for name in ("tools", "tool_choice", "tool_results", "attachments"):
            case.body.pop(name, None)
        if case.operation.path == "/chat":
            case.body.setdefault("message", "Hi")
        case.body.update({name: value for name, value in CONFIGURED.items() if case.body.get(name)})
    if case.operation.path.startswith("/v1/"):
        case.path_parameters.update({name: "default" for name in case.path_parameters})
        if case.body:
            case.body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
    elif case.operation.path == "/api/agui":
        said = [{"id": "1", "role": "user", "content": "Hi"}]
        case.body = {"threadId": uuid.uuid4().hex, "runId": uuid.uuid4().hex, "messages": said}
    elif case.operation.path == "/api/chat":
        case.body = {"id": "chat", "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    elif case.operation.path.startswith("/api/config/"):
        case.body = {"custom_api_url": UPSTREAM, "custom_model": "scripted"}
    elif case.operation.path == "/search":
        case.query["q"] = "word"  # a pattern cannot say that -word alone is none
    for name in MADE:
        case.query.pop(name, None)
    case.headers.pop("Last-Event-ID", None)

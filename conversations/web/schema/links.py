"""What an answer's headers say, and what can be done next with what a call made."""

from __future__ import annotations

from .components import Schema

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
    ("/api/chat", "post", "200", ANSWER_HEADERS),
    ("/api/chat/{chat_id}/stream", "get", "200", ANSWER_HEADERS),
    ("/conversations", "post", "201", LOCATION),
    ("/attachments", "post", "201", LOCATION),
)

# The operation, and the parameter that it takes.
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
ATTACHMENT_CALLS = {"attachments_retrieve": "attachment_id", "attachments_destroy": "attachment_id"}
LINKS = (
    ("/conversations", "post", "201", CONVERSATION_CALLS, {"session_id": "$response.body#/session_id"}),
    ("/chat", "post", "200", ANSWER_CALLS, ANSWER_IDS),
    ("/messages/{message_id}/regenerate", "post", "200", ANSWER_CALLS, ANSWER_IDS),
    ("/attachments", "post", "201", ATTACHMENT_CALLS, {"attachment_id": "$response.body#/id"}),
    ("/api/keys", "post", "201", {"api_keys_destroy": "key_id"}, {"key_id": "$response.body#/id"}),
)


def add_headers_and_links(document: Schema) -> None:
    """Add them to the answers that the document has: a project may serve some of the calls only."""
    for path, method, code, headers in RESPONSE_HEADERS:
        _response(document, path, method, code)["headers"] = headers
    for path, method, code, calls, ids in LINKS:
        _response(document, path, method, code)["links"] = {
            name: {"operationId": name, "parameters": {parameter: ids[parameter]}} for name, parameter in calls.items()
        }


def _response(document: Schema, path: str, method: str, code: str) -> Schema:
    response: Schema = document["paths"].get(path, {}).get(method, {}).get("responses", {}).get(code, {})
    return response

"""Shapes that no serializer has: problems, and what a stream sends."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

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


def reference(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, **properties: Schema) -> Schema:
    """Return an object all of whose properties always come."""
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


EVENTS = reference("StreamEvent")
# What the JSON in an event's `data` is, and a frame's on the socket but for `id`, `generation_id` and `position`.
DATA: dict[str, Schema] = {
    "ChunkData": _object("More text of the answer.", chunk={"type": "string"}),
    "ReasoningData": _object("More of what the model thinks.", reasoning={"type": "string"}),
    "ToolCallData": {
        "type": "object",
        "description": "More of a tool's call; the first of each call has its id and name.",
        "properties": {
            "tool_call": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer", "minimum": 0, "description": "Counts the calls of an answer."},
                    "id": {"type": "string"},
                    "name": {"type": "string"},
                    "arguments": {"type": "string", "description": "More of the JSON, never empty."},
                },
                "required": ["index", "arguments"],
            }
        },
        "required": ["tool_call"],
    },
    "ErrorData": _object("Why the answer failed; comes right before `done`.", error=reference("StreamError")),
    "DoneData": _object(
        "The end: each stream has exactly one.",
        done={"type": "boolean", "enum": [True]},
        status=reference("AnswerEnd"),
        session_id={"type": "string", "format": "uuid"},
        message_id={"type": "integer"},
        generation_id={"type": "string", "format": "uuid"},
        finish_reason={"type": ["string", "null"]},
        usage={"oneOf": [reference("Usage"), {"type": "null"}]},
        reasoning_chars={
            "type": "integer",
            "minimum": 0,
            "description": "How many characters of the text, from its beginning, are what the model thought. Some of "
            "them may have come as `chunk`, where the model's server did not say so in time.",
        },
    ),
}
_TEXT: Schema = {"type": "string"}
_PIXELS: Schema = {"type": "integer", "minimum": 1}


def _part(kind: str, description: str, **properties: Schema) -> Schema:
    return _object(description, type={"type": "string", "enum": [kind]}, **properties)


PARTS: dict[str, Schema] = {
    "TextPart": _part("text", "Text of the message.", text=_TEXT),
    "ReasoningPart": _part("reasoning", "What the model thought.", text=_TEXT),
    "ToolCallPart": _part("tool_call", "A call that the model asks for.", id=_TEXT, name=_TEXT, arguments=_TEXT),
    "ToolResultPart": _part("tool_result", "What came of the call with that id.", id=_TEXT, content=_TEXT),
    "ImagePart": _part(
        "image",
        "An image that a user shows.",
        attachment_id={"type": "string", "format": "uuid"},
        content_type=_TEXT,
        width=_PIXELS,
        height=_PIXELS,
    ),
}
FEED = reference("FeedEvent")
# What the JSON in an event of the feed is, and a frame's on the socket but for `type` and `id`.
FEED_DATA: dict[str, Schema] = {
    "FeedResync": _object("List again: nothing was kept.", event={"type": "string", "enum": ["resync"]}),
    "FeedConversation": {
        "type": "object",
        "description": "Something is new in a conversation, which is told as it is now unless it is `deleted`.",
        "properties": {
            "event": {"type": "string", "enum": ["conversation"]},
            "change": {"type": "string", "enum": ["created", "changed", "titled", "selected", "deleted"]},
            "session_id": {"type": "string", "format": "uuid"},
            "conversation": reference("Conversation"),
        },
        "required": ["event", "change", "session_id"],
    },
    "FeedReply": {
        "type": "object",
        "description": "An answer began, or ended, with its status.",
        "properties": {
            "event": {"type": "string", "enum": ["reply"]},
            "change": {"type": "string", "enum": ["started", "ended"]},
            "session_id": {"type": "string", "format": "uuid"},
            "generation_id": {"type": "string", "format": "uuid"},
            "message_id": {"type": "integer"},
            "status": reference("AnswerEnd"),
        },
        "required": ["event", "change", "session_id", "generation_id", "message_id"],
    },
}
UI_EVENTS = reference("UIStreamEvent")
# The AI SDK's own parts of a message: what comes, of all that there are.
UI_PARTS: dict[str, Schema] = {
    "UIPart": {
        "type": "object",
        "description": "A part of a message, as the AI SDK's UI message stream has it.",
        "properties": {
            "type": {
                "type": "string",
                "enum": [
                    "start",
                    "start-step",
                    "reasoning-start",
                    "reasoning-delta",
                    "reasoning-end",
                    "text-start",
                    "text-delta",
                    "text-end",
                    "tool-input-start",
                    "tool-input-delta",
                    "tool-input-available",
                    "tool-output-available",
                    "error",
                    "abort",
                    "finish-step",
                    "finish",
                ],
            },
            "id": {"type": "string"},
            "delta": {"type": "string"},
            "messageId": {"type": "string", "description": "The answer's id."},
            "messageMetadata": {"type": "object", "additionalProperties": True},
            "toolCallId": {"type": "string"},
            "toolName": {"type": "string"},
            "inputTextDelta": {"type": "string"},
            "input": {"description": "A call's arguments."},
            "output": {"description": "What came of a call."},
            "errorText": {"type": "string", "description": "In the reader's language."},
        },
        "required": ["type"],
    },
    "UIStreamEvent": {
        "type": "object",
        "description": "A server-sent event; the last one's data is `[DONE]`.",
        "properties": {
            "data": {
                "anyOf": [
                    {"type": "string", "enum": ["[DONE]"]},
                    {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": reference("UIPart"),
                    },
                ]
            }
        },
        "required": ["data"],
    },
}
COMPONENTS: dict[str, Schema] = {
    "Problem": PROBLEM,
    "OpenAIError": _object(
        "A refusal as OpenAI's API tells it.",
        error=_object(
            "What was refused or failed, and why.",
            message={"type": "string", "description": "In the caller's language."},
            type={"type": "string"},
            param={"type": ["string", "null"], "description": "The field that is wrong."},
            **{"code": {"type": "string"}},
        ),
    ),
    "AnswerEnd": {"type": "string", "enum": ["completed", "stopped", "failed", "interrupted"]},
    "StreamError": {
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "message": {"type": "string", "description": "In the reader's language."},
            "retry_after": {"type": "integer", "description": "Seconds to wait, where they are known."},
        },
        "required": ["code", "message"],
    },
    **DATA,
    **PARTS,
    "MessagePart": {"oneOf": [reference(name) for name in PARTS]},
    **FEED_DATA,
    **UI_PARTS,
    "FeedData": {"oneOf": [reference(name) for name in FEED_DATA]},
    "FeedEvent": {
        "type": "object",
        "description": "A server-sent event of the feed.",
        "properties": {
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": reference("FeedData")},
            "retry": {"type": "integer", "description": "Milliseconds until a client should connect again."},
        },
        "required": ["data"],
    },
    "StreamData": {"oneOf": [reference(name) for name in DATA]},
    "StreamEvent": {
        "type": "object",
        "description": "A server-sent event: `chunk`, `reasoning` or `tool_call`, perhaps an `error`, at last `done`.",
        "properties": {
            "id": {"type": "string", "description": "Send it as Last-Event-ID to resume after this event."},
            "event": {"type": "string", "enum": ["message"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": reference("StreamData"),
            },
            "retry": {"type": "integer", "description": "Milliseconds until a client should connect again."},
        },
        "required": ["data"],
    },
}

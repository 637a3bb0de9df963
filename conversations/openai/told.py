"""What a model said, as chunks of a stream and as one completion."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..engine.completions import (
    CompletionFinished,
    ContentDelta,
    Delta,
    ReasoningDelta,
    ThoughtSoFar,
    ToolCallDelta,
    Usage,
)
from ..web.sse import data_of, encode_json, line_of

CHUNK = "chat.completion.chunk"
STOP, LENGTH, CALLS, FILTERED = "stop", "length", "tool_calls", "content_filter"
# How an answer ends in OpenAI's API, and the words of other servers for that.
FINISH_REASONS: Mapping[str, str] = {
    **{reason: reason for reason in (STOP, LENGTH, CALLS, FILTERED)},
    **dict.fromkeys(("max_tokens", "max_output_tokens", "max_length"), LENGTH),
    **dict.fromkeys(("model_length", "model_context_window_exceeded"), LENGTH),
    **dict.fromkeys(("sensitive", "safety", "refusal"), FILTERED),
    **dict.fromkeys(("content_filtered", "recitation", "prohibited_content"), FILTERED),
    **dict.fromkeys(("tool_use", "tool_call", "function_call"), CALLS),
}
# The end of a chunk that is not the last.
NOT_ENDED = ', "finish_reason": null}]}'


def finish_reason_of(finished: CompletionFinished | None, *, calls: bool) -> str:
    """Return how an answer ended, in a word that typed clients take: they know no others."""
    word = finished.finish_reason.lower() if finished else STOP
    return FINISH_REASONS.get(word, CALLS if calls else STOP)


@dataclass(slots=True)
class Call:
    """A call of a tool, whose arguments came in pieces."""

    id: str
    name: str
    arguments: list[str]

    def whole(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


@dataclass
class Told:
    """One completion: each delta becomes what a chunk's choice says, and all of them one message."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    finished: CompletionFinished | None = None
    # Texts in their order, and what each is.
    said: list[tuple[type[Delta], str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    # Places among ``calls``, by the index that the provider gave.
    places: dict[int, int] = field(default_factory=dict)

    def take(self, delta: Delta) -> dict[str, Any] | None:
        """Take a delta in; return what a chunk says of it, None for nothing."""
        if isinstance(delta, ContentDelta | ReasoningDelta):
            self.said.append((type(delta), delta.text))
            return {"content" if isinstance(delta, ContentDelta) else "reasoning_content": delta.text}
        if isinstance(delta, ToolCallDelta):
            return {"tool_calls": [self._call(delta)]}
        if isinstance(delta, ThoughtSoFar):
            # Whoever reads a stream has it as content already.
            self.said = [(ReasoningDelta, text) for _kind, text in self.said]
        if isinstance(delta, CompletionFinished):
            self.finished = delta
        return None

    def _call(self, delta: ToolCallDelta) -> dict[str, Any]:
        place = self.places.get(delta.index)
        if place is None:
            place = self.places[delta.index] = len(self.calls)
            self.calls.append(Call(delta.id, delta.name, [delta.arguments]))
            function = {"name": delta.name, "arguments": delta.arguments}
            return {"index": place, "id": delta.id, "type": "function", "function": function}
        self.calls[place].arguments.append(delta.arguments)
        return {"index": place, "function": {"arguments": delta.arguments}}

    def rethink(self, reasoning_chars: int) -> None:
        """Take so much of all that was said, from its beginning, for reasoning: a model may say so late."""
        said, self.said = self.said, []
        for kind, text in said:
            thought = text if kind is ReasoningDelta else text[:reasoning_chars]
            self.said += [(ReasoningDelta, thought), (ContentDelta, text[len(thought) :])]
            reasoning_chars = max(0, reasoning_chars - len(text))

    def chunk(self, said: dict[str, Any]) -> bytes:
        """Return the event that tells what a message gained."""
        return line_of(f"{self._head}{encode_json(said)}{NOT_ENDED}")

    def begin(self) -> bytes:
        """Return the event that opens a stream."""
        return self.chunk({"role": "assistant", "content": ""})

    def tell(self, batch: list[Delta]) -> bytes:
        """Take deltas in; return the events that tell them, nothing where there is nothing to tell."""
        return b"".join([self.chunk(said) for delta in batch if (said := self.take(delta)) is not None])

    def end(self, *, include_usage: bool) -> bytes:
        """Return the events that say how it ended, and what was used where that is wanted and known."""
        choice = {"index": 0, "delta": {}, "finish_reason": self.finish_reason}
        said = data_of(self._object(CHUNK, [choice]))
        if include_usage and (usage := self.usage):
            said += data_of({**self._object(CHUNK, []), "usage": usage})
        return said

    @cached_property
    def _head(self) -> str:
        """All chunks begin alike."""
        return encode_json(self._object(CHUNK, [])).removesuffix("]}") + '{"index": 0, "delta": '

    def whole(self) -> dict[str, Any]:
        """Return the completion, once it is whole."""
        message: dict[str, Any] = {"role": "assistant", "content": self._all(ContentDelta) or None, "refusal": None}
        if reasoning := self._all(ReasoningDelta):
            message["reasoning_content"] = reasoning
        if self.calls:
            message["tool_calls"] = [call.whole() for call in self.calls]
        elif message["content"] is None:
            message["content"] = ""
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        body = self._object("chat.completion", [choice])
        if usage := self.usage:
            body["usage"] = usage
        return body

    def _all(self, kind: type[Delta]) -> str:
        return "".join(text for each, text in self.said if each is kind)

    @property
    def finish_reason(self) -> str:
        """How it ended."""
        return finish_reason_of(self.finished, calls=bool(self.calls))

    @property
    def usage(self) -> dict[str, Any] | None:
        """What was counted."""
        counted = self.finished.usage if self.finished else None
        return None if counted is None else _usage(counted)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def _usage(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.reasoning_tokens is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told

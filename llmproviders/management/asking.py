"""Questions that find out what a model takes: each a small call, and what came of it."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from llmproviders.dialect import Dialect
from llmproviders.exceptions import EmptyAnswer, ProviderError, UpstreamBadRequest
from llmproviders.registry import get_provider
from llmproviders.types import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Delta,
    Endpoint,
    Image,
    ReasoningDelta,
    Tool,
    ToolCallDelta,
)

# Of an answer: who thinks first needs more than a word.
MAX_TOKENS = 256
# Not 1: any temperature but the usual one is what some models refuse.
TEMPERATURE = 0.3
# Servers that fail with a 5xx where they refuse (llama.cpp, Ollama) say so in words.
_SAYS_NO = re.compile(
    r"not support|n't support|unsupported|missing data required|no endpoints? found|must alternate|not implemented"
    r"|only (user|system|supports)|不支持",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"orange|橙|橘", re.IGNORECASE)


def picture() -> str:
    """Return a small orange picture, as a ``data:`` URL: of more than a pixel, which some servers find too small."""
    side = 32
    rows = (b"\0" + b"\xff\x80\x00" * side) * side
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


HELLO = ChatMessage("user", "Say hello.")
WEATHER = Tool(
    "get_weather",
    "Says what the weather in a city is like.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
FORCED = {"tool_choice": {"type": "function", "function": {"name": WEATHER.name}}}


def _request(*messages: ChatMessage, **options: Any) -> CompletionRequest:
    return CompletionRequest(messages, **{"temperature": None, "max_tokens": MAX_TOKENS, **options})


PLAIN = _request(HELLO)
SYSTEM = _request(ChatMessage("system", "Answer with one word."), HELLO)
WARM = _request(HELLO, temperature=TEMPERATURE)
TWICE = _request(ChatMessage("user", "I have a question."), HELLO)
SEEN = _request(ChatMessage("user", parts=("Which colour is this? Answer with one word.", Image(picture()))))
CALLED = _request(ChatMessage("user", "What is the weather in Paris? Ask the tool."), tools=(WEATHER,))
MADE_TO_CALL = replace(CALLED, params=FORCED)


@dataclass(slots=True)
class Outcome:
    """What came of a question; ``dialect`` is how it was put when it was taken.

    ``unopened``: the answer began within a thought that nobody had opened.
    """

    deltas: list[Delta] = field(default_factory=list)
    dialect: Dialect = field(default_factory=Dialect)
    unopened: bool = False
    error: ProviderError | None = None

    @property
    def taken(self) -> bool:
        """Whether the server answered, be it with nothing."""
        return self.error is None or isinstance(self.error, EmptyAnswer)

    @property
    def refused(self) -> bool:
        """Whether it said that it does not take this; all other failures teach nothing."""
        if isinstance(self.error, UpstreamBadRequest):
            return True
        status = self.error.status if self.error else None
        return status is not None and status >= 500 and bool(_SAYS_NO.search(str(self.error)))

    @property
    def called(self) -> bool:
        return any(isinstance(delta, ToolCallDelta) for delta in self.deltas)

    @property
    def saw(self) -> bool:
        """Whether the model named the colour of the picture."""
        texts = [delta.text for delta in self.deltas if isinstance(delta, ContentDelta | ReasoningDelta)]
        return bool(_COLOUR.search("".join(texts)))

    @property
    def reasoned(self) -> bool:
        usage = self.finished.usage if self.finished else None
        thought = self.unopened or any(isinstance(delta, ReasoningDelta) for delta in self.deltas)
        return thought or bool(usage and usage.reasoning_tokens)

    @property
    def began_within_a_thought(self) -> bool | None:
        """Whether the answer was a thought up to its first tag; None where it may have ended before that."""
        if self.unopened:
            return True
        ended = self.finished is not None and self.finished.finish_reason != "length"
        answered = any(isinstance(delta, ContentDelta) for delta in self.deltas)
        return False if ended and answered else None

    @property
    def finished(self) -> CompletionFinished | None:
        last = self.deltas[-1] if self.deltas else None
        if isinstance(last, CompletionFinished):
            return last
        return self.error.finished if self.error else None


async def ask(endpoint: Endpoint, request: CompletionRequest) -> Outcome:
    """Make a call; whatever the provider says is wrong is part of the outcome. Raises ``UnknownModelType``."""
    outcome = Outcome()
    provider = get_provider(endpoint)

    def accepted(dialect: Dialect) -> None:
        outcome.dialect = dialect

    def unopened() -> None:
        outcome.unopened = True

    provider.accepted, provider.unopened = accepted, unopened
    try:
        async with aclosing(provider.stream(request)) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                outcome.deltas.append(delta)
    except ProviderError as error:
        outcome.error = error
    return outcome

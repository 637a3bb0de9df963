"""What goes to a model and what comes back, as plain values.

Standard library only: every other module of this package, and the code that calls it, may import these
names without pulling in Django or an HTTP client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
# Whose URL it is: the embedded model's, the operator's (environment, presets), a user's own.
SetBy = Literal["program", "operator", "user"]
# What not every model takes.
Lacking = Literal["images", "tools"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture among what is said: a ``data:`` URL. ``detail`` is how closely to look, in the field's words."""

    url: str = field(repr=False)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asked for: ``arguments`` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt.

    ``parts`` says in order what ``content`` alone cannot: texts (``str``) and images; then ``content`` is not looked
    at. An assistant's message may have ``tool_calls``, and one of the role ``tool`` is the result of ``tool_call_id``.
    ``reasoning`` is what was thought before them, for servers that want it again. ``name`` tells speakers of one role
    apart.
    """

    role: Role
    content: str = ""
    parts: tuple[str | Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; ``parameters`` is a JSON schema, kept to the letter if ``strict``."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = field(default=None, hash=False)
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A prompt and how to answer it.

    ``temperature`` is 0 to 2, ``max_tokens`` bounds the answer (reasoning included); nothing is said of None and 0.
    ``tools`` are what the model may ask for; without any, an answer that calls one is none. ``params`` are further
    fields of OpenAI's API (``top_p``, ``stop``, ``tool_choice``, …) as they are sent; a backend of another format maps
    those that it knows. Of ``extra``, fields of some upstreams' own, an endpoint gets those that it lists.
    """

    messages: tuple[ChatMessage, ...]
    temperature: float | None = 0.7
    max_tokens: int = 2000
    tools: tuple[Tool, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def params_for(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return ``params``, and of ``extra`` what this endpoint takes."""
        listed = {name: self.extra[name] for name in endpoint.extra_fields if name in self.extra}
        return {**listed, **self.params}

    def lacking(self, endpoint: Endpoint) -> Lacking | None:
        """Return what this asks for though the endpoint is known not to take it, None where there is nothing."""
        pictures = any(isinstance(part, Image) for message in self.messages for part in message.parts)
        if pictures and endpoint.takes_images is False:
            return "images"
        called = any(message.tool_calls or message.role == "tool" for message in self.messages)
        return "tools" if (self.tools or called) and endpoint.takes_tools is False else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the upstream reported them; of the completion's, so many were reasoning if it told."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """A piece of the answer: never empty, free of NUL and of lone surrogates."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thought before it answered; cleaned like ``ContentDelta``."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtSoFar:
    """All text before this was thought, though it was given as the answer's: at most once.

    Known so late where the tag that opens a thought is not in the answer, but in the prompt.
    """


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call. The first of each call has its ``id`` and ``name``; calls come one after the other.

    ``index`` counts the calls of an answer; ``arguments`` is more of the JSON.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class CompletionFinished:
    """The upstream said that the answer is whole: always the last delta, exactly once.

    ``finish_reason`` is the upstream's word (``stop``, ``length``, ``content_filter``, …); ``usage`` is
    None when the upstream did not report it; ``model`` is the name the upstream gave, or ``""``.
    """

    finish_reason: str
    usage: Usage | None = None
    model: str = ""


Delta = ContentDelta | ReasoningDelta | ThoughtSoFar | ToolCallDelta | CompletionFinished


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is reached: a preset, the environment's model or a user's own.

    ``api_url`` is the URL of the chat completions call, or the base before it. ``context_window`` counts tokens,
    prompt and answer together. ``max_tokens`` and ``temperature`` are defaults, None for "no opinion". ``is_demo``
    marks the small embedded model. ``set_by`` says whose URL this is, which decides what it may reach (``policy``).
    """

    model_type: str
    name: str
    api_url: str = field(repr=False)  # its query may hold a key
    model: str
    api_key: str = field(default="", repr=False)
    backend: str = "openai_compatible"
    context_window: int = 8192
    max_tokens: int | None = None
    temperature: float | None = None
    is_demo: bool = False
    # Whether every answer begins within a thought, whose opening tag is in the prompt.
    thinks_first: bool = False
    # What the model can do; None where that is not known.
    takes_images: bool | None = None
    takes_tools: bool | None = None
    reasons: bool | None = None
    # Whether there is a role for the system prompt; whether user and assistant have to take turns, the user first.
    takes_system: bool = True
    alternates: bool = False
    # Of fields that are the upstream's own those that whoever asks may set.
    extra_fields: tuple[str, ...] = ()
    # Sent with every call; a value of None leaves out what would be sent, text for `max_tokens` renames it.
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    set_by: SetBy = "operator"
    # Model types that answer instead where this one does not begin to, in their order.
    fallbacks: tuple[str, ...] = ()
    # Of a million tokens of prompts and of answers; None where that is not known.
    input_price: Decimal | None = None
    output_price: Decimal | None = None

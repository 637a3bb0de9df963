"""What goes to a model and what comes back, as plain values.

Standard library only: every other module of this package, and the code that calls it, may import these
names without pulling in Django or an HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
# Whose URL it is: the embedded model's, the operator's (environment, presets), a user's own.
SetBy = Literal["program", "operator", "user"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A prompt and how to answer it.

    ``temperature`` is 0 to 2, ``max_tokens`` bounds the answer (reasoning included).
    """

    messages: tuple[ChatMessage, ...]
    temperature: float = 0.7
    max_tokens: int = 2000


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the upstream reported them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """A piece of the answer: never empty, free of NUL and of lone surrogates."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thought before it answered; cleaned like ``ContentDelta``."""

    text: str


@dataclass(frozen=True, slots=True)
class CompletionFinished:
    """The upstream said that the answer is whole: always the last delta, exactly once.

    ``finish_reason`` is the upstream's word (``stop``, ``length``, ``content_filter``, …); ``usage`` is
    None when the upstream did not report it; ``model`` is the name the upstream gave, or ``""``.
    """

    finish_reason: str
    usage: Usage | None = None
    model: str = ""


Delta = ContentDelta | ReasoningDelta | CompletionFinished


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is reached: a preset, the environment's model or a user's own.

    ``api_url`` is the full URL of the chat completions call. ``context_window`` counts tokens, prompt and
    answer together. ``max_tokens`` and ``temperature`` are defaults, None for "no opinion". ``is_demo``
    marks the small embedded model. ``set_by`` says whose URL this is, which decides what it may reach (``policy.py``).
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
    set_by: SetBy = "operator"

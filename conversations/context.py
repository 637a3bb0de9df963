"""What of a conversation the model gets to see: as many of the newest whole turns as fit its window.

Token counts are estimates from the text alone, so that nothing has to be downloaded; what upstreams report
as ``usage`` corrects them, per model and for the life of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .completions import ChatMessage, Endpoint
from .exceptions import PromptTooLong
from .models import Message

# Tokens that a chat template adds to a message, and to the prompt as a whole.
MESSAGE_OVERHEAD = 5
PROMPT_OVERHEAD = 8
# An answer gets at least so many tokens, or the prompt counts as too long.
MIN_ANSWER = 64
# Shorter prompts teach nothing: what a chat template adds outweighs them.
MIN_LESSON = 256
# Estimates may be corrected by this much at most.
LOWEST, HIGHEST = 0.5, 3.0

_corrections: dict[tuple[str, str], float] = {}


def estimate(text: str) -> int:
    """Estimate the tokens of a text: 3.5 ASCII characters make one, other scripts 1.1 a character."""
    ascii_count = len(text.encode("ascii", "ignore"))
    return 1 + round(ascii_count / 3.5 + (len(text) - ascii_count) * 1.1)


def estimate_prompt(messages: Iterable[ChatMessage]) -> int:
    return PROMPT_OVERHEAD + sum(estimate(message.content) + MESSAGE_OVERHEAD for message in messages)


def prompt_tokens(endpoint: Endpoint, messages: Iterable[ChatMessage]) -> int:
    """Estimate a prompt's tokens as this model counts them."""
    return round(estimate_prompt(messages) * correction(endpoint))


def correction(endpoint: Endpoint) -> float:
    """By what an estimate is to be multiplied for this model: 1.0 until its upstream reported usage."""
    return _corrections.get((endpoint.api_url, endpoint.model), 1.0)


def learn(endpoint: Endpoint, messages: Sequence[ChatMessage], prompt_tokens: int) -> None:
    """Correct later estimates by what the upstream counted."""
    estimated = estimate_prompt(messages)
    if estimated < MIN_LESSON or prompt_tokens <= 0:
        return
    measured = prompt_tokens / estimated
    key = (endpoint.api_url, endpoint.model)
    blended = 0.7 * _corrections.get(key, measured) + 0.3 * measured
    if key not in _corrections and len(_corrections) >= 1000:
        _corrections.clear()  # users' own endpoints come and go; start over rather than grow
    _corrections[key] = min(HIGHEST, max(LOWEST, blended))


def fit(
    *, endpoint: Endpoint, system_prompt: str, message: str, history: Iterator[Message], max_tokens: int
) -> tuple[tuple[ChatMessage, ...], int]:
    """Return the prompt and how many tokens its answer may have.

    ``history`` yields the branch before ``message``, newest first, and is read no further than needed.
    Raises ``PromptTooLong`` when system prompt and newest message alone do not fit.
    """
    factor = correction(endpoint)
    window = endpoint.context_window
    system = [ChatMessage("system", system_prompt)] if system_prompt.strip() else []
    newest = ChatMessage("user", message)
    used = estimate_prompt([*system, newest]) * factor
    if used + MIN_ANSWER > window:
        raise PromptTooLong()
    # An answer that may be as long as the window must not cost the whole history.
    budget = window - min(max_tokens, window // 2)
    kept: list[ChatMessage] = []
    for turn in _turns(history):
        used_with_turn = used + sum(estimate(item.content) + MESSAGE_OVERHEAD for item in turn) * factor
        if used_with_turn > budget:
            break
        used = used_with_turn
        kept = [*turn, *kept]
    return _merged([*system, *kept, newest]), min(max_tokens, int(window - used))


def _turns(history: Iterator[Message]) -> Iterator[list[ChatMessage]]:
    """Group messages, newest first, into turns: a user's message and what answers it, oldest first."""
    turn: list[ChatMessage] = []
    for message in history:
        role = Message.Role(message.role)
        if message.content.strip():
            turn.insert(0, ChatMessage("user" if role is Message.Role.USER else "assistant", message.content))
        if role is Message.Role.USER:
            yield turn
            turn = []


def _merged(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Join neighbours of one role: many chat templates refuse two user messages in a row."""
    merged: list[ChatMessage] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            message = ChatMessage(message.role, f"{merged.pop().content}\n\n{message.content}")
        merged.append(message)
    return tuple(merged)


def shorten(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...] | None:
    """Drop the older half of the turns, for an upstream that found the prompt too long; None if there is none."""
    system = messages[:1] if messages and messages[0].role == "system" else ()
    turns = messages[len(system) : -1]
    if not turns:
        return None
    kept = turns[len(turns) // 2 :]
    while kept and kept[0].role != "user":
        kept = kept[1:]
    if len(kept) == len(turns):
        kept = ()
    return (*system, *kept, messages[-1])


def forget() -> None:
    """Forget all corrections: for tests."""
    _corrections.clear()

"""What of a conversation the model gets to see: as many of the newest whole turns as fit its window.

Token counts are estimates from the text alone, so that nothing has to be downloaded; what upstreams report
as ``usage`` corrects them, per model and for the life of the process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from ..exceptions import PromptTooLong
from ..limits.budgets import HIGHEST, LOWEST
from ..limits.estimates import estimate
from ..models import Message
from ..models.parts import Texts
from .completions import ChatMessage, CompletionRequest, ContextLengthExceeded, Endpoint, Tool
from .said import called, few_images, messages_of, paired, results_of, understood, user_message

T = TypeVar("T")

# Tokens that a chat template adds to a message, and to the prompt as a whole.
MESSAGE_OVERHEAD = 5
PROMPT_OVERHEAD = 8
# What an image of the usual size comes to.
IMAGE_TOKENS = 1_000
# An answer gets at least so many tokens, or the prompt counts as too long.
MIN_ANSWER = 64
# Shorter prompts teach nothing: what a chat template adds outweighs them.
MIN_LESSON = 256

# A window that an upstream named; a smaller number in a refusal is no window.
LEAST_WINDOW = 128
MAX_KNOWN = 1000

_corrections: dict[tuple[str, str], float] = {}
# The window, and when it was named: a server may be started with a larger one.
_windows: dict[tuple[str, str], tuple[int, float]] = {}
WINDOW_SECONDS = 3600.0


def estimate_prompt(messages: Iterable[ChatMessage]) -> int:
    return PROMPT_OVERHEAD + sum(map(estimate_message, messages))


def estimate_message(message: ChatMessage) -> int:
    """Estimate what a message takes: its text, its calls of tools, its images; not what was thought, see ``fit``."""
    tokens = estimate(message.content) + MESSAGE_OVERHEAD
    if message.tool_calls:
        tokens += sum(estimate(call.name) + estimate(call.arguments) for call in message.tool_calls)
    if message.parts:
        tokens += sum(IMAGE_TOKENS for part in message.parts if not isinstance(part, str))
    return tokens


def estimate_tools(tools: Iterable[Tool]) -> int:
    """Estimate what descriptions of tools take."""
    return sum(
        estimate(tool.name) + estimate(tool.description) + estimate(json.dumps(tool.parameters)) for tool in tools
    )


def prompt_tokens(endpoint: Endpoint, messages: Iterable[ChatMessage]) -> int:
    """Estimate a prompt's tokens as this model counts them."""
    return round(estimate_prompt(messages) * correction(endpoint))


def request_tokens(endpoint: Endpoint, request: CompletionRequest) -> int:
    """Estimate all that a request has the model read: messages, calls of tools, images, descriptions of tools.

    With what was thought since the newest question, though few servers get it: they would count it.
    """
    beside = estimate_tools(request.tools) + _thought_tokens(request.messages[_last_question(request.messages) :])
    if request.params:
        beside += estimate(json.dumps(dict(request.params)))
    return prompt_tokens(endpoint, request.messages) + round(beside * correction(endpoint))


def correction(endpoint: Endpoint) -> float:
    """By what an estimate is to be multiplied for this model: 1.0 until its upstream reported usage."""
    return _corrections.get((endpoint.api_url, endpoint.model), 1.0)


def learn(
    endpoint: Endpoint, messages: Sequence[ChatMessage], prompt_tokens: int, *, tools: Iterable[Tool] = ()
) -> None:
    """Correct later estimates by what the upstream counted; how it counts images says nothing of texts.

    Nor do prompts with thoughts say anything: few servers get them.
    """
    if any(message.parts or message.reasoning for message in messages):
        return
    estimated = estimate_prompt(messages) + estimate_tools(tools)
    if estimated < MIN_LESSON or prompt_tokens <= 0:
        return
    measured = prompt_tokens / estimated
    key = (endpoint.api_url, endpoint.model)
    blended = 0.7 * _corrections.get(key, measured) + 0.3 * measured
    _note(_corrections, key, min(HIGHEST, max(LOWEST, blended)))


def _note(known: dict[tuple[str, str], T], key: tuple[str, str], value: T) -> None:
    if key not in known and len(known) >= MAX_KNOWN:
        known.clear()  # users' own endpoints come and go; start over rather than grow
    known[key] = value


def window_of(endpoint: Endpoint) -> int:
    """Return the model's window: what is set, or less where its upstream said so."""
    named, since = _windows.get((endpoint.api_url, endpoint.model), (endpoint.context_window, 0.0))
    return (
        min(endpoint.context_window, named) if time.monotonic() - since < WINDOW_SECONDS else endpoint.context_window
    )


def fit(
    *,
    endpoint: Endpoint,
    system_prompt: str,
    message: Texts,
    history: Iterator[Message],
    max_tokens: int,
    tools: Sequence[Tool] = (),
) -> tuple[tuple[ChatMessage, ...], int]:
    """Return the prompt and how many tokens its answer may have.

    ``history`` yields the branch before ``message``, newest first, and is read no further than needed. Results of
    tools are nothing without what led to them: with those, the turn that they belong to is the newest message.
    Raises ``PromptTooLong`` when system prompt, tools and newest message alone do not fit. Images are those of
    ``said.image_of``, until somebody looks them up.
    """
    factor = correction(endpoint)
    window = window_of(endpoint)
    system = [ChatMessage("system", system_prompt)] if system_prompt.strip() else []
    newest = results_of(message) or [user_message(message)]
    turns = _turns(history, called(newest))
    if newest[0].role == "tool":
        newest = paired([*next(turns, []), *newest])
    used = (estimate_prompt([*system, *newest]) + estimate_tools(tools)) * factor
    if used + MIN_ANSWER > window:
        raise PromptTooLong()
    # An answer that may be as long as the window must not cost the whole history.
    budget = window - min(max_tokens, window // 2)
    kept: list[ChatMessage] = []
    for turn in (_without_thoughts(understood(endpoint, turn)) for turn in turns):
        used_with_turn = used + sum(map(estimate_message, turn)) * factor
        if used_with_turn > budget:
            break
        used = used_with_turn
        kept = [*turn, *kept]
    max_tokens = min(max_tokens, int(window - used))
    # They take no room of the answer's, nor of what was said: few servers get them.
    if used + _thought_tokens(newest) * factor > window - max_tokens:
        newest = _without_thoughts(newest)
    return _merged(few_images([*system, *kept, *newest])), max_tokens


def _thought_tokens(messages: Iterable[ChatMessage]) -> int:
    return sum(estimate(message.reasoning) for message in messages if message.reasoning)


def _without_thoughts(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Leave out what was thought: before the newest question it says nothing any more, and it may have no room."""
    return [replace(message, reasoning="") if message.reasoning else message for message in messages]


def _turns(history: Iterator[Message], answered: frozenset[str]) -> Iterator[list[ChatMessage]]:
    """Group messages, newest first, into turns: a user's message and what answers it, oldest first.

    ``answered`` are the calls that what follows has results of: others are left out, since models' servers want a
    result of each. What an assistant said before anybody asked is no turn, unless it called tools.
    """
    turn: list[ChatMessage] = []
    for message in history:
        said = messages_of(message, answered)
        turn = [*said, *turn]
        answered = answered | called(said) if message.role == Message.Role.TOOL else called(said)
        if message.role == Message.Role.USER:
            yield paired(turn)
            turn = []
    if any(said.tool_calls for said in turn):
        yield paired(turn)


def _merged(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Join neighbours of one role: many chat templates refuse two user messages in a row."""
    merged: list[ChatMessage] = []
    for message in messages:
        if merged and merged[-1].role == message.role and not (message.tool_call_id or merged[-1].tool_calls):
            message = _joined(merged.pop(), message)
        merged.append(message)
    return tuple(merged)


def _joined(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    content = f"{first.content}\n\n{second.content}"
    parts = tuple(part for message in (first, second) for part in message.parts or (message.content,))
    return replace(second, content=content, parts=parts if first.parts or second.parts else ())


def refit(endpoint: Endpoint, request: CompletionRequest, refusal: ContextLengthExceeded) -> CompletionRequest | None:
    """Return what to ask after a refusal: trimmed as far as its numbers say, else by half; None if nothing is left.

    What was thought goes first.
    """
    plain = replace(request, messages=tuple(_without_thoughts(request.messages)))
    return _refit(endpoint, plain, refusal) or (None if plain == request else plain)


def _refit(endpoint: Endpoint, request: CompletionRequest, refusal: ContextLengthExceeded) -> CompletionRequest | None:
    limit, counted = refusal.limit, refusal.prompt_tokens
    beside = estimate_tools(request.tools)
    if counted:
        learn(endpoint, request.messages, counted, tools=request.tools)
    if limit is None or limit < LEAST_WINDOW:
        shorter = shorten(request.messages)
        return None if shorter is None else replace(request, messages=shorter)
    _note(_windows, (endpoint.api_url, endpoint.model), (limit, time.monotonic()))
    factor = counted / (estimate_prompt(request.messages) + beside) if counted else correction(endpoint)
    messages: tuple[ChatMessage, ...] | None = request.messages
    while messages and (estimate_prompt(messages) + beside) * factor > limit - min(request.max_tokens, limit // 2):
        messages = _without_oldest(messages)
    # What would fit by our count did not: the count was wrong.
    messages = shorten(request.messages) if messages == request.messages and not counted else messages
    return _bounded(request, messages or newest_of(request.messages), limit, factor)


def _bounded(
    request: CompletionRequest, messages: tuple[ChatMessage, ...], limit: int, factor: float
) -> CompletionRequest | None:
    room = int(limit - (estimate_prompt(messages) + estimate_tools(request.tools)) * factor)
    if room < MIN_ANSWER:
        return None
    bounded = replace(request, messages=messages, max_tokens=min(request.max_tokens, room))
    return None if bounded == request else bounded


def newest_of(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """Return the instructions, and the newest user's message with what follows it: results of tools need it."""
    system = messages[:1] if messages[0].role == "system" else ()
    return (*system, *messages[max(len(system), _last_question(messages)) :])


def _last_question(messages: Sequence[ChatMessage]) -> int:
    """Return the place of the newest user's message."""
    return next((place for place in range(len(messages) - 1, -1, -1) if messages[place].role == "user"), 0)


def _without_oldest(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...] | None:
    """Drop the oldest turn: a user's message and its answer; None if there is only the newest message."""
    start = 1 if messages[0].role == "system" else 0
    end = next((i for i in range(start + 1, len(messages)) if messages[i].role == "user"), None)
    return None if end is None else messages[:start] + messages[end:]


def shorten(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...] | None:
    """Drop the older half of the turns, for an upstream that found the prompt too long; None if there is none."""
    system = messages[:1] if messages and messages[0].role == "system" else ()
    newest = messages[max(len(system), _last_question(messages)) :]
    turns = messages[len(system) : len(messages) - len(newest)]
    if not turns:
        return None
    kept = turns[len(turns) // 2 :]
    while kept and kept[0].role != "user":
        kept = kept[1:]
    if len(kept) == len(turns):
        kept = ()
    return (*system, *kept, *newest)


def forget() -> None:
    """Forget all corrections: for tests."""
    _corrections.clear()
    _windows.clear()

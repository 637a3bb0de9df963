"""Makes one answer: takes the provider's deltas into the log and says how it ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from ..limits.usage import cost as cost_of
from ..models import FINISH_REASON_LENGTH, shown_usage
from . import completions, prompts
from .chunk_log import ChunkLog
from .completions import (
    CompletionFinished,
    CompletionRequest,
    Delta,
    Endpoint,
    ProviderError,
    Tool,
    Usage,
    breaker,
)
from .events import COMPLETED, FAILED, AnswerIds, Ending
from .hints import Subject
from .run import Run

logger = logging.getLogger("conversations.generation")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOptions:
    """How an answer is to be made; None leaves it to the conversation, the user's settings and the preset."""

    model_type: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    # Whether it goes on when nobody reads it, whatever `ON_DISCONNECT` says.
    background: bool = False
    # What the model may call, and further fields of OpenAI's API such as `tool_choice`.
    tools: tuple[Tool, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)


async def no_fallback(_endpoint: Endpoint) -> CompletionRequest:
    """A plan without fallbacks is never switched."""
    raise AssertionError


async def as_it_is(request: CompletionRequest) -> CompletionRequest:
    """A request that shows nothing is sent as it is."""
    return request


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a producer needs: it asks the database nothing more."""

    ids: AnswerIds
    endpoint: Endpoint
    request: CompletionRequest
    # Those that answer instead where the first does not begin to, and what makes one of them the one that does: it is
    # noted, and a prompt made for it.
    fallbacks: tuple[Endpoint, ...] = ()
    switched: Callable[[Endpoint], Awaitable[CompletionRequest]] = no_fallback
    # What makes of a request one whose images are as models take them: only as it is sent, since they are large.
    with_images: Callable[[CompletionRequest], Awaitable[CompletionRequest]] = as_it_is
    # Called with the text once the answer is complete and stored: it delays no reader, and its failure is its own.
    afterwards: Callable[[str], Awaitable[None]] | None = None
    # Where it is made.
    subject: Subject | None = None
    background: bool = False
    # The id of the request that asked for it: what the producer logs carries it too.
    request_id: str = ""


async def produce(run: Run, plan: Plan, log: ChunkLog) -> Ending:
    """Stream the model's answer into ``log``; return how it ended. Cancelling it closes the upstream.

    Where a model does not begin to answer, the next of the plan's fallbacks does. One that failed again and again is
    passed over, unless it is the last.
    """
    endpoint, request = plan.endpoint, plan.request
    for fallback in plan.fallbacks:
        if breaker.lets_through(endpoint):
            try:
                return await _answered(run, endpoint, await plan.with_images(request), log)
            except ProviderError as error:
                if run.first_token_at is not None or not _may_answer_instead(fallback, endpoint, error):
                    return _told(run, endpoint, request, error)
                logger.warning("generation %s: %s, %s answers", run.ids.generation_id, error.code, fallback.model_type)
        request = await plan.switched(fallback)
        endpoint = fallback
    try:
        return await _answered(run, endpoint, await plan.with_images(request), log)
    except ProviderError as error:
        return _told(run, endpoint, request, error)


def _may_answer_instead(fallback: Endpoint, endpoint: Endpoint, error: ProviderError) -> bool:
    """Whether another model is to be asked: not what is wrong with the request, unless it fits a larger window."""
    if isinstance(error, completions.ContextLengthExceeded):
        return fallback.context_window > endpoint.context_window
    return completions.is_endpoints_own(error)


async def _answered(run: Run, endpoint: Endpoint, request: CompletionRequest, log: ChunkLog) -> Ending:
    """Stream one model's answer, with a shorter prompt if the first did not fit; raises ``ProviderError``."""
    try:
        try:
            return await _stream(run, endpoint, request, log)
        except completions.ContextLengthExceeded as refusal:
            shorter = prompts.refit(endpoint, request, refusal)
            if run.first_token_at is not None or shorter is None:
                raise
            logger.info("generation %s: the prompt did not fit, trimmed once more", run.ids.generation_id)
            return await _stream(run, endpoint, shorter, log)
    except ProviderError as error:
        if run.first_token_at is None and completions.is_endpoints_own(error):
            breaker.failed(endpoint)
        raise
    finally:
        if run.first_token_at is not None:
            breaker.worked(endpoint)
        else:
            breaker.given_up(endpoint)


def _told(run: Run, endpoint: Endpoint, request: CompletionRequest, error: ProviderError) -> Ending:
    logger.warning("generation %s failed: %s: %s", run.ids.generation_id, error.code, error)
    return _failed(endpoint, request, error)


async def _stream(run: Run, endpoint: Endpoint, request: CompletionRequest, log: ChunkLog) -> Ending:
    deltas = cast(
        AsyncGenerator[Delta, None],
        completions.stream(endpoint, request, partial(log.flows, run), run.transcript.tell_loading),
    )
    try:
        async with aclosing(deltas):
            async for delta in deltas:
                if isinstance(delta, CompletionFinished):
                    run.close_call()
                    return _ended(endpoint, request, delta)
                log.append(run, delta)
                if run.is_ahead:
                    await log.turn()
    finally:
        run.flowing = None
    raise AssertionError("a provider ended without CompletionFinished")


def _failed(endpoint: Endpoint, request: CompletionRequest, error: ProviderError) -> Ending:
    return replace(
        _ended(endpoint, request, error.finished or CompletionFinished("")),
        status=FAILED,
        error_code=error.code,
        error_message=error.message,
        retry_after=None if error.retry_after is None else round(error.retry_after),
    )


def _ended(endpoint: Endpoint, request: CompletionRequest, finished: CompletionFinished) -> Ending:
    """The ending with what the upstream said of it."""
    usage = finished.usage
    if usage:
        prompts.learn(endpoint, request.messages, usage.prompt_tokens, tools=request.tools)
    return Ending(
        COMPLETED,
        finish_reason=finished.finish_reason[:FINISH_REASON_LENGTH],
        usage=None if usage is None else _shown(endpoint, usage),
        model=finished.model,
    )


def _shown(endpoint: Endpoint, usage: Usage) -> dict[str, int | float]:
    cost = cost_of(endpoint.input_price, endpoint.output_price, usage.prompt_tokens, usage.completion_tokens)
    counts = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    return shown_usage(*counts, reasoning_tokens=usage.reasoning_tokens, cost=cost)

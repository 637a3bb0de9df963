"""Makes one answer: takes the provider's deltas into the log and says how it ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from .. import completions, context
from ..completions import CompletionFinished, CompletionRequest, ContentDelta, Delta, Endpoint, ProviderError
from ..titles import Naming
from .events import COMPLETED, CONTENT, FAILED, REASONING, AnswerIds, Ending
from .log import ChunkLog, Run

logger = logging.getLogger("conversations.generation")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a producer needs: it asks the database nothing more."""

    ids: AnswerIds
    endpoint: Endpoint
    request: CompletionRequest
    # Set where the model is to name the conversation once it has answered.
    naming: Naming | None = None
    # The id of the request that asked for it: what the producer logs carries it too.
    request_id: str = ""


async def produce(run: Run, plan: Plan, log: ChunkLog) -> Ending:
    """Stream the model's answer into ``log``; return how it ended. Cancelling it closes the upstream."""
    try:
        try:
            return await _stream(run, plan.endpoint, plan.request, log)
        except completions.ContextLengthExceeded:
            shorter = context.shorten(plan.request.messages)
            if run.first_token_at is not None or shorter is None:
                raise
            logger.info("generation %s: the prompt did not fit, trimmed once more", run.ids.generation_id)
            return await _stream(run, plan.endpoint, replace(plan.request, messages=shorter), log)
    except ProviderError as error:
        logger.warning("generation %s failed: %s: %s", run.ids.generation_id, error.code, error)
        return Ending(
            FAILED,
            error_code=error.code,
            error_message=error.message,
            retry_after=None if error.retry_after is None else round(error.retry_after),
        )


async def _stream(run: Run, endpoint: Endpoint, request: CompletionRequest, log: ChunkLog) -> Ending:
    deltas = cast(AsyncGenerator[Delta, None], completions.stream(endpoint, request, log.turn))
    async with aclosing(deltas):
        async for delta in deltas:
            if isinstance(delta, CompletionFinished):
                return _completed(run, endpoint, request, delta)
            log.append(run, CONTENT if isinstance(delta, ContentDelta) else REASONING, delta.text)
            if run.is_ahead:
                await log.turn()
    raise AssertionError("a provider ended without CompletionFinished")


def _completed(run: Run, endpoint: Endpoint, request: CompletionRequest, finished: CompletionFinished) -> Ending:
    if run.late_reasoning:
        logger.info(
            "generation %s: dropped %d characters of late reasoning", run.ids.generation_id, run.late_reasoning
        )
    usage = finished.usage
    if usage:
        context.learn(endpoint, request.messages, usage.prompt_tokens)
    return Ending(
        COMPLETED,
        finish_reason=finished.finish_reason,
        usage=None
        if usage is None
        else {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
        model=finished.model,
    )

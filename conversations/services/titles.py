"""Names for conversations: the first words at once, a better one from the model when it has answered."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from dataclasses import dataclass

from django.utils import timezone

from .. import conf
from ..database import db
from ..database.transactions import replayed
from ..engine import completions, engines, prompts
from ..engine.completions import (
    ChatMessage,
    CompletionFinished,
    CompletionRequest,
    ContentDelta,
    Endpoint,
    ProviderError,
    ThoughtSoFar,
)
from ..engine.hints import Subject
from ..limits import budgets
from ..models import Conversation, Generation

logger = logging.getLogger("conversations.titles")

FIRST_WORDS_LENGTH = 50
MADE_TITLE_LENGTH = 80
# A reasoning model thinks before it names something.
TITLE_TOKENS = 1024
EXCERPT = 2000
INSTRUCTION = (
    "Write a title for this conversation: at most eight words, in the language of the conversation, "
    "without quotation marks, without a full stop, nothing but the title."
)


def first_words(message: str) -> str:
    """Return the beginning of a message as a title: one line, cut between words where it has any."""
    words = " ".join(message.split())
    if len(words) <= FIRST_WORDS_LENGTH:
        return words
    cut = words[:FIRST_WORDS_LENGTH]
    head, space, _tail = cut.rpartition(" ")
    # Chinese has no spaces to cut at; nor has a long URL.
    return f"{head if space and len(head) > FIRST_WORDS_LENGTH // 2 else cut}…"


def clean(title: str) -> str:
    """Return what a model wrote as a title: first line that says something, without decoration."""
    title = re.sub(r"^.*</think>|<think>.*", "", title, flags=re.DOTALL)
    lines = [line.strip() for line in title.splitlines() if line.strip()]
    line = lines[0] if lines else ""
    line = re.sub(r"^[#\s\"'`*_“‘「『《]*((title|标题)[*_\s]*[:：]\s*)?", "", line, flags=re.IGNORECASE)
    return line.strip(" \t\"'`*_“”‘’「」『』《》。.")[:MADE_TITLE_LENGTH].strip()


def wanted_from(endpoint: Endpoint) -> bool:
    """Tell whether this endpoint is to be asked for titles: the demo model's would be worse than first words."""
    return conf.get().TITLES == "model" and not endpoint.is_demo


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """A conversation that the model may name better than ``provisional``, its first words."""

    session_id: uuid.UUID
    subject: Subject
    provisional: str
    endpoint: Endpoint
    question: str
    # The budgets that pay for the answer pay for its title too.
    spent_from: tuple[int, ...] = ()


async def improve(naming: Naming, answer: str) -> None:
    """Ask the model for a title and set it, unless a person named the conversation meanwhile. Never raises."""
    try:
        if title := clean(await _ask(naming, _request(naming, answer))):
            await db.write(_rename, naming, title)
    except (ProviderError, TimeoutError) as error:
        logger.info("no title for conversation %s: %s", naming.session_id, type(error).__name__)
    except Exception:
        logger.exception("no title for conversation %s", naming.session_id)


def _request(naming: Naming, answer: str) -> CompletionRequest:
    conversation = f"User: {naming.question[:EXCERPT]}\n\nAssistant: {answer[:EXCERPT]}"
    return CompletionRequest(
        messages=(ChatMessage("system", INSTRUCTION), ChatMessage("user", f"{conversation}\n\n{INSTRUCTION}")),
        temperature=0.2,
        max_tokens=min(TITLE_TOKENS, naming.endpoint.context_window // 4),
    )


async def _ask(naming: Naming, request: CompletionRequest) -> str:
    """Return what the model says. What that costs is added to the budgets, also when it breaks off."""
    said: list[str] = []
    tokens: int | None = None
    try:
        async with asyncio.timeout(conf.get().TITLE_TIMEOUT):
            async for delta in completions.stream(naming.endpoint, request):
                if isinstance(delta, ThoughtSoFar):
                    said.clear()
                elif isinstance(delta, ContentDelta):
                    said.append(delta.text)
                elif isinstance(delta, CompletionFinished) and delta.usage:
                    tokens = delta.usage.total_tokens
    finally:
        text = "".join(said)
        if naming.spent_from and (text or tokens):
            prompt = prompts.prompt_tokens(naming.endpoint, request.messages)
            await db.write(budgets.add, naming.spent_from, budgets.cost(tokens, text, prompt, request.max_tokens))
    return text


@replayed
def _rename(naming: Naming, title: str) -> None:
    """Replace the provisional title; a queryset update, so that the order of the list does not change."""
    Conversation.objects.filter(
        session_id=naming.session_id,
        title=naming.provisional,
        title_source=Conversation.TitleSource.FIRST_WORDS,
    ).update(title=title, title_source=Conversation.TitleSource.MODEL, changed_at=timezone.now())
    engines.tell_change(naming.subject)


def name(conversation: Conversation, message: str, endpoint: Endpoint) -> Naming | None:
    """Name a conversation that has no title by its first words; say if the model is to improve on them.

    A temporary one gets no name, and of a message without text none is made.
    """
    if conversation.is_temporary or not message.strip():
        return None
    if conversation.title_source == Conversation.TitleSource.NONE:
        conversation.title = first_words(message)
        conversation.title_source = Conversation.TitleSource.FIRST_WORDS
    elif conversation.title_source != Conversation.TitleSource.FIRST_WORDS or _was_answered(conversation):
        return None
    if not wanted_from(endpoint):
        return None
    return Naming(
        session_id=conversation.session_id,
        subject=Subject(conversation.user_identifier, conversation.pk),
        provisional=conversation.title,
        endpoint=endpoint,
        question=message,
    )


def _was_answered(conversation: Conversation) -> bool:
    """Whether the model had its chance to name the conversation: after a first answer that failed it had not."""
    completed = Generation.Status.COMPLETED
    return Generation.objects.filter(message__conversation=conversation, status=completed).exists()

"""Answers looked up."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..access.rules import Action, Caller, authorize
from ..engine import engines
from ..engine.events import AnswerIds, Ending, ending_of, ids_of
from ..exceptions import NotFound
from ..models import Generation, Message
from ..models.querysets import GenerationQuerySet
from .beginnings import Said


def get_generation(*, caller: Caller, generation_id: uuid.UUID, action: Action = Action.READ) -> Generation:
    """Return an answer's state, with its message, conversation and ``position``; raises ``NotFound``."""
    return _found(Generation.objects.with_ids().with_position(), caller, generation_id, action)


def _found(generations: GenerationQuerySet, caller: Caller, generation_id: uuid.UUID, action: Action) -> Generation:
    generation = generations.for_owner(caller).filter(pk=generation_id).first()
    if generation is None:
        raise NotFound()
    authorize(caller, action, generation)
    return generation


def messages_named(*, caller: Caller, message_ids: Sequence[int]) -> dict[int, Said]:
    """Return those of the messages that ``caller`` may see, by their ids."""
    authorize(caller, Action.CHAT)
    found = Message.objects.for_owner(caller).filter(pk__in=set(message_ids)) if message_ids else ()
    return {
        message.pk: Said(message.role, message.content, message.parts, message.arguments, message.reasoning)
        for message in found
    }


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it is stored. While it runs it has no ``ending``, and its text is the engine's to tell.

    ``previous`` is the answer before its question, where one was made here.
    """

    ids: AnswerIds
    ending: Ending | None
    message: Message
    question: Message
    system_prompt: str
    previous: uuid.UUID | None
    created_at: datetime


def get_answer(*, caller: Caller, generation_id: uuid.UUID, action: Action = Action.READ) -> StoredAnswer:
    """Return an answer with its text and its question; raises ``NotFound``."""
    whole = Generation.objects.select_related("message__conversation", "message__parent__parent__generation")
    generation = _found(whole, caller, generation_id, action)
    message: Message = generation.message
    question = message.parent
    if question is None:
        raise NotFound()
    before = getattr(question.parent, "generation", None)
    return StoredAnswer(
        ids=ids_of(generation),
        ending=ending_of(generation),
        message=message,
        question=question,
        system_prompt=message.conversation.system_prompt,
        previous=before.pk if before else None,
        created_at=generation.created_at,
    )


def stop_generation(*, caller: Caller, generation_id: uuid.UUID) -> Generation | None:
    """End a running answer with the text that is stored, from a thread that waits for no event loop.

    Returns it, None where it had ended, or is gone.
    """
    try:
        generation = get_generation(caller=caller, generation_id=generation_id, action=Action.STOP)
    except NotFound:
        return None
    return generation if engines.stop_from_job(generation_id, generation.worker_id) else None

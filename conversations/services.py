"""The verbs. Keyword arguments only; each is one transaction and runs on a database thread (``db.write``)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from . import completions, conf, context, problems, pruning, titles
from .access import Action, Caller, authorize
from .completions import CompletionRequest, Endpoint
from .exceptions import InvalidRequest, NotFound, ReplyInProgress, UnknownModel
from .generation import liveness, supervisor
from .generation.events import AnswerIds
from .generation.producer import Plan
from .models import Conversation, Generation, Message, UserConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

BRANCH_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOptions:
    """How an answer is to be made; None leaves it to the conversation, the user's settings and the preset."""

    model_type: str = ""
    temperature: float | None = None
    max_tokens: int | None = None


def create_conversation(
    *, caller: Caller, title: str = "", system_prompt: str = "", model_type: str = ""
) -> Conversation:
    """Create an empty conversation of ``caller``, and prune theirs. Raises ``UnknownModel``."""
    authorize(caller, Action.CREATE)
    if model_type:
        check_model_type(model_type)
    conversation = Conversation.objects.create(
        owner=caller.user,
        user_identifier=caller.user_identifier,
        title=title,
        title_source=_source_of(title),
        system_prompt=system_prompt,
        model_type=model_type,
    )
    pruning.prune_owner(user_identifier=conversation.user_identifier, keep=conf.get().KEEP_LATEST)
    return conversation


def check_model_type(model_type: str) -> None:
    """Raise ``UnknownModel`` unless there is such a model type (`custom` always is)."""
    if model_type not in completions.known_model_types():
        raise UnknownModel()


def get_conversation(*, caller: Caller, session_id: uuid.UUID, action: Action = Action.READ) -> Conversation:
    """Return one conversation that ``caller`` may see; raises ``NotFound``."""
    conversation = Conversation.objects.for_owner(caller).filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    authorize(caller, action, conversation)
    return conversation


def update_conversation(*, caller: Caller, session_id: uuid.UUID, changes: Mapping[str, Any]) -> Conversation:
    """Change fields of a conversation; an emptied title hands naming back. Not an activity."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.CHANGE)
    for name, value in changes.items():
        setattr(conversation, name, value)
    names = list(changes)
    if "title" in changes:
        conversation.title_source = _source_of(conversation.title)
        names.append("title_source")
    if changes.get("model_type"):
        check_model_type(changes["model_type"])
    if names:
        conversation.save(update_fields=names)
    return conversation


def _source_of(title: str) -> Conversation.TitleSource:
    return Conversation.TitleSource.PERSON if title else Conversation.TitleSource.NONE


def running_generation(*, caller: Caller, session_id: uuid.UUID) -> uuid.UUID | None:
    """Return the id of the answer that is being made in a conversation, to be stopped before it is deleted."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.DELETE)
    return Generation.objects.filter(active_for=conversation).values_list("pk", flat=True).first()


def delete_conversation(*, caller: Caller, session_id: uuid.UUID) -> None:
    """Delete a conversation with everything in it; raises ``NotFound``."""
    get_conversation(caller=caller, session_id=session_id, action=Action.DELETE).delete()


def get_generation(*, caller: Caller, generation_id: uuid.UUID, action: Action = Action.READ) -> Generation:
    """Return an answer's state, with its message and conversation; raises ``NotFound``."""
    generation = Generation.objects.for_owner(caller).with_ids().filter(pk=generation_id).first()
    if generation is None:
        raise NotFound()
    authorize(caller, action, generation)
    return generation


def branch(leaf_id: int | None, conversation: Conversation) -> Iterator[Message]:
    """Yield the messages from ``leaf_id`` up to the first one: newest first, read no further than asked.

    A parent always has a lower id than its children, so one descending scan meets them in order.
    """
    wanted = leaf_id
    if wanted is None:
        return
    rows = conversation.messages.filter(pk__lte=wanted).select_related("generation").order_by("-pk")
    for message in rows.iterator(chunk_size=BRANCH_CHUNK):
        if message.pk == wanted:
            yield message
            wanted = message.parent_id
            if wanted is None:
                return


def start_reply(
    *,
    caller: Caller,
    message: str,
    session_id: uuid.UUID | None = None,
    user_id: str | None = None,
    options: ReplyOptions | None = None,
) -> AnswerIds:
    """Store a user's message and begin its answer, in one transaction: what this returns is stored.

    Without ``session_id`` a conversation is created. Raises ``NotFound``, ``ReplyInProgress``,
    ``UnknownModel``, ``PromptTooLong`` or ``ShuttingDown``, and then nothing is stored.
    """
    with transaction.atomic():
        if session_id is None:
            conversation = create_conversation(caller=caller.labelled(user_id))
        else:
            conversation = _locked(caller=caller, session_id=session_id)
        endpoint, prompt = _prepare(
            conversation, message, conversation.active_leaf_id, _label(caller, user_id), options or ReplyOptions()
        )
        question = Message.objects.create(
            conversation=conversation,
            parent_id=conversation.active_leaf_id,
            role=Message.Role.USER,
            content=message,
        )
        conversation.message_count += 2
        provisional = _name(conversation, message)
        return _begin(conversation, question, endpoint, prompt, provisional)


def regenerate(*, caller: Caller, message_id: int, options: ReplyOptions | None = None) -> tuple[AnswerIds, str]:
    """Begin another answer: to the same question for an answer, to itself for a user's message.

    It becomes the active branch. Returns the answer's ids and the question; raises like ``start_reply``.
    """
    with transaction.atomic():
        message = Message.objects.for_owner(caller).select_related("conversation").filter(pk=message_id).first()
        if message is None:
            raise NotFound()
        conversation = _locked(caller=caller, session_id=message.conversation.session_id)
        is_answer = message.role == Message.Role.ASSISTANT
        question = message.parent if is_answer else message
        if question is None:
            raise InvalidRequest()
        endpoint, prompt = _prepare(
            conversation, question.content, question.parent_id, None, options or ReplyOptions()
        )
        conversation.message_count = 1 + sum(1 for _ in branch(question.pk, conversation))
        return _begin(conversation, question, endpoint, prompt, ""), question.content


def _label(caller: Caller, user_id: str | None) -> str | None:
    return caller.labelled(user_id).user_identifier if user_id else None


def _locked(*, caller: Caller, session_id: uuid.UUID) -> Conversation:
    """Return a conversation that is not being answered, locked against another that begins to."""
    conversations = Conversation.objects.for_owner(caller).select_for_update()
    conversation = conversations.filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    authorize(caller, Action.CHAT, conversation)
    if Generation.objects.filter(active_for=conversation).exists():
        raise ReplyInProgress()
    return conversation


def _prepare(
    conversation: Conversation, message: str, leaf_id: int | None, label: str | None, options: ReplyOptions
) -> tuple[Endpoint, CompletionRequest]:
    """Decide which model answers, and what it gets to see."""
    identifier = conversation.user_identifier if label is None else label
    config = UserConfig.objects.owned_by(identifier).first()
    endpoint = completions.endpoint_for(asked=options.model_type, conversation=conversation.model_type, config=config)
    settings = conf.get()
    wished = (
        options.max_tokens or (config.max_tokens if config else None) or endpoint.max_tokens or settings.MAX_TOKENS
    )
    temperature = options.temperature if options.temperature is not None else endpoint.temperature
    messages, max_tokens = context.fit(
        endpoint=endpoint,
        system_prompt=conversation.system_prompt,
        message=message,
        history=branch(leaf_id, conversation),
        max_tokens=wished,
    )
    return endpoint, CompletionRequest(
        messages=messages,
        temperature=settings.TEMPERATURE if temperature is None else temperature,
        max_tokens=max_tokens,
    )


def _name(conversation: Conversation, message: str) -> str:
    """Name a conversation that has no title by its first words; return them if the model is to improve on them."""
    if conversation.title_source != Conversation.TitleSource.NONE:
        return ""
    conversation.title = titles.first_words(message)
    conversation.title_source = Conversation.TitleSource.FIRST_WORDS
    return conversation.title


def _begin(
    conversation: Conversation,
    question: Message,
    endpoint: Endpoint,
    request: CompletionRequest,
    provisional_title: str,
) -> AnswerIds:
    """Store the empty answer and its generation, and launch the producer once all is committed."""
    worker_id = supervisor.worker_id_for_job()
    liveness.ensure_registered(worker_id)
    answer = Message.objects.create(
        conversation=conversation,
        parent=question,
        role=Message.Role.ASSISTANT,
        model=endpoint.model,
        model_type=endpoint.model_type,
    )
    try:
        with transaction.atomic():
            generation = Generation.objects.create(
                message=answer,
                active_for=conversation,
                worker_id=worker_id,
                owner_id=conversation.owner_id,
                user_identifier=conversation.user_identifier,
            )
    except IntegrityError as error:  # another process was quicker
        raise ReplyInProgress() from error
    conversation.active_leaf = answer
    conversation.updated_at = timezone.now()
    conversation.save(update_fields=["active_leaf", "updated_at", "message_count", "title", "title_source"])
    ids = AnswerIds(generation.pk, conversation.session_id, answer.pk)
    plan = Plan(
        ids=ids,
        endpoint=endpoint,
        request=request,
        provisional_title=provisional_title if titles.wanted_from(endpoint) else "",
        request_id=problems.request_id.get(),
    )
    transaction.on_commit(lambda: supervisor.launch_from_job(plan))
    return ids

"""Answers: begun, begun again, and looked up."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from django.db import IntegrityError, transaction
from django.utils import timezone

from .. import budgets, completions, conf, context, problems, titles
from ..access import Action, Caller, authorize
from ..budgets import Account
from ..compiled import Insert, Select, Update, given
from ..completions import CompletionRequest, Endpoint
from ..exceptions import (
    BudgetExhausted,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    ReplyInProgress,
    TooManyAnswers,
)
from ..generation import jobs, liveness
from ..generation.events import AnswerIds
from ..generation.producer import Plan
from ..generation.storage import ids_of
from ..models import Conversation, Generation, Message, UserConfig
from ..titles import Naming
from .conversations import branch, create_conversation, get_conversation

_messages = Insert(Message)
_generations = Insert(Generation)
_config_of = Select(lambda: UserConfig.objects.owned_by(given(UserConfig, "user_identifier")))
_running_in = Select(
    lambda: Generation.objects.filter(active_for=given(Generation, "active_for")).values_list("pk", flat=True)
)
_advance = Update(
    lambda: Conversation.objects.filter(pk=given(Conversation, "id")),
    lambda: {
        name: given(Conversation, name)
        for name in ("active_leaf", "updated_at", "message_count", "title", "title_source")
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOptions:
    """How an answer is to be made; None leaves it to the conversation, the user's settings and the preset."""

    model_type: str = ""
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's promise that two requests are the same: its key, and a hash of what it asked for."""

    key: str
    hash: str


def start_reply(
    *,
    caller: Caller,
    message: str,
    session_id: uuid.UUID | None = None,
    user_id: str | None = None,
    options: ReplyOptions | None = None,
    idempotency: Idempotency | None = None,
) -> AnswerIds:
    """Store a user's message and begin its answer, in one transaction: what this returns is stored.

    Without ``session_id`` a conversation is created. With ``idempotency``, a request that was stored before
    returns its answer again, whatever became of it. Raises ``NotFound``, ``ReplyInProgress``,
    ``UnknownModel``, ``PromptTooLong``, ``IdempotencyMismatch``, ``TooManyAnswers``, ``BudgetExhausted``,
    ``ServerBusy`` or ``ShuttingDown``, and then nothing is stored.
    """
    authorize(caller, Action.CHAT)
    if ids := _stored(caller, session_id, user_id, idempotency):
        return ids
    try:
        account = budgets.account_of(caller)
        with transaction.atomic():
            account.lock()
            if session_id is None:
                conversation = create_conversation(caller=caller.labelled(user_id))
            else:
                conversation = _locked(caller=caller, session_id=session_id)
            label = _label(caller, user_id)
            return _ask(conversation, message, label, options or ReplyOptions(), idempotency, account)
    except (IntegrityError, ReplyInProgress, TooManyAnswers, BudgetExhausted) as error:
        # Another was quicker: with the same key, or in the same conversation, or with what was left.
        if ids := _stored(caller, session_id, user_id, idempotency):
            return ids
        if isinstance(error, IntegrityError):
            raise ReplyInProgress() from error
        raise


def _whose(caller: Caller, session_id: uuid.UUID | None, user_id: str | None) -> str:
    """Return whose answer it will be: the conversation's owner's, or the caller's for a new conversation."""
    if session_id is None:
        return caller.labelled(user_id).user_identifier
    whose: str = get_conversation(caller=caller, session_id=session_id, action=Action.CHAT).user_identifier
    return whose


def _stored(
    caller: Caller, session_id: uuid.UUID | None, user_id: str | None, idempotency: Idempotency | None
) -> AnswerIds | None:
    """Return the answer that this key already has; raises ``IdempotencyMismatch`` if it was for something else."""
    if idempotency is None:
        return None
    whose = _whose(caller, session_id, user_id)
    earlier = Generation.objects.with_ids().filter(user_identifier=whose, idempotency_key=idempotency.key).first()
    if earlier is None:
        return None
    if earlier.idempotency_hash != idempotency.hash:
        raise IdempotencyMismatch()
    return ids_of(earlier)


def _ask(
    conversation: Conversation,
    message: str,
    label: str | None,
    options: ReplyOptions,
    idempotency: Idempotency | None,
    account: Account,
) -> AnswerIds:
    endpoint, prompt = _prepare(conversation, message, conversation.active_leaf_id, label, options)
    question_id = _messages.add(
        conversation_id=conversation.pk, parent_id=conversation.active_leaf_id, role=Message.Role.USER, content=message
    )
    conversation.message_count += 2
    naming = _name(conversation, message, endpoint)
    return _begin(conversation, question_id, endpoint, prompt, account, naming=naming, idempotency=idempotency)


def regenerate(*, caller: Caller, message_id: int, options: ReplyOptions | None = None) -> tuple[AnswerIds, str]:
    """Begin another answer: to the same question for an answer, to itself for a user's message.

    It becomes the active branch. Returns the answer's ids and the question; raises like ``start_reply``.
    """
    account = budgets.account_of(caller)
    try:
        with transaction.atomic():
            account.lock()
            return _regenerate(caller, message_id, options or ReplyOptions(), account)
    except IntegrityError as error:  # another was quicker
        raise ReplyInProgress() from error


def _regenerate(caller: Caller, message_id: int, options: ReplyOptions, account: Account) -> tuple[AnswerIds, str]:
    message = Message.objects.for_owner(caller).select_related("conversation").filter(pk=message_id).first()
    if message is None:
        raise NotFound()
    conversation = _locked(caller=caller, session_id=message.conversation.session_id)
    question = message.parent if message.role == Message.Role.ASSISTANT else message
    if question is None:
        raise InvalidRequest()
    endpoint, prompt = _prepare(conversation, question.content, question.parent_id, None, options)
    conversation.message_count = 1 + sum(1 for _ in branch(question.pk, conversation))
    return _begin(conversation, question.pk, endpoint, prompt, account), question.content


def _label(caller: Caller, user_id: str | None) -> str | None:
    return caller.labelled(user_id).user_identifier if user_id else None


def _locked(*, caller: Caller, session_id: uuid.UUID) -> Conversation:
    """Return a conversation that is not being answered, locked against another that begins to."""
    conversations = Conversation.objects.for_owner(caller).select_for_update()
    conversation = conversations.filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    authorize(caller, Action.CHAT, conversation)
    if _running_in.first(active_for=conversation.pk):
        raise ReplyInProgress()
    return conversation


def _prepare(
    conversation: Conversation, message: str, leaf_id: int | None, label: str | None, options: ReplyOptions
) -> tuple[Endpoint, CompletionRequest]:
    """Decide which model answers, and what it gets to see."""
    identifier = conversation.user_identifier if label is None else label
    config = _config_of.first(user_identifier=identifier)
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


def _name(conversation: Conversation, message: str, endpoint: Endpoint) -> Naming | None:
    """Name a conversation that has no title by its first words; say if the model is to improve on them."""
    if conversation.title_source == Conversation.TitleSource.NONE:
        conversation.title = titles.first_words(message)
        conversation.title_source = Conversation.TitleSource.FIRST_WORDS
    elif conversation.title_source != Conversation.TitleSource.FIRST_WORDS or _was_answered(conversation):
        return None
    if not titles.wanted_from(endpoint):
        return None
    return Naming(
        session_id=conversation.session_id, provisional=conversation.title, endpoint=endpoint, question=message
    )


def _was_answered(conversation: Conversation) -> bool:
    """Whether the model had its chance to name the conversation: after a first answer that failed it had not."""
    completed = Generation.Status.COMPLETED
    return Generation.objects.filter(message__conversation=conversation, status=completed).exists()


def _begin(
    conversation: Conversation,
    question_id: int,
    endpoint: Endpoint,
    request: CompletionRequest,
    account: Account,
    *,
    naming: Naming | None = None,
    idempotency: Idempotency | None = None,
) -> AnswerIds:
    """Store the empty answer and its generation, and launch the producer once all is committed."""
    worker_id = jobs.worker_id_for_job()
    account.check_answers()
    liveness.ensure_registered(worker_id)
    answer_id = _messages.add(
        conversation_id=conversation.pk,
        parent_id=question_id,
        role=Message.Role.ASSISTANT,
        model=endpoint.model,
        model_type=endpoint.model_type,
    )
    generation_id = _generations.add(
        message_id=answer_id,
        active_for_id=conversation.pk,
        worker_id=worker_id,
        owner_id=conversation.owner_id,
        user_identifier=conversation.user_identifier,
        idempotency_key=idempotency.key if idempotency else None,
        idempotency_hash=idempotency.hash if idempotency else "",
    )
    prompt_tokens = context.prompt_tokens(endpoint, request.messages)
    spent_from = account.reserve(generation_id, prompt_tokens=prompt_tokens, max_tokens=request.max_tokens)
    _advance.run(
        id=conversation.pk,
        active_leaf=answer_id,
        updated_at=timezone.now(),
        message_count=conversation.message_count,
        title=conversation.title,
        title_source=conversation.title_source,
    )
    ids = AnswerIds(generation_id, conversation.session_id, answer_id)
    plan = Plan(
        ids=ids,
        endpoint=endpoint,
        request=request,
        naming=replace(naming, spent_from=spent_from) if naming else None,
        request_id=problems.request_id.get(),
    )
    transaction.on_commit(lambda: jobs.launch_from_job(plan))
    return ids


def get_generation(*, caller: Caller, generation_id: uuid.UUID, action: Action = Action.READ) -> Generation:
    """Return an answer's state, with its message, conversation and ``position``; raises ``NotFound``."""
    generations = Generation.objects.for_owner(caller).with_ids().with_position()
    generation = generations.filter(pk=generation_id).first()
    if generation is None:
        raise NotFound()
    authorize(caller, action, generation)
    return generation

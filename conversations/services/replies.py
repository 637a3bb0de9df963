"""Answers begun."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..database.compiled import Insert, Update, given
from ..database.transactions import replayed
from ..engine import completions, engines, prompts
from ..engine.completions import CompletionRequest, Endpoint
from ..engine.events import AnswerIds
from ..engine.hints import Subject
from ..engine.producer import Plan, ReplyOptions
from ..exceptions import (
    BudgetExhausted,
    InvalidRequest,
    ReplyInProgress,
    TooManyAnswers,
    request_id,
)
from ..limits import budgets
from ..limits.budgets import Account
from ..models import Conversation, Generation, Message, ToolResult
from . import branches, titles
from .asking import Prompt, prepared, with_images
from .beginnings import Beginning, Said, add, by_tools, by_user, create_with, go_on_with
from .branches import ACTIVE_LEAF, Parent
from .client_names import taken
from .deletion import while_account_lasts
from .idempotency import Idempotency, stored_reply
from .locks import locked, make_way
from .titles import Naming
from .turns import check_results

NONE = Beginning()
_messages = Insert(Message)
_generations = Insert(Generation)
_advance = Update(
    lambda: Conversation.objects.filter(pk=given(Conversation, "id")),
    lambda: {
        name: given(Conversation, name)
        for name in ("active_leaf", "updated_at", "changed_at", "message_count", "title", "title_source")
    },
)


def start_reply(
    *,
    caller: Caller,
    message: str = "",
    tool_results: Sequence[ToolResult] = (),
    attachment_ids: Sequence[uuid.UUID] = (),
    session_id: uuid.UUID | None = None,
    parent_id: Parent = ACTIVE_LEAF,
    user_id: str | None = None,
    options: ReplyOptions | None = None,
    temporary: bool = False,
    beginning: Beginning | None = None,
    idempotency: Idempotency | None = None,
    name: str | None = None,
    instead_of: int | None = None,
    instead: bool = False,
) -> AnswerIds:
    """Store a user's message and begin its answer, in one transaction: what this returns is stored.

    With or without text it shows the images ``attachment_ids``, all different. Instead of a message it takes
    ``tool_results``, of calls that the answer before asked for: the model goes on. Without ``session_id`` a
    conversation is created, perhaps ``temporary``, perhaps with a ``beginning``. It goes on from ``parent_id``, an
    answer (None: the root), or is said ``instead_of`` a message, where that is; the new branch is the one that is
    shown. With ``idempotency``, a request that was stored before returns its answer again, whatever became of it; with
    a ``name`` that another message has, that one was quicker, which is ``ReplyInProgress``. ``instead`` ends what is
    being answered in the conversation. Raises ``NotFound``, ``InvalidRequest``, ``ReplyInProgress``, ``UnknownModel``,
    ``PromptTooLong``, ``TooManyAnswers``, ``IdempotencyMismatch``, ``BudgetExhausted``, ``ServerBusy`` or
    ``ShuttingDown``; then nothing is stored, and nothing ended.
    """
    authorize(caller, Action.CHAT)
    if temporary and session_id is not None:
        raise InvalidRequest(errors={"temporary": [_("Only a new conversation can be temporary.")]})
    where = (session_id, parent_id, instead_of, user_id)
    said = by_tools(tool_results) if tool_results else by_user(message, attachment_ids)
    chat = _Chat(said, *where, options or ReplyOptions(), temporary, beginning or NONE, idempotency, name, instead)
    return stored_reply(caller, session_id, user_id, idempotency) or _started(caller, chat)


@dataclass(frozen=True, slots=True)
class _Chat:
    """What is said, and where."""

    said: Said
    session_id: uuid.UUID | None
    parent_id: Parent
    instead_of: int | None
    user_id: str | None
    options: ReplyOptions
    temporary: bool
    beginning: Beginning
    idempotency: Idempotency | None
    name: str | None
    instead: bool


def _started(caller: Caller, chat: _Chat) -> AnswerIds:
    try:
        account = budgets.account_of(caller)
        engines.register_worker()
        with while_account_lasts(caller):
            return _start(caller, chat, account)
    except (IntegrityError, ReplyInProgress, TooManyAnswers, BudgetExhausted) as error:
        # Another was quicker: with the same key, or in the same conversation, or with what was left.
        if ids := stored_reply(caller, chat.session_id, chat.user_id, chat.idempotency):
            return ids
        if isinstance(error, IntegrityError):
            raise ReplyInProgress() from error
        raise


@replayed
def _start(caller: Caller, chat: _Chat, account: Account) -> AnswerIds:
    if chat.instead and chat.session_id:
        make_way(caller, chat.session_id)
    account.lock()
    if chat.session_id is None:
        owner = caller.labelled(chat.user_id)
        conversation = create_with(chat.beginning, caller=owner, temporary=chat.temporary)
        branches.go_on_from(conversation, chat.parent_id)
    else:
        conversation = locked(caller=caller, session_id=chat.session_id, instead=chat.instead)
        if chat.instead_of is None:
            branches.go_on_from(conversation, chat.parent_id)
        else:
            branches.go_on_beside(conversation, chat.instead_of)
        go_on_with(chat.beginning, conversation, caller)
    leaf_id, said = conversation.active_leaf_id, chat.said
    if said.role == Message.Role.TOOL:
        check_results(conversation, said)
    endpoint, request, prompt = prepared(conversation, said, leaf_id, _label(caller, chat.user_id), chat.options)
    client_id = taken(chat.name, conversation, instead_of=chat.instead_of)
    add([said._replace(client_id=client_id)], conversation, caller)
    question_id, conversation.message_count = conversation.active_leaf_id, conversation.message_count + 1
    assert question_id is not None, "the message was just stored"
    naming = titles.name(conversation, said.content, endpoint) if said.role == Message.Role.USER else None
    return begin(
        conversation, question_id, endpoint, request, prompt, account, naming=naming, idempotency=chat.idempotency
    )


def _label(caller: Caller, user_id: str | None) -> str | None:
    return caller.labelled(user_id).user_identifier if user_id else None


def begin(
    conversation: Conversation,
    question_id: int,
    endpoint: Endpoint,
    request: CompletionRequest,
    prompt: Prompt,
    account: Account,
    *,
    naming: Naming | None = None,
    idempotency: Idempotency | None = None,
) -> AnswerIds:
    """Store the empty answer to a stored message and its generation, and launch the producer once all is committed.

    In the transaction that has locked the account and the conversation, whose ``message_count`` is that of the
    question's branch.
    """
    worker = engines.worker_for_job()
    account.check_answers()
    answer_id = _add_answer(conversation, question_id, endpoint)
    prompt_tokens = prompts.request_tokens(endpoint, request)
    generation_id = _add_generation(conversation, answer_id, worker, endpoint, prompt_tokens, idempotency)
    spent_from = account.reserve(generation_id, prompt_tokens=prompt_tokens, max_tokens=request.max_tokens)
    _make_active(conversation, answer_id)
    plan = Plan(
        ids=AnswerIds(generation_id, conversation.session_id, answer_id),
        endpoint=endpoint,
        request=request,
        fallbacks=_fallbacks(endpoint, request),
        switched=partial(prompt.switched, generation_id, answer_id),
        with_images=partial(with_images, conversation.pk),
        afterwards=partial(titles.improve, replace(naming, spent_from=spent_from)) if naming else None,
        background=prompt.options.background,
        request_id=request_id.get(),
        subject=Subject(conversation.user_identifier, conversation.pk),
    )
    _launch(plan)
    return plan.ids


def _fallbacks(endpoint: Endpoint, request: CompletionRequest) -> tuple[Endpoint, ...]:
    """Return who may answer instead: with a prompt of its own, without what it does not take of earlier turns."""
    asked = replace(request, messages=prompts.newest_of(request.messages))
    return completions.fallbacks_of(endpoint, asked)


def _add_answer(conversation: Conversation, question_id: int, endpoint: Endpoint) -> int:
    key: int = _messages.add(
        conversation_id=conversation.pk,
        parent_id=question_id,
        role=Message.Role.ASSISTANT,
        model=endpoint.model,
        model_type=endpoint.model_type,
    )
    return key


def _add_generation(
    conversation: Conversation,
    answer_id: int,
    worker: tuple[uuid.UUID, int],
    endpoint: Endpoint,
    prompt_tokens: int,
    idempotency: Idempotency | None,
) -> uuid.UUID:
    worker_id, log_from = worker
    generation_id: uuid.UUID = _generations.add(
        message_id=answer_id,
        active_for_id=conversation.pk,
        worker_id=worker_id,
        log_from=log_from,
        owner_id=conversation.owner_id,
        user_identifier=conversation.user_identifier,
        idempotency_key=idempotency.key if idempotency else None,
        idempotency_hash=idempotency.hash if idempotency else "",
        estimated_prompt_tokens=prompt_tokens,
        input_price=endpoint.input_price,
        output_price=endpoint.output_price,
    )
    return generation_id


def _launch(plan: Plan) -> None:
    """Launch the producer once all is committed, and let those know who watch."""
    transaction.on_commit(lambda: engines.launch_from_job(plan))
    if plan.subject:
        engines.tell_change(plan.subject)


def _make_active(conversation: Conversation, answer_id: int) -> None:
    """Make an answer the end of the active branch, which is an activity of the conversation."""
    now = timezone.now()
    _advance.run(
        id=conversation.pk,
        active_leaf=answer_id,
        updated_at=now,
        changed_at=now,
        message_count=conversation.message_count,
        title=conversation.title,
        title_source=conversation.title_source,
    )

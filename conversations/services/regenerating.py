"""Answers begun once more."""

from __future__ import annotations

import uuid

from django.db import IntegrityError

from ..access.rules import Caller
from ..database.transactions import replayed
from ..engine import engines
from ..engine.events import AnswerIds
from ..engine.producer import ReplyOptions
from ..exceptions import BudgetExhausted, InvalidRequest, NotFound, ReplyInProgress, TooManyAnswers
from ..limits import budgets
from ..limits.budgets import Account
from ..models import Message
from . import branches
from .asking import prepared
from .deletion import while_account_lasts
from .idempotency import Idempotency, stored_reply
from .locks import locked, make_way
from .replies import begin


def regenerate(
    *,
    caller: Caller,
    message_id: int,
    options: ReplyOptions | None = None,
    idempotency: Idempotency | None = None,
    instead: bool = False,
) -> tuple[AnswerIds, str]:
    """Begin another answer: to the same question for an answer, to itself for a user's message.

    It becomes the active branch, perhaps ``instead`` of what is being answered. With ``idempotency``, a request that
    was stored before returns its answer again. Returns the answer's ids and the question; raises like ``start_reply``.
    """
    if found := find_regenerated(caller=caller, message_id=message_id, idempotency=idempotency):
        return found
    try:
        account = budgets.account_of(caller)
        engines.register_worker()
        with while_account_lasts(caller):
            return _regenerate(caller, message_id, options or ReplyOptions(), account, idempotency, instead)
    except (IntegrityError, ReplyInProgress, TooManyAnswers, BudgetExhausted) as error:
        # Another was quicker: with the same key, or in the same conversation, or with what was left.
        if found := find_regenerated(caller=caller, message_id=message_id, idempotency=idempotency):
            return found
        if isinstance(error, IntegrityError):
            raise ReplyInProgress() from error
        raise


def find_regenerated(
    *, caller: Caller, message_id: int, idempotency: Idempotency | None
) -> tuple[AnswerIds, str] | None:
    """Return the answer that an equal request began, and its question; None where none did. It begins none.

    Raises ``NotFound``, or ``IdempotencyMismatch`` where the key was for something else.
    """
    if idempotency is None:
        return None
    ids = stored_reply(caller, _conversation_of(caller, message_id), None, idempotency)
    if ids is None:
        return None
    question = Message.objects.filter(pk=ids.message_id).values_list("parent__content", flat=True).first()
    return ids, question or ""


def _conversation_of(caller: Caller, message_id: int) -> uuid.UUID:
    found = Message.objects.for_owner(caller).filter(pk=message_id)
    session_id: uuid.UUID | None = found.values_list("conversation__session_id", flat=True).first()
    if session_id is None:
        raise NotFound()
    return session_id


@replayed
def _regenerate(
    caller: Caller,
    message_id: int,
    options: ReplyOptions,
    account: Account,
    idempotency: Idempotency | None,
    instead: bool,
) -> tuple[AnswerIds, str]:
    session_id = _conversation_of(caller, message_id)
    if instead:
        make_way(caller, session_id)
    account.lock()
    conversation = locked(caller=caller, session_id=session_id, instead=instead)
    # Only now: it may have been deleted while we waited.
    message = conversation.messages.select_related("parent").filter(pk=message_id).first()
    if message is None:
        raise NotFound()
    question = message.parent if message.role == Message.Role.ASSISTANT else message
    if question is None:
        raise InvalidRequest()
    endpoint, request, prompt = prepared(conversation, question, question.parent_id, None, options)
    conversation.message_count = 1 + branches.length(question.pk, conversation)
    ids = begin(conversation, question.pk, endpoint, request, prompt, account, idempotency=idempotency)
    return ids, question.content

"""Chats of clients that name conversations and messages themselves, and send all of a chat with each call.

What is stored is believed over what is sent: of a conversation that we have, the last message counts, and where it is
said.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..engine.events import FAILED, INTERRUPTED, AnswerIds, ids_of
from ..engine.producer import ReplyOptions
from ..exceptions import InvalidRequest, NotFound, ReplyInProgress
from ..models import Conversation, Generation, Message
from .beginnings import MOST_SAID, Beginning, Said, by_tools
from .branches import ACTIVE_LEAF
from .client_requests import (
    ClientChat,
    answer_before,
    answer_held,
    answer_that_asked,
    asked_before,
    known_question,
    meant,
)
from .idempotency import stored_reply
from .locks import running_in
from .regenerating import regenerate
from .replies import start_reply
from .turns import results_to


def answer_chat(
    *, caller: Caller, chat: ClientChat, options: ReplyOptions | None = None, temporary: bool = False
) -> AnswerIds:
    """Begin the answer that a client asks for, or find it if it was begun: a message has one until it is asked again.

    A name that we do not know makes a conversation of all that was said, perhaps a ``temporary`` one. What else is
    being answered in the conversation is stopped, with its text: the client turned to something new. Raises as
    ``start_reply`` does, and then nothing is stopped.
    """
    authorize(caller, Action.CHAT)
    try:
        return _answered(caller, chat, options, temporary)
    except ReplyInProgress:  # another call for the same was quicker
        return _answered(caller, chat, options, temporary)


def was_asked(*, caller: Caller, chat: ClientChat) -> bool:
    """Whether what a client asks needs no message of the user's that is not stored already.

    Raises ``IdempotencyMismatch`` for a run that asked for something else before.
    """
    conversation = find_chat(caller=caller, chat_id=chat.chat_id, action=Action.CHAT)
    if conversation is None:
        return False
    if chat.key is not None:
        made = answer_held(conversation, chat) or stored_reply(caller, conversation.session_id, None, chat.key)
        return made is not None
    answer = answer_that_asked(conversation, chat)
    if answer or (chat.again and meant(conversation, chat)):
        return True
    return asked_before(conversation, chat, answer) is not None


def find_chat(*, caller: Caller, chat_id: str, action: Action = Action.READ) -> Conversation | None:
    """Return the conversation with this session id, or the caller's that a client calls so; None where none is."""
    authorize(caller, action)
    mine = Conversation.objects.for_owner(caller)
    found = mine.filter(session_id=session_id).first() if (session_id := _session_id(chat_id)) else None
    if found is None and "\0" not in chat_id:  # which PostgreSQL takes in no text
        found = mine.filter(user_identifier=caller.user_identifier, client_id=chat_id).first()
    if found is not None:
        authorize(caller, action, found)
    return found


def running_answer(*, caller: Caller, chat_id: str) -> uuid.UUID | None:
    """Return the answer that is being made in a chat, None where none is, or no chat."""
    conversation = find_chat(caller=caller, chat_id=chat_id)
    return None if conversation is None else running_in(conversation.pk)


def _session_id(text: str) -> uuid.UUID | None:
    try:
        session_id = uuid.UUID(text)
    except ValueError:
        return None
    return session_id if str(session_id) == text else None


def _answered(caller: Caller, chat: ClientChat, options: ReplyOptions | None, temporary: bool) -> AnswerIds:
    conversation = find_chat(caller=caller, chat_id=chat.chat_id, action=Action.CHAT)
    if conversation is None:
        return _begun(caller, chat, options, temporary)
    if ids := answer_held(conversation, chat):
        return ids
    if chat.again and (message := meant(conversation, chat)):
        return _again(caller, message, options)
    answer = answer_that_asked(conversation, chat)
    if asked := asked_before(conversation, chat, answer):
        return _answer_to(caller, asked, chat, options)
    if chat.goes_on and (ids := _gone_on(caller, conversation, chat, answer, options)):
        return ids
    if chat.asked is None:
        raise NotFound()
    return _said(caller, conversation, chat, chat.asked, options)


def _gone_on(
    caller: Caller,
    conversation: Conversation,
    chat: ClientChat,
    answer: Message | None,
    options: ReplyOptions | None,
) -> AnswerIds | None:
    """Go on with what came of the calls of ``answer``; None where no answer asked for them, which a run is told of."""
    if answer is None and chat.key is None:
        return None
    return start_reply(
        caller=caller,
        tool_results=results_to(answer, chat.results) if answer and chat.key is None else chat.results,
        session_id=conversation.session_id,
        parent_id=answer.pk if answer else ACTIVE_LEAF,
        options=options,
        beginning=_between(chat),
        idempotency=chat.key,
        instead=True,
    )


def _said(
    caller: Caller, conversation: Conversation, chat: ClientChat, said: Said, options: ReplyOptions | None
) -> AnswerIds:
    """Store what a user says anew, or instead of what was said before."""
    edited = known_question(conversation, chat)
    before = None if edited else answer_before(conversation, chat)
    results = results_to(before, chat.results) if before else []
    return start_reply(
        caller=caller,
        message=said.content,
        attachment_ids=chat.attachment_ids,
        session_id=conversation.session_id,
        parent_id=before.pk if before else ACTIVE_LEAF,
        options=options,
        beginning=_between(chat, [by_tools(results)] if results else ()),
        idempotency=chat.key,
        name=said.client_id,
        instead_of=edited.pk if edited else None,
        instead=True,
    )


def _between(chat: ClientChat, said: Sequence[Said] = ()) -> Beginning:
    """Return what is stored before a message of a conversation that we have: a run may change the instructions."""
    return Beginning(chat.system_prompt if chat.key else None, said)


def _begun(caller: Caller, chat: ClientChat, options: ReplyOptions | None, temporary: bool) -> AnswerIds:
    """Begin a conversation with all that was said."""
    if not chat.said:
        raise NotFound()
    asked = chat.asked
    name = asked.client_id if asked else None
    return start_reply(
        caller=caller,
        message=asked.content if asked else "",
        tool_results=() if asked else chat.results,
        attachment_ids=chat.attachment_ids,
        options=options,
        temporary=temporary,
        beginning=Beginning(chat.system_prompt, _before(chat.said[:-1] if asked else chat.said, name), chat.chat_id),
        idempotency=chat.key,
        name=name,
    )


def _before(said: Sequence[Said], taken: str | None) -> list[Said]:
    """Return what was said before what is asked, each name once, as that has its own."""
    before, names = [], {taken}
    for each in said:
        if each.content or each.parts:
            before.append(each._replace(client_id=None) if each.client_id in names else each)
            names.add(each.client_id)
    if len(before) > MOST_SAID:
        limit = {"limit": MOST_SAID}
        raise InvalidRequest(
            errors={"messages": [_("At most %(limit)d messages can be stored with one call.") % limit]}
        )
    return before


def _again(caller: Caller, message: Message, options: ReplyOptions | None) -> AnswerIds:
    """Answer once more. An answer that is being made instead of this one is what the same call began before."""
    if message.role == Message.Role.ASSISTANT:
        newer = Generation.objects.with_ids().filter(message__parent=message.parent_id, message_id__gt=message.pk)
        running = newer.filter(active_for=message.conversation_id).first()
        if running is not None:
            return ids_of(running)
    return regenerate(caller=caller, message_id=message.pk, options=options, instead=True)[0]


def _answer_to(caller: Caller, question: Message, chat: ClientChat, options: ReplyOptions | None) -> AnswerIds:
    """Return the newest answer of a message. Where it has none, or is sent once more after a failure, begin one."""
    answers = Generation.objects.with_ids().filter(message__parent=question)
    newest = answers.order_by("-message_id").first()
    if newest is None or (chat.named and newest.status in (FAILED, INTERRUPTED)):
        return regenerate(caller=caller, message_id=question.pk, options=options, instead=True)[0]
    return ids_of(newest)

"""Chats of clients that name conversations and messages themselves, and send all of a chat with each call.

What is stored is believed over what is sent: of a conversation that we have, the last message counts, and where it is
said.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..engine.events import FAILED, INTERRUPTED, AnswerIds, ids_of
from ..engine.producer import ReplyOptions
from ..exceptions import InvalidRequest, NotFound, ReplyInProgress
from ..models import Conversation, Generation, Message, ToolResult
from ..models.parts import IMAGE
from .beginnings import MOST_SAID, Beginning, Said, by_tools
from .branches import ACTIVE_LEAF, Parent
from .client_names import MessageName, message_named
from .generations import stop_generation
from .replies import regenerate, start_reply
from .turns import answer_asking, last_answer, results_to

# Another call for the same may begin an answer, or a conversation, while we look.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ClientChat:
    """What a client sends: the chat's name, and what was said in it, as it knows it, up to what it asks.

    ``said`` ends in the user's last message. ``named`` is the message that the client means: one that it edits or,
    with ``again``, one that is to be answered again. ``results`` are what came of calls that the last answer which it
    has asked for: before that message, or if it ``goes_on``, after. The message shows so many ``images``, which are
    ``attachment_ids`` when it is to be stored.
    """

    chat_id: str
    said: Sequence[Said]
    system_prompt: str | None = None
    named: str | None = None
    again: bool = False
    results: Sequence[ToolResult] = ()
    results_in: str | None = None
    goes_on: bool = False
    images: int = 0
    attachment_ids: Sequence[uuid.UUID] = ()


def answer_chat(
    *, caller: Caller, chat: ClientChat, options: ReplyOptions | None = None, temporary: bool = False
) -> AnswerIds:
    """Begin the answer that a client asks for, or find it if it was begun: a message has one until it is asked again.

    A name that we do not know makes a conversation of all that was said, perhaps a ``temporary`` one. What else is
    being answered in the conversation is stopped, with its text: the client turned to something new. Raises as
    ``start_reply`` does.
    """
    authorize(caller, Action.CHAT)
    for _attempt in range(ATTEMPTS - 1):
        try:
            return _answered(caller, chat, options, temporary)
        except ReplyInProgress:
            _make_way(caller, chat)
    return _answered(caller, chat, options, temporary)


def was_asked(*, caller: Caller, chat: ClientChat) -> bool:
    """Whether what a client asks is stored already, so that it brings nothing new."""
    conversation = find_chat(caller=caller, chat_id=chat.chat_id, action=Action.CHAT)
    if conversation is None or not chat.said:
        return False
    return (chat.again and _meant(conversation, chat) is not None) or _asked_before(conversation, chat) is not None


def find_chat(*, caller: Caller, chat_id: str, action: Action = Action.READ) -> Conversation | None:
    """Return the conversation with this session id, or the caller's that a client calls so; None where none is."""
    authorize(caller, action)
    mine = Conversation.objects.for_owner(caller)
    found = mine.filter(session_id=session_id).first() if (session_id := _session_id(chat_id)) else None
    if found is None:
        found = mine.filter(user_identifier=caller.user_identifier, client_id=chat_id).first()
    if found is not None:
        authorize(caller, action, found)
    return found


def running_answer(*, caller: Caller, chat_id: str) -> uuid.UUID | None:
    """Return the answer that is being made in a chat, None where none is, or no chat."""
    conversation = find_chat(caller=caller, chat_id=chat_id)
    return None if conversation is None else _running_in(conversation)


def _session_id(text: str) -> uuid.UUID | None:
    try:
        session_id = uuid.UUID(text)
    except ValueError:
        return None
    return session_id if str(session_id) == text else None


def _running_in(conversation: Conversation) -> uuid.UUID | None:
    return Generation.objects.filter(active_for=conversation).values_list("pk", flat=True).first()


def _answered(caller: Caller, chat: ClientChat, options: ReplyOptions | None, temporary: bool) -> AnswerIds:
    conversation = find_chat(caller=caller, chat_id=chat.chat_id, action=Action.CHAT)
    if conversation is None:
        return _begun(caller, chat, options, temporary)
    if chat.again and (message := _meant(conversation, chat)):
        return regenerate(caller=caller, message_id=message.pk, options=options)[0]
    if not chat.said:
        raise NotFound()
    if (asked := _asked_before(conversation, chat)) is not None:
        return _answer_to(caller, asked, chat, options)
    if answer := _asking(conversation, chat):
        results = results_to(answer, chat.results)
        session_id = conversation.session_id
        return start_reply(
            caller=caller, tool_results=results, session_id=session_id, parent_id=answer.pk, options=options
        )
    return _said(caller, conversation, chat, options)


def _said(caller: Caller, conversation: Conversation, chat: ClientChat, options: ReplyOptions | None) -> AnswerIds:
    """Store what a user says anew, or instead of what was said before."""
    said, edited = chat.said[-1], _known_question(conversation, chat)
    before = None if edited else _answer_before(conversation, chat)
    place: Parent = edited.parent_id if edited else ACTIVE_LEAF if before is None else before.pk
    results = results_to(before, chat.results) if before else []
    return start_reply(
        caller=caller,
        message=said.content,
        attachment_ids=chat.attachment_ids,
        session_id=conversation.session_id,
        parent_id=place,
        options=options,
        beginning=Beginning(said=[by_tools(results)]) if results else None,
        name=MessageName(said.client_id, edited.pk if edited else None) if said.client_id else None,
    )


def _begun(caller: Caller, chat: ClientChat, options: ReplyOptions | None, temporary: bool) -> AnswerIds:
    """Begin a conversation with all that was said."""
    if not chat.said:
        raise NotFound()
    asked = chat.said[-1]
    return start_reply(
        caller=caller,
        message=asked.content,
        attachment_ids=chat.attachment_ids,
        options=options,
        temporary=temporary,
        beginning=Beginning(chat.system_prompt, _before(chat), chat.chat_id),
        name=MessageName(asked.client_id) if asked.client_id else None,
    )


def _before(chat: ClientChat) -> list[Said]:
    """Return what was said before the last message, each name once."""
    before, names = [], {chat.said[-1].client_id}
    for said in chat.said[:-1]:
        if said.content:
            before.append(said._replace(client_id=None) if said.client_id in names else said)
            names.add(said.client_id)
    check_number(before)
    return before


def check_number(before: Sequence[Said]) -> None:
    """Raise ``InvalidRequest`` where more was said before a message than is stored with it."""
    if len(before) > MOST_SAID:
        limit = {"limit": MOST_SAID}
        raise InvalidRequest(
            errors={"messages": [_("At most %(limit)d messages can be stored with one call.") % limit]}
        )


def _asked_before(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the message that is what a client asks, None where it asks something new."""
    if answer := _asking(conversation, chat):
        parts = by_tools(results_to(answer, chat.results))
        stored = answer.children.filter(role=Message.Role.TOOL, content=parts.content).order_by("-pk")
        # Compared here as well: databases may take two texts for one.
        said = (message for message in stored if (message.content, message.parts) == (parts.content, parts.parts))
        return next(said, None)
    known = _known_question(conversation, chat)
    if known is None or known.content != chat.said[-1].content:
        return None
    return known if sum(part["type"] == IMAGE for part in known.parts or ()) == chat.images else None


def _known_question(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the user's message that is sent again, or edited."""
    names = [name for name in (chat.named, chat.said[-1].client_id) if name]
    found = (message_named(conversation, name, role=Message.Role.USER) for name in names)
    return next((message for message in found if message), None)


def _meant(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return what is to be answered again: the message that is named, else the last one; None where that is new."""
    if chat.named and (answer := message_named(conversation, chat.named, role=Message.Role.ASSISTANT)):
        return answer
    if chat.said:
        return _known_question(conversation, chat)
    return None if chat.named else conversation.active_leaf


def _asking(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the answer whose calls a client has run, where it goes on with what came of them."""
    if not (chat.goes_on and chat.results):
        return None
    answer = _named_answer(conversation, chat.results_in)
    if answer is None and (question := _known_question(conversation, chat)):
        answer = question.children.order_by("-pk").first()
    return answer and answer_asking(answer, chat.results)


def _answer_before(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the answer after which the client says something: the one that it has before it, if we know that."""
    before = chat.said[-2] if len(chat.said) > 1 else None
    if before is None or before.role != Message.Role.ASSISTANT:
        return None
    answer = _named_answer(conversation, before.client_id)
    return answer and last_answer(answer)


def _named_answer(conversation: Conversation, name: str | None) -> Message | None:
    return message_named(conversation, name, role=Message.Role.ASSISTANT) if name else None


def _answer_to(caller: Caller, question: Message, chat: ClientChat, options: ReplyOptions | None) -> AnswerIds:
    """Return the newest answer of a message. Where it has none, or is sent once more after a failure, begin one."""
    answers = Generation.objects.with_ids().filter(message__parent=question)
    newest = answers.order_by("-message_id").first()
    if newest is None or (chat.named and newest.status in (FAILED, INTERRUPTED)):
        return regenerate(caller=caller, message_id=question.pk, options=options)[0]
    return ids_of(newest)


def _make_way(caller: Caller, chat: ClientChat) -> None:
    """Stop what is being answered, but for what the client asks just now."""
    conversation = find_chat(caller=caller, chat_id=chat.chat_id, action=Action.STOP)
    if conversation is None or (generation_id := _running_in(conversation)) is None:
        return
    asked = None if chat.again else _asked_before(conversation, chat)
    if asked and Generation.objects.filter(pk=generation_id, message__parent=asked).exists():
        return
    stop_generation(caller=caller, generation_id=generation_id)

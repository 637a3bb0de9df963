"""What a client that sends all of a chat means by it: which of the messages that are stored, and what is new."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine.events import COMPLETED, AnswerIds, ids_of
from ..models import Conversation, Generation, Message, ToolResult
from ..models.parts import image_ids
from .beginnings import Said, by_tools
from .client_names import message_named, messages_named
from .idempotency import Idempotency
from .turns import answer_asking, last_answer, results_to

# Of the answers that a client has, so many are looked for: from the last on.
MOST_HELD = 10


@dataclass(frozen=True, slots=True)
class ClientChat:
    """What a client sends: the chat's name, and what was said in it, as it knows it, up to what it asks.

    ``said`` ends in the user's last message. ``named`` is the message that the client means: one that it edits or,
    with ``again``, one that is to be answered again. ``results`` are what came of calls that the last answer which it
    has (``results_in``) asked for: before that message, or if it ``goes_on``, after. The message shows ``images``,
    each one's id where it is stored, which are ``attachment_ids`` when the message is to be stored.

    With a ``key`` it is a run: this key, or a part of it which the client has among ``held``, finds its answer again,
    and else what is sent again is answered again. Its answers are one message each, not one a turn; ``said`` ends in
    the one that asked where it ``goes_on``. The ``system_prompt`` is a new conversation's, and a run's always.
    """

    chat_id: str
    said: Sequence[Said]
    system_prompt: str | None = None
    named: str | None = None
    again: bool = False
    results: Sequence[ToolResult] = ()
    results_in: str | None = None
    goes_on: bool = False
    images: Sequence[uuid.UUID | None] = ()
    attachment_ids: Sequence[uuid.UUID] = ()
    key: Idempotency | None = None
    held: Sequence[str] = ()

    @property
    def asked(self) -> Said | None:
        """The user's message that is to be answered."""
        return self.said[-1] if self.said and self.said[-1].role == Message.Role.USER else None


def asked_before(conversation: Conversation, chat: ClientChat, answer: Message | None) -> Message | None:
    """Return the message that is what a client asks, None where it asks something new, as each run does.

    ``answer`` is ``answer_that_asked`` for the calls whose results it sends.
    """
    if chat.key is not None:
        return None
    if answer:
        parts = by_tools(results_to(answer, chat.results))
        stored = answer.children.filter(role=Message.Role.TOOL, content=parts.content).order_by("-pk")
        # Compared here as well: databases may take two texts for one.
        said = (message for message in stored if (message.content, message.parts) == (parts.content, parts.parts))
        return next(said, None)
    known = known_question(conversation, chat)
    return known if known is not None and _is_what_is_sent(known, chat) else None


def _is_what_is_sent(known: Message, chat: ClientChat) -> bool:
    """Whether a message is the one that is asked. Where a message is edited, an image that comes anew is another."""
    asked = chat.asked
    shown = image_ids(known)
    if asked is None or known.content != asked.content or len(shown) != len(chat.images):
        return False
    is_edit = chat.named is not None and not chat.again
    pairs = zip(shown, chat.images, strict=True)
    return all(str(sent) == stored if sent else not is_edit for stored, sent in pairs)


def known_question(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the user's message that is sent again, or edited."""
    if chat.asked is None:
        return None
    names = [name for name in (chat.named, chat.asked.client_id) if name]
    found = messages_named(conversation, names, role=Message.Role.USER)
    return next((found[name] for name in names if name in found), None)


def meant(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return what is to be answered again: the message that is named, else the last one; None where that is new."""
    answer = _named_answer(conversation, chat.named)
    known = known_question(conversation, chat)
    if known and (answer is None or answer.parent_id == known.pk):
        return (answer or known) if _is_what_is_sent(known, chat) else None
    return answer if answer or chat.said or chat.named else conversation.active_leaf


def answer_that_asked(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the answer whose calls a client has run, where it goes on with what came of them."""
    if not (chat.goes_on and chat.results):
        return None
    answer = _named_answer(conversation, chat.results_in)
    if answer is None and (question := known_question(conversation, chat)):
        answer = question.children.order_by("-pk").first()
    return answer if answer is None or chat.key else answer_asking(answer, chat.results)


def answer_before(conversation: Conversation, chat: ClientChat) -> Message | None:
    """Return the answer after which the client says something: the one that it has before it, if we know that."""
    before = next((said for said in reversed(chat.said[:-1]) if said.role != Message.Role.TOOL), None)
    if before is None or before.role != Message.Role.ASSISTANT:
        return None
    answer = _named_answer(conversation, before.client_id)
    return answer if answer is None or chat.key else last_answer(answer)


def answer_held(conversation: Conversation, chat: ClientChat) -> AnswerIds | None:
    """Return the newest answer of which a client has a part, unless it failed or was stopped: it asks once more."""
    names = chat.held[: -MOST_HELD - 1 : -1]
    answers = messages_named(conversation, names, role=Message.Role.ASSISTANT)
    generations = Generation.objects.with_ids().filter(message__in=answers.values()) if answers else ()
    made = {generation.message_id: generation for generation in generations}
    for answer in (answers[name] for name in names if name in answers):
        generation = made.get(answer.pk)
        if generation is not None and (generation.is_running or generation.status == COMPLETED):
            return ids_of(generation)
    return None


def _named_answer(conversation: Conversation, name: str | None) -> Message | None:
    return message_named(conversation, name, role=Message.Role.ASSISTANT) if name else None

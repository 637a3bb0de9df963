"""The branch of a conversation that is shown as a list of items: looked up, and added to without an answer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from itertools import islice

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..access.rules import Action, Caller, authorize
from ..database.transactions import replayed
from ..exceptions import InvalidRequest, NotFound
from ..models import Conversation, Message
from .beginnings import Beginning, create_with, go_on_with
from .branches import branch, branch_ids
from .conversations import get_conversation, tell_change
from .deletion import while_account_lasts
from .locks import locked
from .titles import first_words


@dataclass(frozen=True, slots=True)
class Items:
    """Messages with their generations, in the order that was asked for, and whether more follow."""

    messages: list[Message]
    has_more: bool = False


def create_with_items(*, caller: Caller, beginning: Beginning) -> Conversation:
    """Create a conversation of what was said elsewhere, named by the first words of it; nothing is asked."""
    authorize(caller, Action.CREATE)
    with while_account_lasts(caller):
        return _create(caller, beginning)


@replayed
def _create(caller: Caller, beginning: Beginning) -> Conversation:
    conversation = create_with(beginning, caller=caller, temporary=False)
    words = next((first_words(said.content) for said in beginning.said if said.role == Message.Role.USER), "")
    if words:
        conversation.title, conversation.title_source = words, Conversation.TitleSource.FIRST_WORDS
    conversation.save(update_fields=["active_leaf", "message_count", "title", "title_source"])
    return conversation


@replayed
def add_items(*, caller: Caller, session_id: uuid.UUID, beginning: Beginning) -> list[Message]:
    """Add what was said elsewhere at the end of the branch that is shown; returns the new messages.

    Instructions are added to those that there are. Raises ``NotFound``, ``ReplyInProgress`` while the conversation is
    being answered, and ``InvalidRequest`` where the instructions become too long.
    """
    authorize(caller, Action.CHAT)
    conversation = locked(caller=caller, session_id=session_id)
    prompt = _added_to(conversation.system_prompt, beginning.system_prompt)
    go_on_with(replace(beginning, system_prompt=prompt), conversation, caller)
    conversation.updated_at = conversation.changed_at = timezone.now()
    conversation.save(update_fields=["active_leaf", "message_count", "updated_at", "changed_at"])
    tell_change(conversation)
    added = islice(branch(conversation.active_leaf_id, conversation), len(beginning.said))
    return list(added)[::-1]


def _added_to(there: str, added: str | None) -> str | None:
    """Return instructions with more of them; None where none are added."""
    if not there or not added:
        return added or None
    prompt = f"{there}\n\n{added}"
    if len(prompt) > (limit := conf.get().MAX_SYSTEM_PROMPT_LENGTH):
        raise InvalidRequest(
            errors={"items": [_("All instructions together: at most %(limit)d characters.") % {"limit": limit}]}
        )
    return prompt


def list_items(
    *, caller: Caller, session_id: uuid.UUID, since: int | None, limit: int, oldest_first: bool
) -> Items | None:
    """Return messages of the branch that is shown, from one of them on; None where that is not in it.

    Raises ``NotFound``. However long the branch is, only these are loaded.
    """
    conversation = get_conversation(caller=caller, session_id=session_id)
    ids = branch_ids(conversation.active_leaf_id, conversation)
    if oldest_first:
        ids.reverse()
    if since is not None:
        if since not in ids:
            return None
        ids = ids[ids.index(since) :]
    return Items(_messages(conversation, ids[:limit]), len(ids) > limit)


def get_item(
    *, caller: Caller, session_id: uuid.UUID, message_id: int, action: Action = Action.READ
) -> tuple[Conversation, Message]:
    """Return a message of a conversation, on any of its branches; raises ``NotFound``."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=action)
    found = _messages(conversation, [message_id])
    if not found:
        raise NotFound()
    return conversation, found[0]


def _messages(conversation: Conversation, ids: list[int]) -> list[Message]:
    found = conversation.messages.filter(pk__in=ids).select_related("generation").in_bulk() if ids else {}
    return [found[pk] for pk in ids if pk in found]

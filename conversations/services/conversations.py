"""Conversations: created, found, changed, deleted, and read along their active branch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import completions, conf, pruning
from ..access import Action, Caller, authorize
from ..compiled import Insert
from ..exceptions import NotFound, UnknownModel
from ..models import Conversation, Generation, Message

if TYPE_CHECKING:
    from collections.abc import Mapping

BRANCH_CHUNK = 100

_conversations = Insert(Conversation)


def create_conversation(
    *, caller: Caller, title: str = "", system_prompt: str = "", model_type: str = ""
) -> Conversation:
    """Create an empty conversation of ``caller``, and prune theirs. Raises ``UnknownModel``."""
    authorize(caller, Action.CREATE)
    if model_type:
        check_model_type(model_type)
    conversation = _conversations.create(
        owner=caller.user,
        user_identifier=caller.user_identifier,
        title=title.strip(),
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
        conversation.title = conversation.title.strip()
        conversation.title_source = _source_of(conversation.title)
        names.append("title_source")
    if changes.get("model_type"):
        check_model_type(changes["model_type"])
    if names:
        conversation.save(update_fields=names)
    return conversation


def _source_of(title: str) -> Conversation.TitleSource:
    return Conversation.TitleSource.PERSON if title.strip() else Conversation.TitleSource.NONE


def running_generation(*, caller: Caller, session_id: uuid.UUID) -> uuid.UUID | None:
    """Return the id of the answer that is being made in a conversation, to be stopped before it is deleted."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.DELETE)
    return Generation.objects.filter(active_for=conversation).values_list("pk", flat=True).first()


def delete_conversation(*, caller: Caller, session_id: uuid.UUID) -> None:
    """Delete a conversation with everything in it; raises ``NotFound``."""
    get_conversation(caller=caller, session_id=session_id, action=Action.DELETE).delete()


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

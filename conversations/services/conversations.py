"""Conversations: created, found, changed and deleted."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.utils import timezone

from ..access.rules import Action, Caller, authorize
from ..database.compiled import Insert
from ..database.transactions import replayed
from ..engine import completions, engines
from ..engine.hints import Subject
from ..exceptions import NotFound, UnknownModel
from ..models import Conversation
from . import branches, expiry
from .deletion import Ended, delete_whole, while_account_lasts
from .locks import running_in

if TYPE_CHECKING:
    from collections.abc import Mapping

_conversations = Insert(Conversation)


def create_conversation(
    *,
    caller: Caller,
    title: str = "",
    system_prompt: str = "",
    model_type: str = "",
    temporary: bool = False,
    client_id: str | None = None,
) -> Conversation:
    """Create an empty conversation of ``caller``; theirs are pruned beside. Raises ``UnknownModel``.

    A temporary one is never listed, found or named, and deleted a set time after its last activity. One of the owner's
    has a ``client_id``: ``IntegrityError``, unless that one is deleted and may be brought back, which gives it up.
    """
    authorize(caller, Action.CREATE)
    if model_type:
        check_model_type(model_type)
    with while_account_lasts(caller):
        conversation = _create(
            owner=caller.user,
            user_identifier=caller.user_identifier,
            title=title.strip(),
            title_source=_source_of(title),
            system_prompt=system_prompt,
            model_type=model_type,
            is_temporary=temporary,
            expires_at=expiry.of_temporary() if temporary else None,
            client_id=client_id,
        )
    engines.prune_from_job(conversation.user_identifier)
    tell_change(conversation)
    return conversation


@replayed
def _create(**values: Any) -> Conversation:
    if values["client_id"] is not None:
        named = Conversation.objects.filter(user_identifier=values["user_identifier"], client_id=values["client_id"])
        named.filter(is_hidden=True).update(client_id=None)
    return _conversations.create(**values)


def tell_change(conversation: Conversation) -> None:
    """Let whoever watches the owner's conversations know, once this is committed, that something is new in one."""
    engines.tell_change(Subject(conversation.user_identifier, conversation.pk))


def check_model_type(model_type: str) -> None:
    """Raise ``UnknownModel`` unless there is such a model type (`custom` always is)."""
    if model_type not in completions.known_model_types():
        raise UnknownModel.asked()


def get_conversation(*, caller: Caller, session_id: uuid.UUID, action: Action = Action.READ) -> Conversation:
    """Return one conversation that ``caller`` may see; raises ``NotFound``."""
    conversation = Conversation.objects.for_owner(caller).filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    authorize(caller, action, conversation)
    return conversation


def update_conversation(*, caller: Caller, session_id: uuid.UUID, changes: Mapping[str, Any]) -> Conversation:
    """Change fields of a conversation; an emptied title hands naming back. Not an activity.

    ``active_leaf`` is any message of the branch that is to be shown. Raises ``NotFound`` and ``UnknownModel``.
    """
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.CHANGE)
    values = dict(changes)
    through = values.pop("active_leaf", None)
    if "title" in values:
        values["title"] = values["title"].strip()
        values["title_source"] = _source_of(values["title"])
    if values.get("model_type"):
        check_model_type(values["model_type"])
    if values or through is not None:
        values = _update(conversation, values, through)
        tell_change(conversation)
    for name, value in values.items():
        setattr(conversation, name, value)
    return conversation


def select_branch(*, caller: Caller, message_id: int) -> Conversation:
    """Show the branch through a message, down to the newest one below it; raises ``NotFound``."""
    conversation = branches.get_message(caller=caller, message_id=message_id, action=Action.CHANGE).conversation
    return update_conversation(caller=caller, session_id=conversation.session_id, changes={"active_leaf": message_id})


@replayed
def _update(conversation: Conversation, values: dict[str, Any], through: int | None) -> dict[str, Any]:
    """Write some fields, unless the conversation was deleted meanwhile: ``NotFound``. Returns what was written."""
    row = Conversation.objects.filter(pk=conversation.pk)
    if through is not None:
        row.select_for_update().values_list("pk").first()  # against answers that begin, and deletions
        values = {**values, **branches.shown_through(conversation, through)._asdict()}
    if not row.update(**values, changed_at=timezone.now()):
        raise NotFound()
    return values


def _source_of(title: str) -> Conversation.TitleSource:
    return Conversation.TitleSource.PERSON if title.strip() else Conversation.TitleSource.NONE


def running_generation(*, caller: Caller, session_id: uuid.UUID) -> uuid.UUID | None:
    """Return the id of the answer that is being made in a conversation, to be stopped before it is deleted."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.DELETE)
    return running_in(conversation.pk)


def delete_conversation(*, caller: Caller, session_id: uuid.UUID) -> list[Ended]:
    """Delete a conversation with everything in it; raises ``NotFound``. Returns the answers that ended with it."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.DELETE)
    ended = delete_whole(conversation.pk)
    tell_change(conversation)
    return ended


class Hidden(NamedTuple):
    """A conversation that may be brought back until then, and the answers that ended as it was hidden."""

    until: datetime
    ended: list[Ended]


def hide_conversation(*, caller: Caller, session_id: uuid.UUID, seconds: int) -> Hidden:
    """Delete a conversation in so many seconds; until then nobody finds it. Raises ``NotFound``."""
    conversation = get_conversation(caller=caller, session_id=session_id, action=Action.DELETE)
    until = timezone.now() + timedelta(seconds=seconds)
    ended = expiry.hide(conversation.pk, until)
    tell_change(conversation)
    return Hidden(until, ended)


def restore_conversation(*, caller: Caller, session_id: uuid.UUID) -> Conversation:
    """Bring a deleted conversation back, in time; raises ``NotFound``."""
    authorize(caller, Action.CHANGE)
    conversation = expiry.hidden(caller).filter(session_id=session_id).first()
    if conversation is None:
        raise NotFound()
    expiry.restore(conversation)
    tell_change(conversation)
    return conversation

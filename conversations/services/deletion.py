"""Conversations and branches are deleted with all that is in them, whatever happens meanwhile; an answer that runs is
ended.

Whoever begins an answer locks the conversation first, and before it the account's row (or meets that at its commit):
so once we have the lock nothing is added any more, and what waited for it finds nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller
from ..database import db
from ..database.transactions import replayed
from ..engine import engines
from ..engine.hints import Subject
from ..engine.storage import STOPPED_ENDING, finish
from ..exceptions import InvalidRequest, NotAuthenticated, NotFound
from ..limits import relays
from ..models import Conversation, Generation, Message
from . import branches

# Messages that one statement deletes, from the newest on: their children, for which Django would look level by level,
# are gone by then.
TOGETHER = 200


class Ended(NamedTuple):
    """An answer that was being made in a deleted conversation, and the worker that is to be told."""

    generation_id: uuid.UUID
    worker_id: uuid.UUID | None


@replayed
def delete_whole(conversation_id: int) -> list[Ended]:
    """Delete a conversation; return the answers that were being made in it. Raises ``NotFound``."""
    # An answer that ends locks its own row before the conversation's. So do we, or each would wait for the other;
    # only one that begins right now comes after.
    ended = end_answers(conversation_id)
    lock(conversation_id)
    ended += end_answers(conversation_id)
    Conversation.objects.filter(pk=conversation_id).delete()
    return ended


def lock(conversation_id: int) -> None:
    """Wait until nobody begins an answer in a conversation, and let nobody begin one; raises ``NotFound``."""
    if not Conversation.objects.select_for_update().filter(pk=conversation_id).values_list("pk").first():
        raise NotFound()


def end_answers(conversation_id: int, among: Collection[int] | None = None) -> list[Ended]:
    """End what is being made in a conversation; only one of those messages, where they are given."""
    running = list(Generation.objects.filter(active_for=conversation_id).values_list("pk", "worker", "message_id"))
    return [
        Ended(key, worker_id)
        for key, worker_id, message_id in running
        if (among is None or message_id in among) and finish(key, STOPPED_ENDING)
    ]


def end_with_job(conversation_id: int) -> None:
    """End what is being made in a conversation, in this job's transaction; who makes it is told once that commits."""
    if ended := end_answers(conversation_id):
        loop = db.calling_loop.get()
        transaction.on_commit(lambda: loop.call_soon_threadsafe(engines.of(loop).tell_of_ends, ended))


class Deleted(NamedTuple):
    """A message that was deleted with all below it."""

    session_id: uuid.UUID
    message_id: int
    active_leaf_id: int | None
    ended: list[Ended]


def running_below(*, caller: Caller, message_id: int) -> uuid.UUID | None:
    """Return the answer that is being made at or below a message, to be stopped before that is deleted."""
    conversation = branches.get_message(caller=caller, message_id=message_id, action=Action.DELETE).conversation
    running = Generation.objects.filter(active_for=conversation).values_list("message_id", "pk").first()
    return running[1] if running and running[0] in branches.below(conversation, message_id) else None


@replayed
def delete_message(*, caller: Caller, message_id: int, at_most: int | None = None) -> Deleted:
    """Delete a message and all below it; raises ``NotFound``, and ``InvalidRequest`` for more than ``at_most``.

    If the branch that is shown goes with it, the nearest sibling's takes its place, else what is above.
    """
    message = branches.get_message(caller=caller, message_id=message_id, action=Action.DELETE)
    conversation = message.conversation
    # In the order of `delete_whole`.
    ended = end_answers(conversation.pk, branches.below(conversation, message_id))
    locked = Conversation.objects.select_for_update().filter(pk=conversation.pk)
    leaf_id = locked.values_list("active_leaf_id", flat=True).first()
    gone = branches.below(conversation, message_id)
    if not gone:
        raise NotFound()
    if at_most is not None and len(gone) > at_most:
        raise InvalidRequest(_("Something was said after this: delete that first."))
    ended += end_answers(conversation.pk, gone)
    if leaf_id is None or leaf_id in gone:
        shown = branches.shown_without(conversation, message)
        locked.update(**shown._asdict(), changed_at=timezone.now())
        leaf_id = shown.active_leaf_id
    else:
        locked.update(changed_at=timezone.now())
    engines.tell_change(Subject(conversation.user_identifier, conversation.pk))
    for end in range(len(gone), 0, -TOGETHER):
        Message.objects.filter(pk__in=gone[max(0, end - TOGETHER) : end]).delete()
    return Deleted(conversation.session_id, message_id, leaf_id, ended)


def delete_all(conversation_ids: Iterable[int]) -> None:
    """Delete many, each in a transaction of its own; one that is gone already is no error."""
    for conversation_id in conversation_ids:
        with suppress(NotFound):
            delete_whole(conversation_id)


@receiver(pre_delete, sender=get_user_model(), dispatch_uid="conversations.services.deletion")
def _empty_account(instance: Any, using: str, **_kwargs: Any) -> None:
    """Before an account goes, by whatever deletes it: what began since Django looked for what hangs on it goes too."""
    accounts = get_user_model()._default_manager.using(using).select_for_update()
    if accounts.filter(pk=instance.pk).values_list("pk").first():
        relays.end_of(instance.pk)  # first: whoever settles one holds its row, and then wants budgets
        delete_all(list(Conversation.objects.filter(owner=instance.pk).order_by("pk").values_list("pk", flat=True)))


@contextmanager
def while_account_lasts(caller: Caller) -> Iterator[None]:
    """Turn what the database refuses because ``caller``'s account was deleted meanwhile into ``NotAuthenticated``.

    Within a transaction nothing can be asked after a refusal: whoever began that does so, around it.
    """
    try:
        yield
    except IntegrityError as error:
        if connection.in_atomic_block:
            raise
        if caller.user is None or get_user_model()._default_manager.filter(pk=caller.user.pk).exists():
            raise
        raise NotAuthenticated() from error

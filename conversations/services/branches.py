"""A conversation is a tree, of which only parents and the end of the branch that is shown are stored.

A branch is read by one recursive query for each thousand messages, what is below a message by one look at the ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from ..access.rules import Action, Caller, authorize
from ..exceptions import InvalidCursor, InvalidRequest, NotFound
from ..models import Attachment, Conversation, Message
from ..models.parts import image_ids
from ..models.querysets import MOST_LEVELS, MOST_SIBLINGS
from . import cursors

CURSORS = "messages"
# Who reads a branch only as far as it fits somewhere begins with so many messages.
FIRST_LEVELS = 100
# What a message tells of an image that it shows.
IMAGE_FIELDS = ("content_type", "width", "height")


class _Place(Enum):
    ACTIVE_LEAF = "active leaf"


# Instead of a message's id or None, the root: where a conversation goes on if nobody says where.
ACTIVE_LEAF: Final = _Place.ACTIVE_LEAF
Parent = int | None | Literal[_Place.ACTIVE_LEAF]


class Shown(NamedTuple):
    """The branch that is shown: its last message, and how many there are."""

    active_leaf_id: int | None
    message_count: int


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages, oldest first, with their ``sibling_ids``.

    ``next_cursor`` is where newer ones follow in the list of all, ``before_leaf`` ends what is above in a branch.
    """

    messages: list[Message]
    next_cursor: str | None = None
    before_leaf: int | None = None


def branch(leaf_id: int | None, conversation: Conversation) -> Iterator[Message]:
    """Yield the messages from ``leaf_id`` up to the first one: newest first, read no further than asked."""
    levels = FIRST_LEVELS
    while leaf_id is not None:
        page = list(conversation.messages.upwards(leaf_id, levels).select_related("generation", "feedback"))
        yield from page
        leaf_id = page[-1].parent_id if page else None
        levels = MOST_LEVELS


def branch_ids(leaf_id: int | None, conversation: Conversation) -> list[int]:
    """Return the ids of a branch, newest first."""
    found: list[int] = []
    while leaf_id is not None:
        page = list(conversation.messages.upwards(leaf_id, MOST_LEVELS).values_list("pk", "parent_id"))
        found += [pk for pk, _parent_id in page]
        leaf_id = page[-1][1] if page else None
    return found


def length(leaf_id: int | None, conversation: Conversation) -> int:
    """Return how many messages a branch has."""
    return len(branch_ids(leaf_id, conversation))


def history(conversation: Conversation) -> list[Message]:
    """Return the branch that is shown, oldest first."""
    messages: list[Message] = []
    leaf_id = conversation.active_leaf_id
    while leaf_id is not None:
        page = _upwards(conversation, leaf_id, MOST_LEVELS)
        messages += page
        leaf_id = page[-1].parent_id if page else None
    return messages[::-1]


def list_messages(
    *, conversation: Conversation, leaf_id: int | None = None, cursor: str | None = None, limit: int = 100
) -> MessagePage:
    """Return a page of all messages, oldest first; with ``leaf_id`` the newest of the branch that ends there.

    Raises ``InvalidCursor``, and ``NotFound`` where that message is not in the conversation.
    """
    if leaf_id is not None:
        messages = _upwards(conversation, leaf_id, limit)
        if not messages:
            raise NotFound()
        return MessagePage(messages[::-1], before_leaf=messages[-1].parent_id)
    after = _place_in(conversation, cursor) if cursor else 0
    ids = list(conversation.messages.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[: limit + 1])
    shown = ids[:limit]
    if not shown:
        return MessagePage([])
    rows = conversation.messages.filter(pk__gte=shown[0], pk__lte=shown[-1]).order_by("pk")
    following = cursors.encode(CURSORS, conversation.pk, shown[-1]) if len(ids) > limit else None
    beside = conversation.messages.filter(parent__in=rows.order_by().values("parent"))
    return MessagePage(_loaded(conversation, rows, beside), following)


def _place_in(conversation: Conversation, cursor: str) -> int:
    whose, pk = cursors.decode(CURSORS, cursor, 2)
    if whose != conversation.pk:
        raise InvalidCursor()
    return pk


def _upwards(conversation: Conversation, leaf_id: int, levels: int) -> list[Message]:
    messages = conversation.messages
    return _loaded(conversation, messages.upwards(leaf_id, levels), messages.beside(leaf_id, levels))


def _loaded(conversation: Conversation, shown: QuerySet[Message], beside: QuerySet[Message]) -> list[Message]:
    """Return messages with their generations and siblings: two queries, and one more where they show images."""
    messages = list(shown.select_related("generation", "feedback"))
    children: defaultdict[int | None, list[int]] = defaultdict(list)
    rows = beside.values_list("parent_id", "pk")
    if any(message.parent_id is None for message in messages):
        rows = rows.union(conversation.messages.filter(parent=None).values_list("parent_id", "pk"), all=True)
    for parent_id, pk in rows:
        children[parent_id].append(pk)
    for ids in children.values():
        ids.sort()
    for message in messages:
        message.sibling_ids = _nearest(children[message.parent_id], message.pk)
    _add_images(messages)
    return messages


def _add_images(messages: Iterable[Message]) -> None:
    """Let messages know of what type and size the images are that they show."""
    shown = {message.pk: image_ids(message) for message in messages}
    wanted = {image_id for ids in shown.values() for image_id in ids}
    rows = Attachment.objects.filter(pk__in=wanted).values_list("pk", *IMAGE_FIELDS) if wanted else ()
    known = {str(pk): dict(zip(IMAGE_FIELDS, fields, strict=True)) for pk, *fields in rows}
    for message in messages:
        message.images = {image_id: known[image_id] for image_id in shown[message.pk] if image_id in known}


def _nearest(siblings: list[int], pk: int) -> list[int]:
    """Return a message among those beside it: itself in any case, though it may be gone since it was read."""
    place = bisect_left(siblings, pk)
    newer = siblings[place + 1 if siblings[place : place + 1] == [pk] else place :][:MOST_SIBLINGS]
    return [*siblings[max(0, place - MOST_SIBLINGS) : place], pk, *newer]


def below(conversation: Conversation, message_id: int) -> list[int]:
    """Return a message and all below it, oldest first; nothing where it is not in the conversation."""
    rows = conversation.messages.filter(pk__gte=message_id).order_by("pk").values_list("pk", "parent_id")
    found: dict[int, None] = {}
    for pk, parent_id in rows:  # two numbers each; a server-side cursor would not outlive a pooler's transaction
        if pk == message_id or parent_id in found:
            found[pk] = None
    return list(found)


def shown_through(conversation: Conversation, message_id: int) -> Shown:
    """Return the branch through a message to the newest one below it; raises ``NotFound``."""
    found = below(conversation, message_id)
    if not found:
        raise NotFound()
    return shown_to(conversation, found[-1])


def shown_to(conversation: Conversation, leaf_id: int | None) -> Shown:
    """Return the branch that ends in a message."""
    return Shown(leaf_id, length(leaf_id, conversation))


def shown_without(conversation: Conversation, message: Message) -> Shown:
    """Return the branch to show once a message and all below it are gone: the nearest sibling's, or what is above."""
    siblings = conversation.messages.filter(parent=message.parent_id).exclude(pk=message.pk)
    older = siblings.filter(pk__lt=message.pk).order_by("-pk").values_list("pk", flat=True).first()
    nearest = older or siblings.order_by("pk").values_list("pk", flat=True).first()
    return shown_to(conversation, message.parent_id) if nearest is None else shown_through(conversation, nearest)


def go_on_from(conversation: Conversation, parent: Parent) -> None:
    """Let a conversation, which is locked and not being answered, go on from elsewhere than what is shown ends.

    Raises ``NotFound``, and ``InvalidRequest`` for a user's message, unless it is that end.
    """
    if parent is ACTIVE_LEAF or parent == conversation.active_leaf_id:
        return
    if parent is not None:
        role = conversation.messages.filter(pk=parent).values_list("role", flat=True).first()
        if role is None:
            raise NotFound()
        if role != Message.Role.ASSISTANT:
            raise InvalidRequest(errors={"parent_id": [_("Name an answer, or null: this is a user's message.")]})
    conversation.active_leaf_id, conversation.message_count = shown_to(conversation, parent)


def go_on_beside(conversation: Conversation, message_id: int) -> None:
    """Let a conversation, as above, go on where a message does, whatever is before that; raises ``NotFound``."""
    found = conversation.messages.filter(pk=message_id).values_list("parent_id").first()
    if found is None:
        raise NotFound()
    conversation.active_leaf_id, conversation.message_count = shown_to(conversation, found[0])


def get_message(*, caller: Caller, message_id: int, action: Action) -> Message:
    """Return a message that ``caller`` may do that with, and its conversation; raises ``NotFound``."""
    message = Message.objects.for_owner(caller).select_related("conversation").filter(pk=message_id).first()
    if message is None:
        raise NotFound()
    authorize(caller, action, message.conversation)
    return message

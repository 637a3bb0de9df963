"""What is new in somebody's conversations, as the database says: compared with what was seen before."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, QuerySet
from django.utils import timezone

from ..models import Conversation, Generation

# Conversations of one owner that are compared: the newest ones. Of others it is told that something is new.
MOST_KNOWN = 2_000
# Clocks of several machines differ, and what is committed later may have been changed earlier.
OVERLAP = timedelta(seconds=10)
# No query names more values.
MOST_AT_ONCE = 200


class State(NamedTuple):
    """What is told apart of a conversation."""

    session_id: uuid.UUID
    user_identifier: str
    changed_at: datetime | None
    updated_at: datetime
    title: str
    title_source: str
    active_leaf_id: int | None
    generation_id: uuid.UUID | None
    message_id: int | None


_FIELDS = (
    "session_id",
    "user_identifier",
    "changed_at",
    "updated_at",
    "title",
    "title_source",
    "active_leaf_id",
    "active_generation",
    "active_generation__message_id",
)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is new. ``what`` is a `conversation` or a `reply`, ``change`` a word of the contract."""

    what: str
    change: str
    session_id: uuid.UUID
    # Of a reply.
    generation_id: uuid.UUID | None = None
    message_id: int | None = None
    status: str = ""


@dataclass(slots=True)
class Known:
    """What was seen of one owner's conversations (None: of everybody's)."""

    owner: str | None
    states: dict[int, State]
    began_at: datetime
    since: datetime


@dataclass(slots=True)
class News:
    """What a look brought: the changes, and the conversations that are to be shown with them."""

    changes: list[Change]
    shown: dict[uuid.UUID, Conversation]
    # Whether more is new than is told.
    is_cut: bool = False


def begin(owner: str | None) -> Known:
    """Look at an owner's conversations for the first time."""
    now = timezone.now()
    rows = _rows_of(owner).newest_activity_first()[:MOST_KNOWN]
    # The newest last: those that are forgotten first stand first.
    states = dict(reversed(_states(rows).items()))
    return Known(owner, states, began_at=now, since=now)


def look(known: Known, ids: Collection[int], *, at_all: bool) -> News:
    """Compare some conversations, or with ``at_all`` those that changed of late, with what was seen of them."""
    now = timezone.now()
    wanted = set(ids)
    if at_all:
        since = max(known.began_at, known.since - OVERLAP)
        found = _rows_of(known.owner).filter(changed_at__gte=since).values_list("pk", flat=True)
        wanted.update(found[: MOST_KNOWN + 1])
        # An end that did not get hold of its conversation's row changed nothing there.
        wanted.update(pk for pk, state in known.states.items() if state.generation_id)
        rows = _rows_of(known.owner).aggregate(rows=Count("pk"))["rows"]
        if rows < len(known.states.keys() | wanted) or rows > MOST_KNOWN:
            wanted.update(_gone(known))
    if len(wanted) > MOST_KNOWN:
        fresh = begin(known.owner)
        known.states, known.began_at, known.since = fresh.states, fresh.began_at, fresh.since
        return News([], {}, is_cut=True)
    news = _compared(known, wanted)
    if at_all:
        known.since = now
    return news


def _compared(known: Known, wanted: Iterable[int]) -> News:
    """Return what is new in some conversations; it is known from then on, and not before all was read."""
    pairs = [(pk, known.states.get(pk)) for pk in wanted]
    rows: dict[int, State] = {}
    for some in _portions([pk for pk, _before in pairs]):
        rows |= _states(_rows_of(known.owner).filter(pk__in=some))
    different = [(pk, before, rows.get(pk)) for pk, before in pairs if before != rows.get(pk)]
    ended = _ended(before.generation_id for _pk, before, _now in different if before and before.generation_id)
    quick = _quick(known, different)
    changes = [change for _pk, before, now in different for change in _changes(before, now, ended, quick)]
    news = News(changes, _shown(changes))
    for pk, _before, now in different:
        known.states.pop(pk, None)
        if now is not None:
            known.states[pk] = now
    while len(known.states) > MOST_KNOWN:
        del known.states[next(iter(known.states))]
    return news


def _changes(
    before: State | None,
    now: State | None,
    ended: Mapping[uuid.UUID, tuple[int, str]],
    quick: Mapping[int, tuple[uuid.UUID, str]],
) -> Iterator[Change]:
    if now is None:
        if before:
            yield Change("conversation", "deleted", before.session_id)
        return
    yield Change("conversation", _how_it_changed(before, now), now.session_id)
    old = before.generation_id if before else None
    if old != now.generation_id:
        if old and old in ended:
            message_id, status = ended[old]
            yield Change("reply", "ended", now.session_id, old, message_id, status)
        if now.generation_id:
            yield Change("reply", "started", now.session_id, now.generation_id, now.message_id)
    leaf_id = now.active_leaf_id or 0
    generation_id, status = quick.get(leaf_id, (old, ""))
    if generation_id != old:
        yield Change("reply", "started", now.session_id, generation_id, leaf_id)
        yield Change("reply", "ended", now.session_id, generation_id, leaf_id, status)


def _how_it_changed(before: State | None, now: State) -> str:
    if before is None:
        return "created"
    if before.title != now.title and now.title_source == Conversation.TitleSource.MODEL:
        return "titled"
    if before.active_leaf_id != now.active_leaf_id and before.updated_at == now.updated_at:
        return "selected"  # what is said is an activity, and so is an answer
    return "changed"


def _rows_of(owner: str | None) -> Any:
    rows = Conversation.objects.listed()
    return rows if owner is None else rows.filter(user_identifier=owner)


def _states(rows: QuerySet[Conversation]) -> dict[int, State]:
    return {pk: State(*values) for pk, *values in rows.values_list("pk", *_FIELDS)}


def _gone(known: Known) -> set[int]:
    """Return those of the known conversations that are not there any more."""
    there: set[int] = set()
    for some in _portions(known.states):
        there.update(_rows_of(known.owner).filter(pk__in=some).values_list("pk", flat=True))
    return known.states.keys() - there


def _ended(generation_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[int, str]]:
    found: dict[uuid.UUID, tuple[int, str]] = {}
    for some in _portions(list(generation_ids)):
        rows = Generation.objects.filter(pk__in=some).exclude(status=Generation.Status.RUNNING)
        found |= {pk: (message_id, status) for pk, message_id, status in rows.values_list("pk", "message", "status")}
    return found


def _quick(
    known: Known, different: Iterable[tuple[int, State | None, State | None]]
) -> dict[int, tuple[uuid.UUID, str]]:
    """Return by message the answers that began and ended between two looks."""
    since = {
        now.active_leaf_id: before.updated_at if before else known.began_at
        for _pk, before, now in different
        if now and not now.generation_id and (before is None or before.updated_at != now.updated_at)
    }
    found: dict[int, tuple[uuid.UUID, str]] = {}
    for some in _portions([leaf_id for leaf_id in since if leaf_id]):
        rows = Generation.objects.filter(message__in=some).exclude(status=Generation.Status.RUNNING)
        for message_id, pk, status, created_at in rows.values_list("message", "pk", "status", "created_at"):
            if created_at >= since[message_id]:
                found[message_id] = pk, status
    return found


def _shown(changes: Iterable[Change]) -> dict[uuid.UUID, Conversation]:
    wanted = {change.session_id for change in changes if change.what == "conversation" and change.change != "deleted"}
    found: dict[uuid.UUID, Conversation] = {}
    for some in _portions(wanted):
        found |= {row.session_id: row for row in Conversation.objects.filter(session_id__in=some)}
    return found


def _portions(values: Iterable[Any]) -> Iterator[list[Any]]:
    every = list(values)
    return (every[begin : begin + MOST_AT_ONCE] for begin in range(0, len(every), MOST_AT_ONCE))

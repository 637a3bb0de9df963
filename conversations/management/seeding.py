"""Made-up conversations in any number, to see how a deployment does at that size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from ..models import Conversation, Generation, Message
from ..services import searching

BATCH = 1_000
# An UPDATE of many rows has two values for each, and databases bound how many there may be.
UPDATE_BATCH = 250
WORDS = (
    *("answer", "apple", "autumn", "bridge", "coffee", "colour", "dinner", "evening", "garden", "harbour", "island"),
    *("journey", "kitchen", "letter", "market", "morning", "mountain", "number", "office", "paper", "picture"),
    *("question", "river", "school", "season", "station", "story", "summer", "table", "theatre", "travel", "village"),
    *("你好", "天气", "旅行", "学习", "音乐", "城市", "早上", "晚饭", "问题", "故事"),
)
MODEL = "seeded"


def seed(
    *, conversations: int, messages: int, owners: list[tuple[str, int | None]], tell: Callable[[int], None]
) -> None:
    """Store ``conversations`` with ``messages`` in all, spread evenly over ``owners`` (identifier, account's id).

    Questions and answers alternate; an odd one out is a question without an answer. Times lie in the year before
    now, so that lists have an order. ``tell`` gets how many conversations there are so far. Each batch is one
    transaction. Nothing else may write messages meanwhile: their ids are given here, so that parents are known.
    """
    chance = random.Random(conversations * 31 + messages)  # noqa: S311  (the same data each time; no secret)
    next_id = (Message.objects.aggregate(highest=Max("pk"))["highest"] or 0) + 1
    sizes = _sizes(conversations, messages)
    now = timezone.now()
    for first in range(0, conversations, BATCH):
        count = min(BATCH, conversations - first)
        with transaction.atomic():
            rows = [
                _conversation(chance, owner, size, now, (first + index) / max(conversations, 1))
                for index, (owner, size) in enumerate(zip(_owners_in_turn(owners, first, count), sizes, strict=False))
            ]
            Conversation.objects.bulk_create(rows)
            next_id = _fill(chance, rows, next_id)
        tell(first + count)
    _reset_sequence()


def _sizes(conversations: int, messages: int) -> Iterator[int]:
    """Yield how many messages each conversation gets: all equal, but for the remainder."""
    each, more = divmod(messages, max(conversations, 1))
    return (each + (index < more) for index in range(conversations))


def _owners_in_turn(owners: list[tuple[str, int | None]], first: int, count: int) -> Iterator[tuple[str, int | None]]:
    return itertools.islice(itertools.cycle(owners), first % len(owners), first % len(owners) + count)


def _conversation(
    chance: random.Random, owner: tuple[str, int | None], size: int, now: datetime, age: float
) -> Conversation:
    identifier, account = owner
    active = now - timedelta(days=365 * (1 - age))
    return Conversation(
        user_identifier=identifier,
        owner_id=account,
        title=_text(chance, 4),
        title_source=Conversation.TitleSource.FIRST_WORDS,
        message_count=size,
        created_at=active,
        updated_at=active,
    )


def _fill(chance: random.Random, rows: list[Conversation], next_id: int) -> int:
    messages: list[Message] = []
    generations: list[Generation] = []
    # Not every database gives the ids of what it inserted: they are found again by what is unique.
    found = dict(
        Conversation.objects.filter(session_id__in=[row.session_id for row in rows]).values_list("session_id", "pk")
    )
    for row in rows:
        row.pk = found[row.session_id]
        for index in range(row.message_count):
            is_answer = index % 2 == 1
            message = Message(
                pk=next_id,
                conversation_id=row.pk,
                parent_id=next_id - 1 if index else None,
                role=Message.Role.ASSISTANT if is_answer else Message.Role.USER,
                content=_text(chance, 60 if is_answer else 12),
                model=MODEL if is_answer else "",
                created_at=row.created_at,
            )
            messages.append(message)
            if is_answer:
                generations.append(_generation(row, message))
            row.active_leaf_id = next_id
            next_id += 1
    Message.objects.bulk_create(messages, batch_size=BATCH)
    Generation.objects.bulk_create(generations, batch_size=BATCH)
    searching.add(messages)
    Conversation.objects.bulk_update(rows, ["active_leaf"], batch_size=UPDATE_BATCH)
    return next_id


def _generation(row: Conversation, message: Message) -> Generation:
    return Generation(
        message_id=message.pk,
        owner_id=row.owner_id,
        user_identifier=row.user_identifier,
        status=Generation.Status.COMPLETED,
        finish_reason="stop",
        prompt_tokens=20,
        completion_tokens=80,
        total_tokens=100,
        created_at=row.created_at,
        ended_at=row.created_at,
    )


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def _reset_sequence() -> None:
    """Where ids come from a sequence (PostgreSQL), let it go on after the ids that were given here."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Message]):
            cursor.execute(statement)

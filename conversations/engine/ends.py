"""The end of an answer: one conditional UPDATE wins, and what it ends is folded, settled, counted and found."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from ..database.compiled import Delete, Select, Update, given
from ..limits import budgets, usage
from ..limits.budgets import Outcome
from ..limits.usage import Spender, Spent
from ..models import ERROR_MESSAGE_LENGTH, MODEL_NAME_LENGTH, Conversation, Generation, GenerationChunk, Message
from ..search import index
from ..search.index import Document
from .events import Call, Ending, Folded, Piece, as_reasoning, folded

# No statement names more rows by their keys; and an answer of more rows than that is found by their range.
MOST_KEYS, MOST_KNOWN_KEYS = 128, 1_024

_end_running = Update(
    lambda: Generation.objects.running().filter(pk=given(Generation, "id")),
    lambda: {
        "active_for": None,
        **{
            name: given(Generation, name)
            for name in (
                "status",
                "finish_reason",
                "error_code",
                "error_message",
                "retry_after",
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "reasoning_tokens",
                "first_token_at",
                "reasoning_ended_at",
                "ended_at",
            )
        },
    },
)
_price = Update(
    lambda: Generation.objects.filter(pk=given(Generation, "id")), lambda: {"cost": given(Generation, "cost")}
)
_place_of = Select(
    lambda: Generation.objects.filter(pk=given(Generation, "id")).values_list(
        "message_id",
        "message__conversation_id",
        "message__conversation__is_temporary",
        "message__model",
        "log_from",
        *usage.SPENDER_FIELDS,
    )
)
_chunks_of = Select(lambda: given_chunks().values_list("position", "kind", "text", "call"))
_fill = Update(
    lambda: Message.objects.filter(pk=given(Message, "id")),
    lambda: {name: given(Message, name) for name in ("reasoning", "content", "model")},
)
_fill_parts = Update(
    lambda: Message.objects.filter(pk=given(Message, "id")),
    lambda: {name: given(Message, name) for name in ("arguments", "parts")},
)
_delete_chunks = Delete(lambda: given_chunks().order_by())
_free_conversation = Select(
    lambda: (
        Conversation.objects.filter(pk=given(Conversation, "id"))
        .select_for_update(
            skip_locked=connection.features.has_select_for_update_skip_locked,
            no_key=connection.features.has_select_for_no_key_update,
        )
        .values_list("pk", flat=True)
    )
)
_touch_conversation = Update(
    lambda: Conversation.objects.filter(pk=given(Conversation, "id")),
    lambda: {name: given(Conversation, name) for name in ("updated_at", "changed_at")},
)


def given_chunks() -> QuerySet[GenerationChunk]:
    """The rows of an answer, which runs of a statement give, whoever wrote them."""
    return GenerationChunk.objects.of(given(GenerationChunk, "generation"), given(Generation, "log_from"))


@cache
def _delete_keys(number: int) -> Delete:
    """Delete so many rows, whose keys are known."""
    keys = [given(GenerationChunk, "id", f"id_{index}") for index in range(number)]
    return Delete(lambda: GenerationChunk.objects.filter(pk__in=keys))


@dataclass(slots=True)
class Entry:
    """What one answer adds to a batch: text, and its ending if it ends here.

    The rows of its pieces have the keys from ``first_key`` on. ``before`` is the text that is stored already, in the
    rows of ``keys_before``, where whoever makes the entry knows. ``reasoning_up_to`` is how many characters, from the
    beginning, are to be reasoning though they may be stored as the answer's.
    """

    generation_id: uuid.UUID
    pieces: list[Piece]
    first_key: int = 0
    ending: Ending | None = None
    first_token_at: datetime | None = None
    reasoning_ended_at: datetime | None = None
    before: list[Piece] | None = None
    keys_before: Sequence[int] = ()
    reasoning_up_to: int = 0


class _Place(NamedTuple):
    """Where an answer belongs, and who pays for it."""

    message_id: int
    conversation_id: int
    is_temporary: bool
    model: str
    log_from: int
    spender: Spender


class _Counts(NamedTuple):
    """What an upstream counted, as far as it did."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    reasoning_tokens: int | None = None

    @classmethod
    def of(cls, ending: Ending) -> _Counts:
        told = ending.usage or {}
        return cls(**{name: int(told[name]) for name in cls._fields if name in told})


class _Ended(NamedTuple):
    """An answer that ended here: what it cost, what was used, and what is to be found."""

    outcome: Outcome
    spent: Spent
    document: Document | None


def end_answers(entries: Iterable[Entry]) -> set[uuid.UUID]:
    """End those of the answers that still run, and settle what they cost; return which those were."""
    ends: list[_Ended] = []
    keys: list[int] = []
    for entry in entries:
        if end := _end_one(entry):
            ends.append(end)
            if _knows_its_rows(entry):
                keys += entry.keys_before
    if ends:
        budgets.settle([end.outcome for end in ends])
        usage.record([end.spent for end in ends], budgets.today())
        index.current().add([end.document for end in ends if end.document])
    _delete(keys)
    return {end.outcome.generation_id for end in ends}


def _knows_its_rows(entry: Entry) -> bool:
    return entry.before is not None and len(entry.keys_before) <= MOST_KNOWN_KEYS


def _delete(keys: Sequence[int]) -> None:
    for begin in range(0, len(keys), MOST_KEYS):
        some = keys[begin : begin + MOST_KEYS]
        places = places_for(len(some))
        _delete_keys(places).run(**{f"id_{index}": some[min(index, len(some) - 1)] for index in range(places)})


def places_for(number: int) -> int:
    """Return the next power of two: few statements do for any number of values, of which the last is repeated."""
    return 1 << (number - 1).bit_length()


def _end_one(entry: Entry) -> _Ended | None:
    ending = entry.ending
    assert ending is not None
    counts = _Counts.of(ending)
    won = _end_running.run(
        id=entry.generation_id,
        status=ending.status,
        finish_reason=ending.finish_reason,
        error_code=ending.error_code,
        error_message=ending.error_message[:ERROR_MESSAGE_LENGTH],
        retry_after=ending.retry_after,
        **counts._asdict(),
        first_token_at=entry.first_token_at,
        reasoning_ended_at=entry.reasoning_ended_at,
        ended_at=timezone.now(),
    )
    if not won:
        return None
    place = _found_place(entry.generation_id)  # now: until here it could become another's
    assert place is not None, "the row was just updated"
    if (cost := place.spender.cost(counts.prompt_tokens, counts.completion_tokens)) is not None:
        _price.run(id=entry.generation_id, cost=cost)
    said = _fold(entry, place, ending.model)
    return _Ended(
        Outcome(entry.generation_id, ending.status, counts.total_tokens, said.text),
        usage.spent(
            place.spender,
            status=ending.status,
            text=said.text,
            prompt_tokens=counts.prompt_tokens,
            completion_tokens=counts.completion_tokens,
            reasoning_tokens=counts.reasoning_tokens,
        ),
        Document(place.message_id, place.conversation_id, said.content)
        if said.content and not place.is_temporary
        else None,
    )


def _found_place(generation_id: uuid.UUID) -> _Place | None:
    row = _place_of.first(id=generation_id)
    if row is None:
        return None
    message_id, conversation_id, is_temporary, model, log_from, *spender = row
    return _Place(message_id, conversation_id, is_temporary, model, log_from, Spender(*spender))


def _fold(entry: Entry, place: _Place, model: str) -> Folded:
    """Move an answer's text into its message; return all of it."""
    before = entry.before
    if before is None:
        rows = _chunks_of.all(generation=entry.generation_id, log_from=place.log_from)
        before = [Piece(position, kind, text, Call.of(call)) for position, kind, text, call in rows]
    if before and not _knows_its_rows(entry):
        _delete_chunks.run(generation=entry.generation_id, log_from=place.log_from)
    said = folded([*as_reasoning(before, entry.reasoning_up_to), *entry.pieces])
    name = model[:MODEL_NAME_LENGTH] or place.model
    _fill.run(id=place.message_id, reasoning=said.reasoning, content=said.content, model=name)
    if said.parts is not None:
        _fill_parts.run(id=place.message_id, arguments=said.arguments, parts=said.parts)
    # An end is an activity, but none that a whole batch should wait for where somebody holds the row.
    if not connection.features.has_select_for_update or _free_conversation.first(id=place.conversation_id):
        now = timezone.now()
        _touch_conversation.run(id=place.conversation_id, updated_at=now, changed_at=now)
    return said

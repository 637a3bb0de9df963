"""Keys of the chunk log: ordered within a worker, and no two workers' alike."""

from __future__ import annotations

import pytest
from django.db import connection

from conversations.engine import workers
from conversations.engine.ends import MOST_KNOWN_KEYS, Entry
from conversations.engine.events import Ending, Piece
from conversations.engine.log_keys import NUMBERS, LogKeys
from conversations.engine.progress import Seen, load
from conversations.engine.storage import finish, store
from conversations.engine.workers import Heartbeat
from conversations.models import Generation, GenerationChunk, Message, Worker
from conversations.models.querysets import KEYS_OF_A_WORKER

from .log_rows import running

LARGEST = (1 << 63) - 1


def test_keys_follow_each_other_and_fit_into_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbelow", lambda bound: bound - 1)
    keys = LogKeys()
    first = keys.take(3)
    assert (first, keys.take(1)) == ((NUMBERS - 1) * KEYS_OF_A_WORKER, first + 3)
    assert first + KEYS_OF_A_WORKER <= LARGEST, "the end of its range, which statements compute"


@pytest.mark.django_db
def test_a_number_that_another_worker_has_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [6, 6, 6, 8]
    monkeypatch.setattr("secrets.randbelow", lambda _bound: drawn.pop(0))
    first, second = Heartbeat(), Heartbeat()
    for heartbeat in (first, second, second):
        workers.ensure_registered(heartbeat)
    numbers = Worker.objects.values_list("pk", "log_number")
    assert dict(numbers) == {first.worker_id: 7, second.worker_id: 9}
    assert second.log_keys.next == 9 * KEYS_OF_A_WORKER


def _running(keys: LogKeys) -> Generation:
    return running(log_from=keys.next)


def _add(keys: LogKeys, generation: Generation, position: int, text: str) -> None:
    store([Entry(generation.pk, [Piece(position, "content", text)], keys.take(1))])


@pytest.mark.django_db
def test_a_follower_reads_on_from_the_last_key_of_each_worker() -> None:
    """However the rows of workers and answers are mixed, and whatever was there before the answer began."""
    one, other = LogKeys(), LogKeys()
    before, here, there = _running(one), _running(one), _running(other)
    for keys, generation, position, text in (
        (one, before, 1, "-"),
        (one, here, 1, "a"),
        (other, there, 2, "xy"),
        (one, before, 2, "-"),
        (one, here, 2, "b"),
    ):
        _add(keys, generation, position, text)
    seen = {here.pk: Seen(), there.pk: Seen()}
    found = load(seen)
    texts = {key: [piece.text for piece in progress.pieces] for key, progress in found.items()}
    assert texts == {here.pk: ["a", "b"], there.pk: ["xy"]}
    seen = {key: Seen(progress.pieces[-1].position, progress.key) for key, progress in found.items()}
    _add(one, here, 3, "c")
    found = load(seen)
    assert [piece.text for piece in found[here.pk].pieces] == ["c"]
    assert not found[there.pk].pieces


@pytest.mark.django_db
def test_a_silent_answer_that_is_followed_does_not_make_each_look_read_what_others_say() -> None:
    keys = LogKeys()
    silent, busy = _running(keys), _running(keys)
    _add(keys, silent, 1, "a")
    for position in range(1, 20):
        _add(keys, busy, position, "b")
    found = load({silent.pk: Seen()})[silent.pk]
    assert [piece.text for piece in found.pieces] == ["a"]
    assert found.key == keys.next - 1, "all before it was committed before it"
    assert load({silent.pk: Seen(1, found.key)})[silent.pk].pieces == []
    _add(keys, silent, 2, "c")
    assert [piece.text for piece in load({silent.pk: Seen(1, found.key)})[silent.pk].pieces] == ["c"]


@pytest.mark.django_db
def test_nothing_of_the_log_is_indexed_but_its_keys() -> None:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, GenerationChunk._meta.db_table)
    indexed = [c for c in constraints.values() if c["index"] or c["unique"] or c["foreign_key"]]
    assert [c["columns"] for c in indexed if not c["primary_key"]] == []


@pytest.mark.django_db
@pytest.mark.parametrize("pieces", [1, 127, 128, 129, 300, MOST_KNOWN_KEYS + 1])
def test_an_end_takes_its_own_rows_out_of_the_log_and_no_others(pieces: int) -> None:
    """Whether its keys are known, as in the process that made it, or not, as in any other."""
    keys = LogKeys()
    mine, known, elsewhere = (_running(keys) for _answer in range(3))
    text = [Piece(number, "content", "x") for number in range(1, pieces + 1)]
    of: dict[Generation, list[int]] = {known: [], elsewhere: [], mine: []}
    rows = []
    for piece in text:
        for generation, taken in of.items():
            taken.append(keys.take(1))
            rows.append(GenerationChunk(id=taken[-1], generation=generation, **{**piece._asdict(), "call": ""}))
    GenerationChunk.objects.bulk_create(rows, batch_size=200)
    end = Entry(known.pk, [], ending=Ending("completed"), before=text, keys_before=of[known])
    assert store([end]) == {known.pk}
    assert finish(elsewhere.pk, Ending("interrupted"))
    assert list(GenerationChunk.objects.order_by("pk").values_list("pk", flat=True)) == of[mine]
    for generation in (known, elsewhere):
        assert Message.objects.get(generation=generation).content == "x" * pieces


@pytest.mark.django_db
def test_the_position_of_a_running_answer_is_that_of_its_last_row() -> None:
    keys, others = LogKeys(), LogKeys()
    generation, neighbour = _running(keys), _running(keys)
    _add(keys, generation, 1, "a")
    _add(keys, generation, 3, "bc")
    _add(keys, neighbour, 9, "neighbour")
    _add(others, _running(others), 5, "other")
    assert Generation.objects.with_position().get(pk=generation.pk).position == 3

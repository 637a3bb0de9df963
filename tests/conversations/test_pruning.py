"""Pruning keeps the newest conversations an owner, pinned and running ones beside them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations import services
from conversations.access.rules import Caller
from conversations.engine import pruning
from conversations.models import Conversation, Generation, Message

pytestmark = pytest.mark.django_db

KIM = Caller(user_identifier="kim", sees_all=True)


def make(count: int, owner: str = "kim", **values: Any) -> list[Conversation]:
    """Conversations of one owner, the last one with the newest activity."""
    start = timezone.now() - timedelta(days=count)
    return Conversation.objects.bulk_create(
        Conversation(
            title=f"{number}", user_identifier=owner, **{"updated_at": start + timedelta(minutes=number), **values}
        )
        for number in range(count)
    )


def begin_answer(conversation: Conversation) -> Generation:
    message = Message.objects.create(conversation=conversation, role="assistant")
    return Generation.objects.create(message=message, active_for=conversation, user_identifier="kim")


def titles(owner: str = "kim") -> set[str]:
    return set(Conversation.objects.filter(user_identifier=owner).values_list("title", flat=True))


def test_501_conversations_leave_500_and_anothers_stay() -> None:
    make(501)
    make(501, owner="alex")
    assert pruning.prune_owner(user_identifier="kim", keep=500) == 1
    assert titles() == {f"{number}" for number in range(1, 501)}
    assert len(titles("alex")) == 501


def test_pinned_ones_are_kept_beside_the_newest() -> None:
    conversations = make(5)
    Conversation.objects.filter(pk=conversations[0].pk).update(is_pinned=True)
    assert pruning.prune_owner(user_identifier="kim", keep=2) == 2
    assert titles() == {"0", "3", "4"}


def test_one_that_is_being_answered_stays_until_it_has_ended() -> None:
    conversations = make(5)
    generation = begin_answer(conversations[0])
    assert len(pruning.prunable(user_identifier="kim", keep=2)) == 2
    assert pruning.prune_owner(user_identifier="kim", keep=2) == 2
    assert titles() == {"0", "3", "4"}
    Generation.objects.filter(pk=generation.pk).update(active_for=None, status="completed")
    assert pruning.prune_owner(user_identifier="kim", keep=2) == 1
    assert not Message.objects.exists()


def test_activity_counts_and_not_age() -> None:
    oldest, *_others = make(3)
    Conversation.objects.filter(pk=oldest.pk).update(updated_at=timezone.now())
    pruning.prune_owner(user_identifier="kim", keep=1)
    assert titles() == {"0"}


def test_old_ones_go_even_if_they_are_few() -> None:
    make(3, updated_at=timezone.now() - timedelta(days=40))
    make(1)
    month_ago = timezone.now() - timedelta(days=30)
    assert len(pruning.prunable(user_identifier="kim", keep=500, before=month_ago)) == 3
    assert pruning.prune_owner(user_identifier="kim", keep=500, before=month_ago) == 3


@pytest.mark.parametrize("keep", [0, 1, 7, 8])
def test_so_many_are_kept(keep: int) -> None:
    make(7)
    pruning.prune_owner(user_identifier="kim", keep=keep)
    assert titles() == {f"{number}" for number in range(7)[max(0, 7 - keep) :]}


def test_an_owners_pruning_costs_as_many_queries_for_many_as_for_few() -> None:
    counts = []
    for count in (20, pruning.BATCH):
        conversations = make(count)
        for conversation in conversations:
            conversation.messages.create(role="user", content="hello")
        with CaptureQueriesContext(connection) as queries:
            pruning.prune_owner(user_identifier="kim", keep=10)
        counts.append(len(queries))
        assert Conversation.objects.count() == 10
    # Deletions go in portions of parameters: a few queries for each, never one a row.
    assert counts[1] - counts[0] <= 6
    with CaptureQueriesContext(connection) as queries:
        pruning.prune_owner(user_identifier="kim", keep=10)
    assert len(queries) == 1


def test_more_than_a_batch_is_deleted_whole() -> None:
    make(2 * pruning.BATCH + 3)
    assert pruning.prune_owner(user_identifier="kim", keep=1) == 2 * pruning.BATCH + 2
    assert len(titles()) == 1


def test_creation_prunes_the_owners_own(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 3}
    make(3)
    make(4, owner="alex")
    services.create_conversation(caller=KIM, title="new")
    assert titles() == {"1", "2", "new"}
    assert len(titles("alex")) == 4


def test_nobodys_conversations_are_an_owners_too(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 2}
    make(3, owner="")
    make(3)
    services.create_conversation(caller=Caller(sees_all=True), title="new")
    assert titles("") == {"2", "new"}
    assert len(titles()) == 3


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs to do between the moment at which pruning chooses and the one at which it deletes."""
    jobs: list[Any] = []
    original = pruning.prunable

    def choose(**values: Any) -> list[int]:
        chosen = original(**values)
        for job in jobs:
            job()
        return chosen

    monkeypatch.setattr(pruning, "prunable", choose)
    return jobs


def test_one_that_somebody_begins_to_answer_or_pins_meanwhile_stays(looked_at: list[Any]) -> None:
    answered, pinned, _idle, _newest = make(4)
    looked_at.append(lambda: begin_answer(answered))
    looked_at.append(lambda: Conversation.objects.filter(pk=pinned.pk).update(is_pinned=True))
    assert pruning.prune_owner(user_identifier="kim", keep=1) == 1
    assert titles() == {"0", "1", "3"}


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_prune_at_once_delete_each_once(looked_at: list[Any]) -> None:
    make(30)
    both_chose = threading.Barrier(2, timeout=10)
    looked_at.append(both_chose.wait)
    deleted: list[int] = []

    def prune() -> None:
        deleted.append(pruning.prune_owner(user_identifier="kim", keep=10))
        connection.close()

    threads = [threading.Thread(target=prune) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(deleted) == 20
    assert len(titles()) == 10


def test_owners_are_listed_once() -> None:
    make(2)
    make(2, owner="")
    make(1, owner="alex")
    assert sorted(pruning.owners()) == ["", "alex", "kim"]

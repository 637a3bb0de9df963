"""What is deleted while it is being answered: ended first, then gone, whatever begins meanwhile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction

from conversations import services
from conversations.access.rules import Caller
from conversations.database.transactions import replayed
from conversations.engine import pruning
from conversations.exceptions import NotAuthenticated, NotFound
from conversations.models import Conversation, Generation, GenerationChunk, Message, TokenCharge, Worker
from conversations.services import deletion
from tests.upstream import ScriptedUpstream, answer

from .log_rows import chunk
from .test_credentials import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ANYBODY = Caller(sees_all=True)


def begin(conversation: Conversation) -> Generation:
    """What an answer that begins leaves in the database, in its one transaction."""
    with transaction.atomic():
        Conversation.objects.select_for_update().get(pk=conversation.pk)
        message = Message.objects.create(conversation=conversation, role="assistant")
        generation = Generation.objects.create(message=message, active_for=conversation, owner=conversation.owner)
        chunk(generation, 4, "half")
    return generation


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """Jobs to do between the moment at which a deletion has looked and the one at which it locks."""
    jobs: list[Callable[[], Any]] = []
    original = deletion.end_answers

    def look(conversation_id: int) -> list[deletion.Ended]:
        found = original(conversation_id)
        while jobs:
            jobs.pop()()
        return found

    monkeypatch.setattr(deletion, "end_answers", look)
    return jobs


def test_what_is_deleted_past_the_services_leaves_no_text_in_the_log() -> None:
    """The log has no foreign key that the database or Django would follow."""
    conversation, other = Conversation.objects.create(), Conversation.objects.create()
    begin(conversation)
    left = begin(other)
    Conversation.objects.filter(pk=conversation.pk).delete()
    assert list(GenerationChunk.objects.values_list("generation_id", flat=True)) == [left.pk]


def test_an_answer_that_begins_between_goes_too(meanwhile: list[Callable[[], Any]]) -> None:
    conversation = Conversation.objects.create()
    first = begin(conversation)
    meanwhile.append(lambda: begin(conversation))
    ended = services.delete_conversation(caller=ANYBODY, session_id=conversation.session_id)
    assert first.pk in {answer.generation_id for answer in ended}
    assert len(ended) == 2
    assert not Conversation.objects.exists()
    assert not Generation.objects.exists()


@pytest.mark.parametrize("delete", ["one", "all", "queryset"])
def test_an_account_goes_with_what_began_since_django_looked(delete: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its conversations are looked for before ours is asked."""
    kim = User.objects.create_user("kim")
    begin(Conversation.objects.create(owner=kim, user_identifier=f"user:{kim.pk}"))
    original = deletion.delete_all

    def later(ids: Any) -> None:
        original(ids)
        late = Conversation.objects.create(owner=kim, user_identifier=f"user:{kim.pk}")
        begin(late)
        original([late.pk])

    monkeypatch.setattr(deletion, "delete_all", later)
    if delete == "one":
        kim.delete()
    else:
        User.objects.filter(username="kim").delete()
    assert not User.objects.exists()
    assert not Conversation.objects.exists()
    assert not Generation.objects.exists()
    assert not TokenCharge.objects.exists()


def test_whose_account_is_gone_begins_nothing(settings: Any) -> None:
    kim = User.objects.create_user("kim")
    caller = Caller(user=kim, user_identifier=f"user:{kim.pk}")
    User.objects.filter(pk=kim.pk).delete()
    with pytest.raises(NotAuthenticated):
        services.create_conversation(caller=caller)
    assert not Conversation.objects.exists()


def test_a_conversation_that_is_gone_is_not_changed() -> None:
    conversation = Conversation.objects.create()
    Conversation.objects.all().delete()
    with pytest.raises(NotFound):
        services.conversations._update(conversation, {"title": "new"}, None)


def test_many_at_once_of_which_some_are_gone() -> None:
    conversations = [Conversation.objects.create() for _ in range(3)]
    begin(conversations[0])
    conversations[1].delete()
    deletion.delete_all([item.pk or 0 for item in conversations])
    assert not Conversation.objects.exists()


def test_a_locked_conversation_holds_up_no_pruning() -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("this database has no rows to lock")
    conversations = [Conversation.objects.create(user_identifier="kim") for _ in range(4)]
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Conversation.objects.select_for_update().get(pk=conversations[0].pk)
            held.set()
            over.wait(30)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(10)
        assert pruning.prune_owner(user_identifier="kim", keep=1) == 2
    finally:
        over.set()
        thread.join(10)


@pytest.mark.parametrize("code", [1213, 1020])
def test_a_transaction_is_tried_again_where_the_database_asks_for_that(code: int) -> None:
    tries: list[uuid.UUID] = []

    @replayed
    def job() -> int:
        tries.append(Worker.objects.create(host="here", pid=len(tries)).pk)
        if len(tries) < 3:
            raise OperationalError(code, "try restarting transaction")
        return len(tries)

    assert job() == 3
    assert [worker.pk for worker in Worker.objects.all()] == tries[-1:]


def test_it_is_not_tried_for_ever_nor_for_a_lock_nor_as_part_of_a_larger_one() -> None:
    tries: list[int] = []

    @replayed
    def job(code: int) -> None:
        tries.append(code)
        raise OperationalError(code, "no")

    for code in (1213, 1205):
        with pytest.raises(OperationalError):
            job(code)
    with pytest.raises(OperationalError), transaction.atomic():
        job(1213)
    assert tries.count(1205) == 1
    assert tries[-1] == 1213
    assert 2 < tries.count(1213) < 20


def test_deletion_while_a_chat_begins_over_http(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Many tries, each at another moment: never an error of ours, and never anything left."""
    model.default = answer("one ", "two ", "three", delay=0.02)  # type: ignore[assignment]
    statuses: set[int] = set()
    for number in range(12):
        session_id = client.post("/conversations").json()["session_id"]
        chat = threading.Thread(target=_chat, args=(client, session_id, statuses))
        chat.start()
        threading.Event().wait(number * 0.002)
        assert client.delete(f"/conversations/{session_id}").status_code == 200
        chat.join(30)
        assert client.get(f"/conversations/{session_id}").status_code == 404
    assert statuses <= {200, 404, 409}
    eventually(lambda: not Generation.objects.exists())


def _chat(client: httpx.Client, session_id: str, statuses: set[int]) -> None:
    with client.stream("POST", "/chat", json={"session_id": session_id, "message": "hi"}) as response:
        response.read()
        statuses.add(response.status_code)
        if response.status_code == 200:
            assert '"done": true' in response.text

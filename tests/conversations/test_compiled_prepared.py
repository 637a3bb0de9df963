"""PostgreSQL keeps compiled statements prepared; behind a pooler, or where they are lost, all goes on without."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import DataError, connection
from django.db.models import Value

from conversations.database.compiled import Count, Insert, Select, Update, given, prepared
from conversations.database.transactions import replayed
from conversations.models import Conversation, Message

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL prepares"),
]

_titles = Select(
    lambda: (
        Conversation.objects.filter(user_identifier=given(Conversation, "user_identifier"))
        .order_by("pk")
        .values_list("title", flat=True)
    )
)
_number = Count(lambda: Conversation.objects.filter(message_count=given(Conversation, "message_count")))
_create = Insert(Conversation)


@pytest.fixture(autouse=True)
def new_connection() -> Iterator[None]:
    """Each test has a connection of its own."""
    connection.close()
    yield
    connection.close()


@pytest.fixture
def conversation() -> Conversation:
    kim = User.objects.create_user("kim")
    return _create.create(owner=kim, user_identifier="user:1", title="One")


def prepared_here() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


def lose_them() -> None:
    """Take away what is prepared, and let psycopg not know."""
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")


def elsewhere(statement: str) -> None:
    """Run a statement on another connection."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors


def test_a_statement_is_prepared_once(conversation: Conversation) -> None:
    for number in (1, 70_000, 5_000_000):  # which are of three types, were they dumped by their size
        _number.number(message_count=number)
    assert _titles.all(user_identifier="user:1") == _titles.all(user_identifier="user:1") == ["One"]
    kept = prepared_here()
    assert sum("message_count" in statement and "COUNT" in statement for statement in kept) == 1
    assert sum("ORDER BY" in statement for statement in kept) == 1


def test_without_psycopg_3_django_s_cursor_is_taken(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    monkeypatch.setattr(prepared, "can_run", lambda _connection: False)
    assert _titles.all(user_identifier="user:1") == ["One"]
    assert not prepared_here()


@pytest.mark.parametrize("in_transaction", [False, True], ids=["alone", "in_a_transaction"])
def test_what_was_lost_is_done_again_and_not_prepared_any_more(
    conversation: Conversation, in_transaction: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert _titles.all(user_identifier="user:1") == ["One"]
    lose_them()
    runs = []

    def work() -> list[str]:
        runs.append(1)
        _create.create(owner=conversation.owner, user_identifier="user:2", title=f"Two {len(runs)}")
        return _titles.all(user_identifier="user:2")

    with caplog.at_level(logging.INFO, "conversations.database"):
        found = replayed(work)() if in_transaction else work()
    # Of a transaction all was done again, and nothing twice.
    assert found == [f"Two {len(runs)}"]
    assert len(runs) == (2 if in_transaction else 1)
    assert _titles.all(user_identifier="user:1") == ["One"]
    assert not prepared_here()
    told = [record for record in caplog.records if "not prepared" in record.message]
    assert len(told) == 1


def test_a_name_that_is_another_s_counts_as_lost(conversation: Conversation) -> None:
    connection.close()
    with connection.cursor() as cursor:
        for number in range(50):
            cursor.execute(f"DO $$ BEGIN EXECUTE 'PREPARE _pg3_{number} AS SELECT 1'; END $$")
    assert _titles.all(user_identifier="user:1") == ["One"]


@pytest.mark.parametrize("number", [1, 1 << 31, 1 << 40, -(1 << 40), (1 << 63) - 1, 1 << 80])
def test_numbers_arrive_whole_also_those_that_django_calls_small(number: int) -> None:
    """psycopg would cut a number that is larger than its name says."""
    one = Select(
        lambda: (
            Message.objects.annotate(number=Value(number))
            .values_list("number", flat=True)
            .filter(pk=given(Message, "id"))
        )
    )
    conversation = _create.create(user_identifier="user:1", title="One")
    message = Message.objects.create(conversation=conversation, role="user")
    assert one.first(id=message.pk) == number


def test_a_number_that_a_column_cannot_hold_is_refused(conversation: Conversation) -> None:
    change = Update(
        lambda: Conversation.objects.filter(pk=given(Conversation, "id")),
        lambda: {"message_count": given(Conversation, "message_count")},
    )
    with pytest.raises(DataError):
        change.run(id=conversation.pk, message_count=1 << 31)


def test_behind_a_pooler_nothing_is_prepared(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are the same in all connections: there they may stand for what another one has prepared."""
    connection.close()
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 7)
    assert _titles.all(user_identifier="user:1") == ["One"]
    assert not prepared_here()


def test_of_other_statements_nothing_is_kept_and_no_connection_outlives_its_end(conversation: Conversation) -> None:
    assert _titles.all(user_identifier="user:1") == ["One"]
    driver = connection.connection
    before = len(driver._prepared._counts)
    for number in range(20):
        Conversation.objects.filter(title=f"a long text {number}").exists()
    assert len(driver._prepared._counts) == before
    gone = weakref.ref(driver)
    del driver
    connection.close()
    gc.collect()
    assert gone() is None


def test_a_table_that_was_changed_ends_the_preparing_of_its_connection_alone(conversation: Conversation) -> None:
    assert _titles.all(user_identifier="user:1") == ["One"]
    elsewhere("ALTER TABLE conversations_conversation ALTER COLUMN title TYPE text")
    try:
        assert replayed(_titles.all)(user_identifier="user:1") == ["One"]
        assert _titles.all(user_identifier="user:1") == ["One"]
        connection.close()
        assert _titles.all(user_identifier="user:1") == ["One"]
        assert prepared_here()
    finally:
        connection.close()
        length = Conversation._meta.get_field("title").max_length
        elsewhere(f"ALTER TABLE conversations_conversation ALTER COLUMN title TYPE varchar({length})")

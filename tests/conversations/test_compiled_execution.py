"""Compiled statements go the driver's own way, and whoever looks on or handles errors sees what Django would show."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError

from conversations.database.compiled import Insert, InsertMany, Select, Update, given
from conversations.models import Conversation, Worker

pytestmark = pytest.mark.django_db

_titles = Select(
    lambda: (
        Conversation.objects.filter(title=given(Conversation, "title"))
        .extra(where=["title NOT LIKE '%%never%%'"])
        .values_list("title", flat=True)
    )
)
_rename = Update(
    lambda: Conversation.objects.filter(title=given(Conversation, "title")),
    lambda: {"title_source": given(Conversation, "title_source")},
)
_workers = InsertMany(Worker)
_conversations = Insert(Conversation)


def row(worker_id: uuid.UUID) -> dict[str, Any]:
    worker = Worker(pk=worker_id, host="here", pid=1)
    return {field.attname: field.pre_save(worker, True) for field in Worker._meta.concrete_fields}


def do_all(title: str) -> tuple[list[str], int]:
    _conversations.add(title=title)
    _workers.run([row(uuid.uuid4())])
    return _titles.all(title=title), _rename.run(title=title, title_source="user")


@pytest.mark.parametrize("title", ["100 % of %s", "?", "%%", "你好"])
def test_per_cent_and_question_marks_in_text_and_in_statements_are_themselves(title: str) -> None:
    assert do_all(title) == ([title], 1)


def test_whoever_looks_on_sees_every_statement() -> None:
    seen: list[str] = []

    def look(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        seen.append(sql.split()[0])
        return execute(sql, *rest)

    with connection.execute_wrapper(look):
        assert do_all("x") == (["x"], 1)
    assert seen == ["INSERT", "INSERT", "SELECT", "UPDATE"]


def test_errors_are_djangos_and_break_the_transaction_as_ever() -> None:
    worker_id = uuid.uuid4()
    _workers.run([row(worker_id)])
    with pytest.raises(IntegrityError), transaction.atomic():
        _workers.run([row(worker_id)])
    assert _titles.all(title="x") == [], "the savepoint was taken back"
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            _workers.run([row(worker_id)])
        with pytest.raises(TransactionManagementError):
            _titles.all(title="x")
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_closed_is_opened_again() -> None:
    connection.close()
    assert _titles.all(title="x") == []

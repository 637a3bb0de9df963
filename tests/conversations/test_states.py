"""The state of an answer is of one moment, whatever happens while it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from conversations.access.rules import Action, Caller
from conversations.engine.events import COMPLETED, Ending, Piece
from conversations.engine.storage import store
from conversations.models import Conversation, Generation, Message, Worker
from conversations.rest.generations import generation_state

from .log_rows import entry

pytestmark = pytest.mark.django_db
ANYBODY = Caller(sees_all=True)


@pytest.fixture
def running() -> uuid.UUID:
    """An answer of which four characters are stored."""
    conversation = Conversation.objects.create(message_count=2)
    message = Message.objects.create(conversation=conversation, role=Message.Role.ASSISTANT)
    worker = Worker.objects.create(host="here", pid=1)
    generation = Generation.objects.create(message=message, active_for=conversation, worker=worker)
    assert store([entry(generation.pk, Piece(4, "content", "half"))]) == {generation.pk}
    return generation.pk


def state(generation_id: uuid.UUID) -> tuple[str, int]:
    told = generation_state(ANYBODY, generation_id, Action.READ)
    return told["status"], told["position"]


def test_an_answer_that_ends_while_it_is_asked_for_is_told_as_it_was_or_as_it_is(running: uuid.UUID) -> None:
    had_ended = False

    def end_after_the_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal had_ended
        found = execute(sql, *rest)
        if not had_ended:
            had_ended = True
            assert store([entry(running, Piece(9, "content", " full"), ending=Ending(COMPLETED))]) == {running}
        return found

    assert state(running) == ("running", 4)
    with connection.execute_wrapper(end_after_the_first):
        assert state(running) == ("running", 4)
    assert state(running) == ("completed", 9)

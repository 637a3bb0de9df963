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
from conversations.rest.generations import generation_state

from .log_rows import entry, running

pytestmark = pytest.mark.django_db
ANYBODY = Caller(sees_all=True)


def state(generation_id: uuid.UUID) -> tuple[str, int]:
    told = generation_state(ANYBODY, generation_id, Action.READ)
    return told["status"], told["position"]


def test_an_answer_that_ends_while_it_is_asked_for_is_told_as_it_was_or_as_it_is() -> None:
    answer = running().pk
    assert store([entry(answer, Piece(4, "content", "half"))]) == {answer}
    had_ended = False

    def end_after_the_first(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal had_ended
        found = execute(sql, *rest)
        if not had_ended:
            had_ended = True
            assert store([entry(answer, Piece(9, "content", " full"), ending=Ending(COMPLETED))]) == {answer}
        return found

    assert state(answer) == ("running", 4)
    with connection.execute_wrapper(end_after_the_first):
        assert state(answer) == ("running", 4)
    assert state(answer) == ("completed", 9)

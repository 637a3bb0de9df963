"""Jobs that wait at the same time share a transaction, and none is any the worse for the others."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.test import RequestFactory
from django.urls import resolve
from django.utils import translation

from conversations.access import api_keys
from conversations.database import db, together
from conversations.database.transactions import replayed
from conversations.models import Conversation, Message
from conversations.web import gate

pytestmark = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="other databases take several writers")
DEADLOCK = 1213


class Writer:
    """The one thread that writes: held up, so that jobs have to wait; and the statements that begin and end there."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self._gate = threading.Event()
        self._held: asyncio.Future[bool] | None = None

    async def hold(self) -> None:
        await db.write(self._listen)
        self._gate.clear()
        self._held = asyncio.ensure_future(db.write(self._gate.wait, 10))

    def _listen(self) -> None:
        connection.ensure_connection()
        connection.connection.set_trace_callback(self.statements.append)

    async def waiting(self, *jobs: Callable[[], Any]) -> list[asyncio.Task[Any]]:
        """Have jobs wait behind each other for the writer, which is held."""
        calls = [asyncio.create_task(db.write_together(job)) for job in jobs]
        await asyncio.sleep(0)
        return calls

    async def release(self) -> None:
        assert self._held is not None
        self.statements.clear()
        self._gate.set()
        await self._held

    async def together(self, *jobs: Callable[[], Any]) -> list[Any]:
        """Do jobs that wait at the same time; return what comes of each."""
        await self.hold()
        calls = await self.waiting(*jobs)
        await self.release()
        return await asyncio.gather(*calls, return_exceptions=True)

    def count(self, begin: str) -> int:
        return sum(statement.startswith(begin) for statement in self.statements)


@pytest_asyncio.fixture
async def writer(transactional_db: None, settings: Any) -> AsyncIterator[Writer]:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 2}
    yield Writer()
    await asyncio.to_thread(db.close)


class Making:
    """A job that makes a conversation in a transaction of its own, then perhaps does something more there."""

    def __init__(self, title: str, then: Callable[[], Any] = lambda: None) -> None:
        self.title = title
        self.then = then
        self.runs = 0
        self.was_in_another = False

    def __call__(self) -> str:
        self.runs += 1
        self.was_in_another = connection.in_atomic_block
        return self._make()

    @replayed
    def _make(self) -> str:
        Conversation.objects.create(title=self.title)
        self.then()
        return self.title


async def titles() -> list[str]:
    return await db.read(lambda: sorted(Conversation.objects.values_list("title", flat=True)))


def refuse() -> None:
    raise ValueError("mine")


def break_a_rule() -> None:
    """Refer to what there is not: SQLite says so at the commit only."""
    Message.objects.create(conversation_id=-1, role=Message.Role.USER, content="of nobody")


def lose_the_transaction() -> None:
    """As SQLite itself does for some errors."""
    connection.connection.rollback()


# One transaction ------------------------------------------------------------------------------------------------
async def test_what_waits_is_committed_at_once(writer: Writer) -> None:
    jobs = [Making(title) for title in "abc"]
    assert await writer.together(*jobs) == ["a", "b", "c"]
    assert (writer.count("COMMIT"), writer.count("SAVEPOINT"), [job.runs for job in jobs]) == (1, 3, [1, 1, 1])
    assert await titles() == ["a", "b", "c"]


async def test_the_text_of_answers_waits_with_them(writer: Writer) -> None:
    await writer.hold()
    calls = [asyncio.ensure_future(run(Making(title))) for run, title in ((db.write_together, "a"), (db.log, "b"))]
    await asyncio.sleep(0)
    await writer.release()
    assert await asyncio.gather(*calls) == ["a", "b"]
    assert writer.count("COMMIT") == 1


async def test_one_alone_has_a_transaction_of_its_own(writer: Writer) -> None:
    job = Making("a")
    assert await writer.together(job) == ["a"]
    assert (writer.count("COMMIT"), writer.count("SAVEPOINT"), job.was_in_another) == (1, 0, False)


async def test_what_asks_for_it_is_joined_and_nothing_else(writer: Writer) -> None:
    await writer.hold()
    other = Making("other")
    calls = [*await writer.waiting(Making("a"), Making("b")), asyncio.create_task(db.write(other))]
    await asyncio.sleep(0)
    await writer.release()
    assert await asyncio.gather(*calls) == ["a", "b", "other"]
    assert (other.was_in_another, writer.count("COMMIT")) == (False, 2)


async def test_nobody_hears_of_it_before_the_commit(writer: Writer) -> None:
    """A job behind others of which one is slow."""
    begun, gate_of_last = threading.Event(), threading.Event()

    def last() -> None:
        begun.set()
        gate_of_last.wait(10)

    await writer.hold()
    calls = await writer.waiting(Making("a"), last)
    await writer.release()
    assert await asyncio.to_thread(begun.wait, 10)
    assert await titles() == []
    assert not calls[0].done()
    gate_of_last.set()
    assert await asyncio.gather(*calls) == ["a", None]
    assert await titles() == ["a"]


async def test_no_transaction_is_of_more_than_so_many(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_SECONDS", 60)
    number = 2 * together.MOST_JOBS + 1
    assert len(await writer.together(*(Making(str(index)) for index in range(number)))) == number
    assert writer.count("COMMIT") == 3
    assert len(await titles()) == number


async def test_no_transaction_is_of_more_than_a_moment(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST_SECONDS", -1)
    await writer.together(Making("a"), Making("b"), Making("c"))
    assert writer.count("COMMIT") == 3
    assert await titles() == ["a", "b", "c"]


# Errors ---------------------------------------------------------------------------------------------------------
async def test_an_error_undoes_its_own_and_no_others(writer: Writer) -> None:
    jobs = [Making("a"), Making("b", refuse), Making("c")]
    first, error, third = await writer.together(*jobs)
    assert (first, third, writer.count("COMMIT"), [job.runs for job in jobs]) == ("a", "c", 1, [1, 1, 1])
    assert isinstance(error, ValueError)
    assert await titles() == ["a", "c"]


async def test_what_fails_at_the_commit_fails_alone(writer: Writer) -> None:
    jobs = [Making("a"), Making("b", break_a_rule), Making("c")]
    first, error, third = await writer.together(*jobs)
    assert (first, third) == ("a", "c")
    assert isinstance(error, IntegrityError)
    assert await titles() == ["a", "c"]
    assert [(job.runs, job.was_in_another) for job in jobs] == [(2, False)] * 3


async def test_a_transaction_that_was_lost_without_a_word_is_noticed(writer: Writer) -> None:
    """Else what comes after it would be stored at once, and a second time when all is done again."""

    def swallowing() -> str:
        if connection.in_atomic_block:
            lose_the_transaction()
        return "nothing said"

    assert await writer.together(Making("a"), swallowing, Making("c")) == ["a", "nothing said", "c"]
    assert await titles() == ["a", "c"]


async def test_what_asks_to_be_repeated_is_repeated_alone(writer: Writer) -> None:
    asked: list[bool] = []

    def ask_to_repeat() -> None:
        asked.append(connection.in_atomic_block)
        if len(asked) < 4:
            raise OperationalError(DEADLOCK, "Deadlock found")

    jobs = [Making("a"), Making("b", ask_to_repeat)]
    assert await writer.together(*jobs) == ["a", "b"]
    assert (len(asked), jobs[1].runs) == (4, 2)
    assert await titles() == ["a", "b"]


async def test_a_job_that_runs_again_finds_its_context_as_it_was(writer: Writer) -> None:
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")
    heard: list[tuple[str, str | None]] = []

    def listen() -> None:
        heard.append((said.get(), translation.get_language()))
        said.set("in vain")

    said.set("something")
    await writer.hold()
    with translation.override("zh-hans"):
        calls = await writer.waiting(listen)
    calls += await writer.waiting(Making("b", break_a_rule))
    await writer.release()
    await asyncio.gather(*calls, return_exceptions=True)
    assert heard == [("something", "zh-hans")] * 2


async def test_where_the_database_refuses_to_begin_the_next_one_is_not_hit(writer: Writer) -> None:
    def interrupt() -> None:
        connection.ensure_connection()
        connection.connection.set_progress_handler(lambda: 1, 1)

    await writer.hold()
    interrupting = asyncio.ensure_future(db.write(interrupt))
    await asyncio.sleep(0)
    calls = await writer.waiting(Making("a"), Making("b"), Making("c"))
    await writer.release()
    await interrupting
    error, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(error, OperationalError)
    assert others == ["b", "c"]
    assert await titles() == ["b", "c"]


# After the commit -----------------------------------------------------------------------------------------------
async def test_what_follows_the_commit_follows_it_in_the_jobs_own_context_and_order(writer: Writer) -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose")
    done: list[tuple[str, str, bool, int]] = []

    def noting(name: str) -> Callable[[], None]:
        def note() -> None:
            others = connections.create_connection("default")
            with others.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM conversations_conversation")
                (stored,) = cursor.fetchone()
            others.close()
            done.append((name, whose.get(), connection.in_atomic_block, stored))

        return lambda: transaction.on_commit(note)

    def named(name: str, then: Callable[[], Any]) -> Callable[[], Any]:
        def job() -> Any:
            whose.set(name)
            return Making(name, then)()

        return job

    def both() -> None:
        noting("c1")()
        noting("c2")()

    def failing() -> None:
        noting("b")()
        refuse()

    await writer.hold()
    calls = []
    for name, then in (("a", noting("a")), ("b", failing), ("c", both)):
        whose.set(name)
        calls += await writer.waiting(Making(name, then))
    await writer.release()
    await asyncio.gather(*calls, return_exceptions=True)
    assert done == [("a", "a", False, 2), ("c1", "c", False, 2), ("c2", "c", False, 2)]
    assert await writer.together(named("d", noting("d"))) == ["d"]


async def test_what_follows_a_commit_and_fails_is_its_own_jobs_failure(writer: Writer) -> None:
    done: list[str] = []
    first, error, third = await writer.together(
        Making("a", lambda: transaction.on_commit(lambda: done.append("a"))),
        Making("b", lambda: transaction.on_commit(refuse)),
        Making("c", lambda: transaction.on_commit(lambda: done.append("c"))),
    )
    assert (first, third, done) == ("a", "c", ["a", "c"])
    assert isinstance(error, ValueError)
    assert await titles() == ["a", "b", "c"]


async def test_what_follows_a_commit_is_not_done_for_one_that_failed(writer: Writer) -> None:
    done: list[str] = []
    jobs = [
        Making("a", lambda: transaction.on_commit(lambda: done.append("a"))),
        Making("b", break_a_rule),
    ]
    await writer.together(*jobs)
    assert (done, jobs[0].runs) == (["a"], 2)


# Callers that leave ---------------------------------------------------------------------------------------------
async def test_what_its_caller_no_longer_waits_for_is_not_begun(writer: Writer) -> None:
    await writer.hold()
    left = Making("b")
    calls = await writer.waiting(Making("a"), left, Making("c"))
    calls[1].cancel()
    await asyncio.wait({calls[1]})
    await writer.release()
    assert list(await asyncio.gather(calls[0], calls[2])) == ["a", "c"]
    assert (left.runs, await titles()) == (0, ["a", "c"])


async def test_what_its_caller_leaves_while_it_runs_is_stored_once(writer: Writer) -> None:
    begun, gate_of_first = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        gate_of_first.wait(10)

    await writer.hold()
    slow = Making("a", wait)
    calls = await writer.waiting(slow, Making("b"))
    await writer.release()
    assert await asyncio.to_thread(begun.wait, 10)
    calls[0].cancel()
    gate_of_first.set()
    assert await calls[1] == "b"
    assert (slow.runs, await titles()) == (1, ["a", "b"])


async def test_the_end_waits_for_what_was_given(writer: Writer) -> None:
    await writer.hold()
    calls = await writer.waiting(*(Making(title) for title in "abc"))
    closing = asyncio.ensure_future(asyncio.to_thread(db.close))
    await writer.release()
    await closing
    assert await asyncio.gather(*calls) == ["a", "b", "c"]


# Calls ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_a_call_that_runs_again_has_its_body_and_is_counted_once(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": True, "RATE_LIMIT": "5/minute"}
    _key, token = api_keys.make(user=User.objects.create_user("kim"), name="n")
    shown = {"Authorization": f"Bearer {token}"}
    body = {"title": "twice"}
    request = RequestFactory().post("/conversations", body, content_type="application/json", headers=shown)
    asynchronous: Any = resolve("/conversations").func
    view = asynchronous.__wrapped__
    answers = []
    for _again in range(2):
        answers.append(view(request).status_code)
        counted = request.META[gate.RATE]
    assert (answers, counted.remaining) == ([201, 201], 4)
    assert list(Conversation.objects.values_list("title", flat=True)) == ["twice", "twice"]

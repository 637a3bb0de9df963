"""Database jobs on fixed threads that keep their connections."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import MagicMock

import pytest
import pytest_asyncio
from asgiref.sync import async_to_sync
from django.db import ConnectionHandler, InterfaceError, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import translation

from conversations.database import db, kept, sessions
from conversations.database.threads import Threads
from conversations.models import Conversation

POOLS = [db.read, db.write, db.write_together, db.log]


@pytest_asyncio.fixture
async def pools(transactional_db: None, settings: Any) -> AsyncIterator[None]:
    """Real threads, three of them to read with; none is left after the test."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 3}
    yield
    await asyncio.to_thread(db.close)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("db-")]


def where() -> tuple[str, int]:
    """A job that tells its thread, and which connection to the database it uses."""
    Conversation.objects.exists()
    return threading.current_thread().name, id(connection.connection)


class Meeting:
    """A job that waits in its thread until so many of its kind are there: so each has a thread of its own."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=10)

    def __call__(self) -> tuple[str, int]:
        self._barrier.wait()
        return where()


def break_connection() -> None:
    """Make every statement on this thread's connection fail, as on a server that went away."""
    connection.ensure_connection()
    if connection.vendor == "sqlite":
        connection.connection.set_progress_handler(lambda: 1, 1)
        return
    other = connection.copy()
    with other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [connection.connection.info.backend_pid])
        else:
            cursor.execute("KILL %s", [connection.connection.thread_id()])
    other.close()


# Threads and connections ----------------------------------------------------------------------------------------
async def test_reads_run_on_so_many_threads_and_no_more(pools: None) -> None:
    met = await asyncio.gather(*(db.read(meeting) for meeting in [Meeting(3)] * 3))
    assert len({thread for thread, _connection in met}) == 3
    again = await asyncio.gather(*(db.read(where) for _number in range(50)))
    assert set(again) <= set(met)
    assert all(thread.startswith("db-read") for thread, _connection in again)


async def test_each_thread_keeps_its_connection(pools: None) -> None:
    first = await asyncio.gather(*(db.read(meeting) for meeting in [Meeting(3)] * 3))
    second = await asyncio.gather(*(db.read(meeting) for meeting in [Meeting(3)] * 3))
    assert dict(first) == dict(second)
    assert len({one for _thread, one in first}) == 3


async def test_beside_a_pool_of_the_project_each_thread_has_its_own_connection(
    pools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep it, so a pool would soon have none left: not for them, and not for the project's pages."""
    with monkeypatch.context() as patched:
        patched.setitem(connections.settings["default"]["OPTIONS"], "pool", {"max_size": 1})
        met = await asyncio.gather(*(db.read(meeting) for meeting in [Meeting(3)] * 3))
    assert len({name for name, _connection in met}) == len({connection for _name, connection in met}) == 3


def test_what_a_pool_is_given_need_not_be_copied() -> None:
    """Such as a callback with a lock of its own."""
    options = {"timeout": 5, "pool": {"reconnect_failed": threading.Lock()}}
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": options}
    given = ConnectionHandler({"default": database})["default"]
    own = sessions.beside_a_pool(given)
    assert own.settings_dict == {**given.settings_dict, "OPTIONS": {"timeout": 5}}
    assert "pool" in given.settings_dict["OPTIONS"]


def test_a_thread_that_cannot_be_prepared_does_its_jobs(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise TypeError("cannot pickle that")

    threads = Threads("unprepared", 1, begin=fail)
    assert threads.submit(lambda: 1).result(timeout=30) == 1
    threads.shutdown()
    assert "cannot pickle that" in caplog.text


def test_a_driver_that_tells_no_socket_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as PyMySQL, which projects put in the place of MySQL's own."""
    wrapper = MagicMock(alias="default", vendor="mysql")
    del wrapper.connection.fileno
    cursor = wrapper.cursor.return_value.__enter__.return_value
    cursor.fetchall.return_value = []
    monkeypatch.setattr(sessions, "_is_everywhere", True)
    sessions.prepare(wrapper)
    assert cursor.execute.call_args_list[0].args[0] == sessions.MYSQL
    sessions.cut(wrapper)


async def test_sqlite_has_one_thread_that_writes_for_the_log_too(pools: None) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("other databases take several writers")
    done = await asyncio.gather(*(run(where) for run in [db.write, db.log] * 10))
    assert len(set(done)) == 1
    assert done[0][0].startswith("db-write")


async def test_a_writer_that_waits_holds_up_no_reader(pools: None) -> None:
    gate = threading.Event()
    blocked = [asyncio.ensure_future(db.write(gate.wait, 10)) for _number in range(3)]
    assert await asyncio.gather(*(db.read(where) for _number in range(9)))
    assert not any(job.done() for job in blocked)
    gate.set()
    await asyncio.gather(*blocked)


async def test_what_is_written_is_read(pools: None) -> None:
    conversation = await db.write(Conversation.objects.create, title="here")
    assert (await db.read(Conversation.objects.get, pk=conversation.pk)).title == "here"


# Broken connections ---------------------------------------------------------------------------------------------
async def test_a_read_runs_again_on_a_new_connection(pools: None, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    await db.write(Conversation.objects.create, title="still here")
    _thread, before = await db.read(where)
    kept = await db.read(lambda: connection.connection)  # else its id could come again
    await db.read(break_connection)
    assert await db.read(lambda: Conversation.objects.get().title) == "still here"
    thread, after = await db.read(where)
    assert (thread, after != before, kept is not None) == ("db-read_0", True, True)


async def test_a_read_runs_twice_at_most(pools: None, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    runs = []

    def job() -> None:
        runs.append(1)
        break_connection()
        Conversation.objects.count()

    with pytest.raises((OperationalError, InterfaceError)):
        await db.read(job)
    assert len(runs) == 2
    assert await db.read(Conversation.objects.count) == 0


@pytest.mark.parametrize("run", [db.write, db.log])
async def test_a_write_is_not_run_again_but_the_next_one_works(pools: None, run: Any, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    runs = []

    def job() -> None:
        runs.append(1)
        Conversation.objects.create()

    await run(break_connection)
    with pytest.raises((OperationalError, InterfaceError)):
        await run(job)
    assert len(runs) == 1
    await run(job)
    assert await db.read(Conversation.objects.count) == 1


@pytest.mark.parametrize("run", [db.write, db.write_together, db.log])
async def test_a_connection_that_ended_while_nobody_used_it_is_met_by_no_job(
    pools: None, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers, poolers and networks end idle ones: the first message after a quiet night was refused."""
    await run(where)
    await run(break_connection)
    if connection.vendor == "sqlite":  # ended by nobody, and so never asked
        monkeypatch.setattr(type(connections["default"]), "is_usable", lambda _connection: False)
    monkeypatch.setattr(kept, "IDLE_SECONDS", -1.0)
    await run(where)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="no server that would end all connections at once")
async def test_after_one_failure_no_other_thread_meets_its_own(pools: None) -> None:
    """A server that was restarted has ended every connection."""
    await asyncio.gather(*(db.write(meeting) for meeting in [Meeting(3)] * 3))
    breaking = threading.Barrier(3, timeout=10)

    def break_each() -> None:
        breaking.wait()
        break_connection()

    await asyncio.gather(*(db.write(break_each) for _number in range(3)))
    await db.log(break_connection)
    with pytest.raises((OperationalError, InterfaceError)):
        await db.log(Conversation.objects.create)
    met = await asyncio.gather(*(db.write(meeting) for meeting in [Meeting(3)] * 3))
    assert len({thread for thread, _connection in met}) == 3


async def test_no_room_for_one_more_connection_leaves_those_that_there_are(
    pools: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    before = await db.read(where)
    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "get_new_connection", _no_room)
        with pytest.raises(OperationalError):
            await db.write(Conversation.objects.create)
        assert await db.read(where) == before
    await db.write(Conversation.objects.create)


def _no_room(*_args: Any) -> Any:
    raise OperationalError("too many clients already")


@pytest.mark.parametrize("run", POOLS)
async def test_an_error_of_the_job_itself_is_its_callers_and_keeps_the_connection(
    pools: None, run: Any, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 1}
    runs = []

    def job() -> None:
        runs.append(1)
        raise ValueError("mine")

    before = await run(where)
    with pytest.raises(ValueError, match="mine"):
        await run(job)
    assert len(runs) == 1
    assert await run(where) == before


async def test_a_transaction_that_failed_leaves_nothing_behind(pools: None) -> None:
    def job() -> None:
        with transaction.atomic():
            Conversation.objects.create()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await db.write(job)
    assert await db.write(lambda: (Conversation.objects.count(), connection.in_atomic_block)) == (0, False)


# Calls ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("run", POOLS)
async def test_a_job_sees_its_callers_context_and_event_loop(pools: None, run: Any) -> None:
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")
    said.set("something")

    def job() -> tuple[str, asyncio.AbstractEventLoop]:
        heard = said.get()
        said.set("in vain")
        return heard, db.calling_loop.get()

    assert await run(job) == ("something", asyncio.get_running_loop())
    assert said.get() == "something"


@pytest.mark.parametrize("run", POOLS)
async def test_a_job_speaks_its_callers_language(pools: None, run: Any) -> None:
    """And leaves the thread with its own."""
    for language in ("zh-hans", "en", "zh-hans"):
        with translation.override(language):
            assert await run(translation.get_language) == language
    with translation.override(None):
        assert await run(translation.get_language) is None


async def test_arguments_are_passed_on(pools: None) -> None:
    def job(first: int, *, second: int) -> tuple[int, int]:
        return first, second

    assert await db.read(job, 1, second=2) == (1, 2)


async def test_a_write_whose_caller_left_goes_on(pools: None) -> None:
    begun, gate, done = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        gate.wait(10)
        Conversation.objects.create()
        done.set()

    call = asyncio.ensure_future(db.write(job))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    assert await asyncio.to_thread(done.wait, 10)
    assert await db.write(Conversation.objects.count) == 1


async def test_queries_are_not_collected_for_ever_while_debugging(pools: None, settings: Any) -> None:
    settings.DEBUG = True
    for _number in range(3):
        await db.write(Conversation.objects.count)
    assert await db.write(lambda: len(connection.queries)) == 0


# The end --------------------------------------------------------------------------------------------------------
async def test_close_leaves_no_thread_and_no_connection(pools: None) -> None:
    used: list[BaseDatabaseWrapper] = []

    def job() -> None:
        meeting()
        used.append(connections["default"])
        where()

    meeting = Meeting(3)
    await asyncio.gather(*(db.read(job) for _number in range(3)))
    meeting = Meeting(1)
    await db.write(job)
    assert (len(threads()), len(used)) == (4, 4)
    assert all(wrapper.connection is not None for wrapper in used)
    await asyncio.to_thread(db.close)
    assert threads() == []
    assert all(wrapper.connection is None for wrapper in used)


async def test_close_waits_for_what_runs(pools: None) -> None:
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        gate.wait(10)
        ended.set()

    call = asyncio.ensure_future(db.write(job))
    await asyncio.to_thread(begun.wait, 10)
    closing = asyncio.ensure_future(asyncio.to_thread(db.close))
    gate.set()
    await closing
    assert ended.is_set()
    await call


async def test_after_close_new_threads_begin(pools: None) -> None:
    await db.write(Conversation.objects.create)
    await asyncio.to_thread(db.close)
    await asyncio.to_thread(db.close)
    assert await db.read(Conversation.objects.count) == 1
    assert len(threads()) == 1


# Inside a test's transaction ------------------------------------------------------------------------------------
@pytest.mark.parametrize("run", POOLS)
def test_with_no_threads_jobs_run_in_the_callers_own_transaction(in_transaction: None, run: Any) -> None:
    Conversation.objects.create(title="not committed")

    def job() -> tuple[str, str]:
        Conversation.objects.create(title="nor this")
        return Conversation.objects.earliest("pk").title, threading.current_thread().name

    assert async_to_sync(run)(job) == ("not committed", threading.current_thread().name)
    assert Conversation.objects.count() == 2
    assert threads() == []


def test_with_no_threads_a_job_knows_its_callers_loop_too(in_transaction: None) -> None:
    async def both() -> tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]:
        return await db.read(db.calling_loop.get), asyncio.get_running_loop()

    of_job, of_caller = async_to_sync(both)()
    assert of_job is of_caller

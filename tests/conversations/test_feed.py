"""What is new in somebody's conversations is told to each of their tabs, in this process and in others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from django.utils import timezone
from websockets.sync.client import connect

from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine import changes, feed
from conversations.engine.feed import RESYNC, Watcher
from conversations.engine.hints import Hints, Subject
from conversations.engine.supervisor import Supervisor
from conversations.models import ApiKey, Conversation, Generation, Message
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from .accounts import bearer, key_of, make_key, make_user, require_login
from .helpers import Socket, chat, streaming


class Tab:
    """A socket that watches, and what it was told."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        socket.send(type="watch", id="w")
        assert socket.get() == {"type": "event", "id": "w", "event": "resync"}

    def told(self) -> dict[str, Any]:
        frame = self.socket.get()
        assert (frame.pop("type"), frame.pop("id")) == ("event", "w")
        return frame

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Read on until such an event comes."""
        while True:
            frame = self.told()
            if wanted.items() <= frame.items():
                return frame


@contextmanager
def tab(server: Server, token: str = "") -> Iterator[Tab]:
    with connect(server.ws_url, proxy=None, additional_headers=bearer(token) if token else None) as connection:
        yield Tab(Socket(connection))


def test_a_second_tab_sees_it_all(server: Server, client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one, ", "two", gate="g", gate_at=1), answer("again")]
    with tab(server) as second:
        with streaming(client, "POST", "/chat", json={"message": "Hello there"}) as (stream, blocks):
            next(blocks)
            session_id = stream.headers["x-session-id"]
            created = second.until(event="conversation", change="created")
            assert created["session_id"] == session_id
            assert created["conversation"]["title"] == "Hello there"
            begun = second.until(event="reply", change="started")
            generation_id = stream.headers["x-generation-id"]
            assert begun == {
                "event": "reply",
                "change": "started",
                "session_id": session_id,
                "generation_id": generation_id,
                "message_id": int(stream.headers["x-message-id"]),
            }
            # It attaches, and reads along on the same socket.
            second.socket.send(type="attach", id="a", generation_id=generation_id)
            assert second.socket.get()["type"] == "accepted"
            assert second.socket.get()["chunk"] == "one, "
            model.gate("g").open()
            for _block in blocks:
                pass
        frames = [second.socket.get() for _number in range(4)]
        assert {frame.get("chunk") for frame in frames if frame["id"] == "a"} >= {"two"}
        assert any(frame.get("change") == "ended" and frame["status"] == "completed" for frame in frames)
        client.patch(f"/conversations/{session_id}", json={"title": "Named"})
        assert second.until(change="changed")["conversation"]["title"] == "Named"
        first_answer = int(stream.headers["x-message-id"])
        regenerated = client.post(f"/messages/{first_answer}/regenerate", json={"stream": False}).json()
        assert second.until(event="reply", change="ended")["message_id"] == regenerated["message_id"]
        client.patch(f"/conversations/{session_id}", json={"active_leaf": first_answer})
        chosen = second.until(change="selected")
        assert chosen["conversation"]["active_leaf"] == first_answer
        client.delete(f"/conversations/{session_id}", params={"undo": 30})
        assert second.until(change="deleted") == {
            "event": "conversation",
            "change": "deleted",
            "session_id": session_id,
        }
        client.post(f"/conversations/{session_id}/restore")
        assert second.until(change="created")["session_id"] == session_id
        client.delete(f"/conversations/{session_id}")
        assert second.until(change="deleted")["session_id"] == session_id


def test_a_title_that_the_model_made_is_told(
    server: Server, client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "model"}
    model.script = [answer("An answer"), answer("A made title")]
    with tab(server) as second:
        chat(client, "Hello")
        # It may be there already when the conversation is first seen.
        while second.until(event="conversation")["conversation"]["title"] != "A made title":
            pass


def test_over_sse_too(server: Server, client: httpx.Client, model: ScriptedUpstream) -> None:
    with client.stream("GET", "/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        told = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        assert next(told) == {"event": "resync"}
        session_id = client.post("/conversations", json={"title": "New"}).json()["session_id"]
        created = next(told)
        assert (created["event"], created["change"], created["session_id"]) == ("conversation", "created", session_id)
    assert client.head("/events").status_code == 200


def test_temporary_ones_are_not_told(server: Server, client: httpx.Client, model: ScriptedUpstream) -> None:
    with tab(server) as second:
        chat(client, "a secret", temporary=True)
        session_id = client.post("/conversations", json={}).json()["session_id"]
        assert second.told()["session_id"] == session_id


def test_nobody_sees_what_is_anothers(server: Server, client: httpx.Client, settings: Any) -> None:
    require_login(settings)
    kim, lee = make_user("kim"), make_user("lee")
    with tab(server, make_key(lee)) as of_lee:
        client.headers.update(key_of(kim))
        client.post("/conversations", json={"title": "kim's"})
        client.headers.update(key_of(lee))
        session_id = client.post("/conversations", json={"title": "lee's"}).json()["session_id"]
        assert of_lee.told()["session_id"] == session_id


def test_a_socket_without_the_scope_is_refused(server: Server, settings: Any) -> None:
    require_login(settings)
    token = make_key(make_user("kim"), ["chat"])
    with connect(server.ws_url, proxy=None, additional_headers=bearer(token)) as connection:
        socket = Socket(connection)
        socket.send(type="watch", id="w")
        assert socket.get()["error"]["code"] == "scope_missing"
    assert httpx.get(f"{server.url}/events", headers=bearer(token)).json()["code"] == "scope_missing"


def test_a_socket_watches_once(server: Server) -> None:
    with tab(server) as second:
        second.socket.send(type="watch", id="again")
        refused = second.socket.get()
        assert (refused["type"], refused["id"], refused["error"]["code"]) == ("refused", "again", "invalid")


def test_who_may_not_any_more_is_told_nothing(server: Server, client: httpx.Client, settings: Any) -> None:
    require_login(settings, CREDENTIAL_INTERVAL=0.1, PING_INTERVAL=0.1)
    kim = make_user("kim")
    token = make_key(kim)
    with ExitStack() as stack:
        second = stack.enter_context(tab(server, token))
        response = stack.enter_context(client.stream("GET", "/events", headers=bearer(token)))
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        ApiKey.objects.update(revoked_at=timezone.now())
        frame = second.socket.get()
        assert (frame["type"], frame["error"]["code"]) == ("refused", "invalid_key")
        ended = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert ended[-1]["error"]["code"] == "invalid_key"


# What nobody told us of -----------------------------------------------------------------------------------------
async def told_of(watcher: Watcher) -> list[feed.Event]:
    """The next events that are no silence."""
    async for events in watcher.batches():
        if events:
            return events
    raise AssertionError


async def test_changes_of_other_processes_are_seen_by_looking(
    engine: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOOK_EVERY_ALONE", 0.05)
    rows = [await db.write(Conversation.objects.create, title=f"{number}") for number in range(3)]
    engine.ensure_started()
    with engine.feed.watching(Caller(sees_all=True)) as watcher:
        assert await told_of(watcher) == [RESYNC]
        new = await db.write(Conversation.objects.create, title="new")
        ((change, row),) = [(event.change, event.conversation) for event in await told_of(watcher)]
        assert change is not None
        assert row is not None
        assert (change.change, row.pk) == ("created", new.pk)
        await db.write(Conversation.objects.filter(pk=rows[0].pk).update, title="other", changed_at=timezone.now())
        ((change, row),) = [(event.change, event.conversation) for event in await told_of(watcher)]
        assert change is not None
        assert row is not None
        assert (change.change, row.title) == ("changed", "other")
        await db.write(Conversation.objects.filter(pk=rows[1].pk).delete)
        ((change, row),) = [(event.change, event.conversation) for event in await told_of(watcher)]
        assert change is not None
        assert (change.change, change.session_id, row) == ("deleted", rows[1].session_id, None)


async def test_who_takes_nothing_lists_again(engine: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_WAITING", 4)
    watcher = Watcher()
    watcher.put([RESYNC])
    watcher.put([feed.Event()] * 9)
    assert await told_of(watcher) == [RESYNC]
    monkeypatch.setattr(changes, "MOST_KNOWN", 3)
    monkeypatch.setattr(feed, "LOOK_EVERY_ALONE", 600.0)  # by hints alone: a look in between would find a few
    engine.ensure_started()
    with engine.feed.watching(Caller(sees_all=True)) as watching:
        assert await told_of(watching) == [RESYNC]
        rows = [await db.write(Conversation.objects.create) for _number in range(9)]
        for row in rows:
            engine.feed.look_at(Subject("", row.pk))
        assert await told_of(watching) == [RESYNC]


async def test_nothing_is_kept_of_whom_nobody_watches(engine: Supervisor) -> None:
    engine.ensure_started()
    kim = Caller(user_identifier="kim")
    with engine.feed.watching(kim) as one, engine.feed.watching(kim) as two:
        assert await told_of(one) == await told_of(two) == [RESYNC]
    engine.feed.look_at(Subject("kim", 1))
    assert [engine.feed._watchers, engine.feed._known, engine.feed._hinted] == [{}, {}, {}]


async def test_hints_reach_those_who_watch_in_other_processes() -> None:
    """Over a layer with groups: who watches says so to all, who changes something tells whom it concerns."""
    seen: list[Subject] = []

    def hints(name: str) -> Hints:
        return Hints(
            address=lambda: name,
            on_stop=lambda _key: None,
            on_news=lambda: None,
            on_change=seen.append,
            makes=lambda _key: False,
        )

    here, there = hints("here"), hints("there")
    outbox: list[Any] = []
    for each in (here, there):
        each._send = lambda channel, kind, key, **content: outbox.append(  # type: ignore[method-assign]
            (channel, {"type": kind, "key": key, **content})
        )
    here.watch(["kim", None])
    ((channel, message),) = outbox
    assert channel == "conversations.workers"
    there._received(message)
    here._received(message)  # the group has the sender too, which does not tell itself
    outbox.clear()
    there.changed(Subject("kim", 5))
    there.changed(Subject("lee", 6))
    here.changed(Subject("kim", 7))
    assert [(channel, message["conversation"]) for channel, message in outbox] == [
        ("here", 5),
        ("here", 5),
        ("here", 6),
    ]
    for _channel, message in outbox:
        here._received(message)
    assert seen == [Subject("kim", 5), Subject("kim", 5), Subject("lee", 6)]
    loop = asyncio.get_running_loop()
    there._watchers["kim"]["here"] = there._watchers[None]["here"] = loop.time() - 1
    outbox.clear()
    there.changed(Subject("kim", 8))
    assert not outbox
    assert not there._watchers


def test_what_changed_is_told_apart(presets: None) -> None:
    conversation = Conversation.objects.create(title="first words", title_source="first_words")
    known = changes.begin(None)

    def how(**values: Any) -> list[str]:
        Conversation.objects.filter(pk=conversation.pk).update(**values, changed_at=timezone.now())
        return [change.change for change in changes.look(known, [conversation.pk], at_all=False).changes]

    message = Message.objects.create(conversation=conversation, role="user", content="x")
    assert how(is_pinned=True) == ["changed"]
    assert how(title="made", title_source="model") == ["titled"]
    assert how(active_leaf=message) == ["selected"]
    assert how(active_leaf=None, updated_at=timezone.now()) == ["changed"]
    assert changes.look(known, [conversation.pk], at_all=True).changes == []
    assert how(is_hidden=True, expires_at=timezone.now()) == ["deleted"]
    assert how(is_hidden=False, expires_at=None) == ["created"]


def test_an_owner_with_more_than_are_known(presets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_KNOWN", 2)
    rows = [Conversation.objects.create() for _number in range(4)]
    known = changes.begin(None)
    assert len(known.states) == 2
    news = changes.look(known, [rows[0].pk], at_all=False)
    assert [change.session_id for change in news.changes] == [rows[0].session_id]
    assert len(known.states) == 2
    assert changes.look(known, [row.pk for row in rows], at_all=False).is_cut


def test_of_many_the_newest_are_known_and_deletions_told(presets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MOST_KNOWN", 3)
    rows = [Conversation.objects.create(title=f"{number}") for number in range(6)]
    known = changes.begin(None)
    assert set(known.states) == {row.pk for row in rows[3:]}
    Conversation.objects.create(title="new")
    changes.look(known, [], at_all=True)
    assert rows[5].pk in known.states
    Conversation.objects.filter(pk=rows[5].pk).delete()
    told = changes.look(known, [], at_all=True).changes
    assert [(change.change, change.session_id) for change in told] == [("deleted", rows[5].session_id)]


def test_a_look_that_fails_forgets_nothing(presets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation.objects.create()
    known = changes.begin(None)
    Conversation.objects.filter(pk=conversation.pk).update(is_pinned=True, changed_at=timezone.now())
    real = changes._shown

    def broken(_changes: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr(changes, "_shown", broken)
    with pytest.raises(OperationalError):
        changes.look(known, [conversation.pk], at_all=True)
    monkeypatch.setattr(changes, "_shown", real)
    assert [change.change for change in changes.look(known, [conversation.pk], at_all=True).changes] == ["changed"]


def test_an_end_is_seen_that_changed_no_conversation(presets: None) -> None:
    """It passes over a row that somebody holds."""
    conversation = Conversation.objects.create()
    message = Message.objects.create(conversation=conversation, role="assistant")
    generation = Generation.objects.create(message=message, active_for=conversation)
    known = changes.begin(None)
    Generation.objects.filter(pk=generation.pk).update(status="completed", active_for=None)
    told = changes.look(known, [], at_all=True).changes
    assert [(change.what, change.change, change.status) for change in told if change.what == "reply"] == [
        ("reply", "ended", "completed")
    ]


def test_an_answer_of_long_ago_is_not_told_as_new(presets: None) -> None:
    conversation = Conversation.objects.create()
    old, new = (Message.objects.create(conversation=conversation, role="assistant") for _number in range(2))
    Generation.objects.create(message=old, status="completed")
    running = Generation.objects.create(message=new, active_for=conversation)
    Conversation.objects.filter(pk=conversation.pk).update(active_leaf=new, updated_at=timezone.now())
    known = changes.begin(None)
    Generation.objects.filter(pk=running.pk).update(status="completed", active_for=None)
    now = timezone.now()
    Conversation.objects.filter(pk=conversation.pk).update(active_leaf=old, updated_at=now, changed_at=now)
    told = [
        change for change in changes.look(known, [conversation.pk], at_all=False).changes if change.what == "reply"
    ]
    assert [(change.change, change.message_id) for change in told] == [("ended", new.pk)]


async def test_who_leaves_during_a_look_leaves_nothing(engine: Supervisor) -> None:
    engine.ensure_started()
    for number in range(30):
        with engine.feed.watching(Caller(user_identifier=f"{number}")):
            await asyncio.sleep(0)
    with engine.feed.watching(Caller(user_identifier="last")) as watcher:
        assert await told_of(watcher) == [RESYNC]
    assert engine.feed._known == {}


async def test_the_end_of_the_process_ends_the_feed(engine: Supervisor) -> None:
    engine.ensure_started()

    async def watch() -> int:
        with engine.feed.watching(Caller(sees_all=True)) as watcher:
            return len([events async for events in watcher.batches()])

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        await engine.shutdown()
        assert await watching >= 1
        with engine.feed.watching(Caller(sees_all=True)) as late:
            assert [events async for events in late.batches()] == []

"""The tree of a conversation: edited, branched, switched and deleted, over REST and WebSocket alike."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.core.management.color import no_style
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rest_framework.test import APIClient
from websockets.sync.client import connect

from conversations import services
from conversations.access.rules import Caller
from conversations.exceptions import NotFound
from conversations.models import Conversation, Generation, Message
from conversations.models.querysets import MOST_LEVELS
from conversations.services import branches, regenerating
from tests.conftest import Server
from tests.reliability.sizes import size
from tests.upstream import ScriptedUpstream, answer

from .helpers import Socket, chat, streaming, whole_chat
from .helpers import history as shown

ANYBODY = Caller(sees_all=True)
LARGEST = 2**63 - 1


@pytest.fixture
def socket(server: Server) -> Iterator[Socket]:
    with connect(server.ws_url, proxy=None) as connection:
        yield Socket(connection)


def texts(client: httpx.Client, session_id: str) -> list[str]:
    return [message["content"] for message in shown(client, session_id)]


# Over a real server ---------------------------------------------------------------------------------------------
def test_a_message_is_edited_by_sending_it_with_its_own_parent(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("A"), answer("B"), answer("C")]
    first = chat(client, "one").done
    session_id = first["session_id"]
    chat(client, "two", session_id=session_id)
    two = shown(client, session_id)[2]
    edited = chat(client, "two, better", session_id=session_id, parent_id=two["parent_id"])
    assert edited.done["status"] == "completed"
    assert [message["content"] for message in model.requests[-1].body["messages"]] == ["one", "A", "two, better"]
    history = shown(client, session_id)
    assert [message["content"] for message in history] == ["one", "A", "two, better", "C"]
    assert history[2]["sibling_ids"] == [two["id"], history[2]["id"]]
    assert [message["parent_id"] for message in history] == [None, *(message["id"] for message in history[:-1])]
    state = client.get(f"/conversations/{session_id}").json()
    assert (state["message_count"], state["active_leaf"]) == (4, history[-1]["id"])


def test_the_first_message_is_edited_with_null(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = chat(client, "one").done["session_id"]
    again = chat(client, "other", session_id=session_id, parent_id=None).done
    assert [message["content"] for message in model.requests[-1].body["messages"]] == ["other"]
    history = shown(client, session_id)
    assert [message["id"] for message in history][-1] == again["message_id"]
    assert len(history) == 2
    assert len(history[0]["sibling_ids"]) == 2


def test_a_new_conversation_may_say_null_and_nothing_else(client: httpx.Client, model: ScriptedUpstream) -> None:
    assert whole_chat(client, "hi", parent_id=None).status_code == 200
    refused = whole_chat(client, "hi", parent_id=1)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert Conversation.objects.count() == 1


def test_a_branch_is_shown_again_over_both_doors(
    client: httpx.Client, socket: Socket, model: ScriptedUpstream
) -> None:
    session_id = chat(client, "one").done["session_id"]
    chat(client, "longer", session_id=session_id)
    old = [message["id"] for message in shown(client, session_id)]
    chat(client, "new", session_id=session_id, parent_id=None)
    new = [message["id"] for message in shown(client, session_id)]
    changed = client.patch(f"/conversations/{session_id}", json={"active_leaf": old[0]})
    assert (changed.json()["active_leaf"], changed.json()["message_count"]) == (old[-1], 4)
    assert [message["id"] for message in shown(client, session_id)] == old
    socket.send(type="select", id="s", message_id=new[0])
    assert socket.get() == {"type": "selected", "id": "s", "session_id": session_id, "active_leaf": new[-1]}
    assert [message["id"] for message in shown(client, session_id)] == new


def test_showing_another_branch_is_no_activity(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = chat(client, "one").done["session_id"]
    before = client.get(f"/conversations/{session_id}").json()["updated_at"]
    first = shown(client, session_id)[0]["id"]
    assert client.patch(f"/conversations/{session_id}", json={"active_leaf": first}).json()["updated_at"] == before


def test_going_on_from_an_answer_that_runs_is_refused(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("one, ", "two", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "hi"}) as (stream, blocks):
        next(blocks)
        session_id, running = stream.headers["x-session-id"], int(stream.headers["x-message-id"])
        refused = whole_chat(client, "more", session_id=session_id, parent_id=running)
        assert (refused.status_code, refused.json()["code"]) == (409, "reply_in_progress")
        model.gate("g").open()
        list(blocks)


@pytest.mark.parametrize("door", ["rest", "socket"])
def test_a_deleted_branch_takes_its_running_answer_along(
    client: httpx.Client, socket: Socket, model: ScriptedUpstream, door: str
) -> None:
    session_id = chat(client, "one").done["session_id"]
    kept = [message["id"] for message in shown(client, session_id)]
    model.script = [answer("begins, ", "never", gate="g", gate_at=1)]
    body = {"message": "two", "session_id": session_id}
    with streaming(client, "POST", "/chat", json=body) as (stream, blocks):
        while not stream.text:
            next(blocks)
        question = shown(client, session_id)[2]["id"]
        if door == "rest":
            gone = client.delete(f"/messages/{question}").json()
            assert gone.pop("message")
        else:
            socket.send(type="delete", id="d", message_id=question)
            gone = socket.get()
            assert (gone.pop("type"), gone.pop("id")) == ("deleted", "d")
        assert gone == {"session_id": session_id, "message_id": question, "active_leaf": kept[-1]}
        list(blocks)
    assert stream.done["status"] == "stopped"
    assert [message["id"] for message in shown(client, session_id)] == kept
    assert not Generation.objects.running().exists()
    model.wait_until(lambda: model.requests[-1].closed_by_client)
    assert client.delete(f"/messages/{question}").status_code == 404


def test_deleting_elsewhere_leaves_the_running_answer_alone(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = chat(client, "one").done["session_id"]
    old = shown(client, session_id)[0]["id"]
    model.script = [answer("a", "b", gate="g", gate_at=1)]
    with streaming(client, "POST", "/chat", json={"message": "new", "session_id": session_id, "parent_id": None}) as (
        stream,
        blocks,
    ):
        while not stream.text:
            next(blocks)
        assert client.delete(f"/messages/{old}").json()["active_leaf"] == int(stream.headers["x-message-id"])
        model.gate("g").open()
        list(blocks)
    assert stream.done["status"] == "completed"
    assert texts(client, session_id) == ["new", "ab"]


def test_the_same_key_for_another_place_is_another_request(client: httpx.Client, model: ScriptedUpstream) -> None:
    session_id = chat(client, "one").done["session_id"]
    key = {"Idempotency-Key": "k"}
    body = {"message": "two", "session_id": session_id, "stream": False}
    assert client.post("/chat", json=body, headers=key).status_code == 200
    assert client.post("/chat", json={**body, "parent_id": None}, headers=key).status_code == 422


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "select"}, "invalid"),
        ({"type": "select", "message_id": "1"}, "invalid"),
        ({"type": "select", "message_id": 1, "leaf": 1}, "invalid"),
        ({"type": "select", "message_id": LARGEST}, "not_found"),
        ({"type": "delete", "message_id": LARGEST}, "not_found"),
        ({"type": "delete", "message_id": -1}, "invalid"),
        ({"type": "chat", "message": "hi", "parent_id": LARGEST}, "not_found"),
        ({"type": "chat", "message": "hi", "parent_id": "1"}, "invalid"),
    ],
)
def test_frames_that_are_refused_close_nothing(
    socket: Socket, model: ScriptedUpstream, frame: dict[str, Any], code: str
) -> None:
    socket.send(id="x", **frame)
    refused = socket.get()
    assert (refused["type"], refused["id"], refused["error"]["code"]) == ("refused", "x", code)
    socket.send(type="ping")
    assert socket.get() == {"type": "pong"}


# Without a model's server ----------------------------------------------------------------------------------------
def make(parents: list[int | None]) -> tuple[Conversation, list[Message]]:
    """A conversation whose messages have these parents, by their numbers; the last one is shown."""
    conversation = Conversation.objects.create()
    messages: list[Message] = []
    for number, place in enumerate(parents):
        parent = None if place is None else messages[place]
        is_answer = parent is not None and parent.role == Message.Role.USER
        role = Message.Role.ASSISTANT if is_answer else Message.Role.USER
        messages.append(conversation.messages.create(parent=parent, role=role, content=f"{number}"))
    conversation.active_leaf = messages[-1]
    conversation.save()
    return conversation, messages


def make_long(length: int) -> tuple[Conversation, list[int]]:
    """One branch of so many messages."""
    conversation = Conversation.objects.create()
    first = (Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    ids = list(range(first, first + length))
    Message.objects.bulk_create(
        [
            Message(
                pk=pk, conversation=conversation, parent_id=pk - 1 if pk > first else None, role="user", content=""
            )
            for pk in ids
        ],
        batch_size=500,
    )
    with connection.cursor() as cursor:  # PostgreSQL counts on from where it was
        for sql in connection.ops.sequence_reset_sql(no_style(), [Message]):
            cursor.execute(sql)
    conversation.active_leaf_id = ids[-1]
    conversation.save()
    return conversation, ids


def test_a_branch_longer_than_one_recursion_is_whole(in_transaction: None) -> None:
    conversation, ids = make_long(2 * MOST_LEVELS + 50)
    assert [message.pk for message in services.history(conversation)] == ids
    assert [message.pk for message in services.branch(ids[-1], conversation)] == ids[::-1]
    assert branches.length(ids[-1], conversation) == len(ids)
    assert branches.length(ids[MOST_LEVELS - 1], conversation) == MOST_LEVELS
    assert branches.below(conversation, ids[3]) == ids[3:]


@pytest.mark.parametrize("asked", [1, 99, 100, 101, 1_050])
def test_a_branch_is_read_no_further_than_asked(in_transaction: None, asked: int) -> None:
    conversation, ids = make_long(1_200)
    with CaptureQueriesContext(connection) as queries:
        found = [message.pk for message in itertools.islice(services.branch(ids[-1], conversation), asked)]
    assert found == ids[::-1][:asked]
    assert len(queries) == (1 if asked <= branches.FIRST_LEVELS else 2)


def test_a_long_branch_is_deleted_from_its_begin(in_transaction: None) -> None:
    """Django alone would look for children level by level, each within the other."""
    conversation, ids = make_long(1_500)
    other = conversation.messages.create(role="user", content="other")
    gone = services.delete_message(caller=ANYBODY, message_id=ids[0])
    assert gone.active_leaf_id == other.pk
    assert list(conversation.messages.values_list("pk", flat=True)) == [other.pk]
    conversation.refresh_from_db()
    assert conversation.message_count == 1


#         0
#        / \
#       1   5
#      / \   \
#     2   3   6
#         |
#         4
TREE: list[int | None] = [None, 0, 1, 1, 3, 0, 5]


@pytest.mark.parametrize(
    ("shown_leaf", "deleted", "left", "leaf"),
    [
        (6, 6, [0, 1, 2, 3, 4, 5], 5),
        (6, 5, [0, 1, 2, 3, 4], 4),
        (4, 1, [0, 5, 6], 6),
        (4, 3, [0, 1, 2, 5, 6], 2),
        (4, 2, [0, 1, 3, 4, 5, 6], 4),
        (2, 2, [0, 1, 3, 4, 5, 6], 4),
        (6, 1, [0, 5, 6], 6),
        (6, 0, [], None),
    ],
)
def test_what_is_shown_once_a_branch_is_gone(
    api: APIClient, shown_leaf: int, deleted: int, left: list[int], leaf: int | None
) -> None:
    conversation, messages = make(TREE)
    Conversation.objects.update(active_leaf=messages[shown_leaf])
    body = api.delete(f"/messages/{messages[deleted].pk}").json()
    assert body["active_leaf"] == (None if leaf is None else messages[leaf].pk)
    kept = {message.pk for number, message in enumerate(messages) if number in left}
    assert set(Message.objects.values_list("pk", flat=True)) == kept
    history = api.get(f"/conversations/{conversation.session_id}/history").json()["messages"]
    assert [message["id"] for message in history[-1:]] == ([] if leaf is None else [messages[leaf].pk])
    state = api.get(f"/conversations/{conversation.session_id}").json()
    assert state["active_leaf"] == body["active_leaf"]


@pytest.mark.parametrize(("through", "leaf"), [(0, 6), (1, 4), (2, 2), (3, 4), (5, 6)])
def test_the_newest_message_below_is_the_leaf(api: APIClient, through: int, leaf: int) -> None:
    conversation, messages = make(TREE)
    url = f"/conversations/{conversation.session_id}"
    assert api.patch(url, {"active_leaf": messages[through].pk}).json()["active_leaf"] == messages[leaf].pk


def test_siblings_of_all_kinds(api: APIClient) -> None:
    conversation, messages = make([*TREE, None])
    Conversation.objects.update(active_leaf=messages[4])
    _other, _messages = make([None])
    history = api.get(f"/conversations/{conversation.session_id}/history").json()["messages"]
    ids = [message.pk for message in messages]
    assert [message["sibling_ids"] for message in history] == [
        [ids[0], ids[7]],
        [ids[1], ids[5]],
        [ids[2], ids[3]],
        [ids[4]],
    ]


def test_of_very_many_siblings_the_nearest_are_told(api: APIClient) -> None:
    """Whoever regenerates without end would make each page of that conversation grow with the square."""
    conversation, [question] = make([None])
    answers = [conversation.messages.create(parent=question, role="assistant").pk for _number in range(120)]
    Conversation.objects.update(active_leaf=answers[60])
    history = api.get(f"/conversations/{conversation.session_id}/history").json()["messages"]
    assert history[1]["sibling_ids"] == answers[60 - branches.MOST_SIBLINGS : 61 + branches.MOST_SIBLINGS]


def test_a_message_that_goes_while_it_is_read_is_still_among_its_siblings() -> None:
    assert branches._nearest([1, 3], 2) == branches._nearest([1, 2, 3], 2) == [1, 2, 3]
    assert branches._nearest([], 2) == [2]


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_deleted_while_regenerating_waits_is_not_found(
    in_transaction: None, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _conversation, messages = make([None, 0])
    lock = regenerating.locked

    def lock_late(**what: Any) -> Conversation:
        Message.objects.all().delete()
        return lock(**what)

    monkeypatch.setattr(regenerating, "locked", lock_late)
    with pytest.raises(NotFound):
        services.regenerate(caller=ANYBODY, message_id=messages[number].pk)


def pages(api: APIClient, url: str | None, follow: str) -> list[list[dict[str, Any]]]:
    found = []
    while url:
        body = api.get(url).json()
        assert body.keys() == {"session_id", "messages", "next", "before"}
        found.append(body["messages"])
        url = body[follow]
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_all_messages_are_listed_in_pages(api: APIClient, limit: int) -> None:
    conversation, messages = make(TREE)
    make(TREE)
    found = pages(api, f"/conversations/{conversation.session_id}/messages?limit={limit}", "next")
    assert [message["id"] for page in found for message in page] == [message.pk for message in messages]
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    parents = [None if place is None else messages[place].pk for place in TREE]
    assert [message["parent_id"] for page in found for message in page] == parents


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_branch_opens_at_its_end(api: APIClient, limit: int) -> None:
    conversation, messages = make(TREE)
    url = f"/conversations/{conversation.session_id}/messages?leaf={messages[4].pk}&limit={limit}"
    found = pages(api, url, "before")
    branch = [messages[number].pk for number in (0, 1, 3, 4)]
    assert [message["id"] for page in found[::-1] for message in page] == branch
    assert [message["id"] for message in found[0]] == branch[-limit:]


def test_an_empty_conversation_has_an_empty_page(api: APIClient) -> None:
    conversation = Conversation.objects.create()
    body = api.get(f"/conversations/{conversation.session_id}/messages").json()
    assert body == {"session_id": str(conversation.session_id), "messages": [], "next": None, "before": None}


def test_cursors_of_other_lists_are_refused(api: APIClient) -> None:
    conversation, _messages = make(TREE)
    other, _others = make(TREE)
    for number in range(2):
        Conversation.objects.create(title=f"{number}")
    url = f"/conversations/{conversation.session_id}/messages"
    of_other = httpx.URL(api.get(f"/conversations/{other.session_id}/messages?limit=1").json()["next"])
    of_list = httpx.URL(api.get("/conversations?limit=1").json()["next"])
    for cursor in (of_other.params["cursor"], of_list.params["cursor"], "nope", "LTE6LTE", "你好"):
        refused = api.get(url, {"cursor": cursor})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor"), cursor
    own = httpx.URL(api.get(f"{url}?limit=1").json()["next"]).params["cursor"]
    assert api.get("/conversations", {"cursor": own}).json()["code"] == "invalid_cursor"


BAD = {
    "a limit of none": ("GET", "messages?limit=0", None, 400, "invalid"),
    "too much": ("GET", "messages?limit=501", None, 400, "invalid"),
    "a leaf that is none": ("GET", "messages?leaf=x", None, 400, "invalid"),
    "a leaf that is not there": ("GET", "messages?leaf=999999", None, 404, "not_found"),
    "a leaf and a cursor": ("GET", "messages?leaf=1&cursor=x", None, 400, "invalid"),
    "another name": ("GET", "messages?before=1", None, 400, "invalid"),
    "no leaf": ("PATCH", "", {"active_leaf": None}, 400, "invalid"),
    "a leaf in text": ("PATCH", "", {"active_leaf": "1"}, 400, "invalid"),
    "a negative leaf": ("PATCH", "", {"active_leaf": -1}, 400, "invalid"),
    "a huge leaf": ("PATCH", "", {"active_leaf": 2**63}, 400, "invalid"),
    "an unknown leaf": ("PATCH", "", {"active_leaf": LARGEST, "title": "no"}, 404, "not_found"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_changes_nothing(api: APIClient, case: str) -> None:
    method, path, body, status, code = BAD[case]
    conversation, _messages = make(TREE)
    before = list(Conversation.objects.values())
    refused = api.generic(
        method,
        f"/conversations/{conversation.session_id}/{path}".rstrip("/"),
        json.dumps(body) if body else "",
        content_type="application/json",
    )
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert list(Conversation.objects.values()) == before


def test_a_message_of_another_conversation_is_not_found(api: APIClient) -> None:
    conversation, _messages = make(TREE)
    _other, others = make(TREE)
    url = f"/conversations/{conversation.session_id}"
    assert api.patch(url, {"active_leaf": others[0].pk}).status_code == 404
    assert api.get(f"{url}/messages?leaf={others[0].pk}").status_code == 404
    body = {"message": "hi", "session_id": str(conversation.session_id), "parent_id": others[1].pk}
    assert api.post("/chat", body).status_code == 404
    assert Message.objects.count() == 2 * len(TREE)


def test_whoever_goes_on_from_what_is_shown_may_say_so(client: httpx.Client, model: ScriptedUpstream) -> None:
    """Once its only answer is deleted, a user's message is what is shown."""
    done = chat(client, "one").done
    leaf = client.delete(f"/messages/{done['message_id']}").json()["active_leaf"]
    body = {"session_id": done["session_id"], "parent_id": leaf}
    assert whole_chat(client, "two", **body).status_code == 200
    assert texts(client, done["session_id"])[:2] == ["one", "two"]
    assert model.requests[-1].body["messages"] == [{"role": "user", "content": "one\n\ntwo"}]


def test_going_on_from_a_users_message_is_refused(api: APIClient) -> None:
    conversation, messages = make(TREE)
    body = {"message": "hi", "session_id": str(conversation.session_id), "parent_id": messages[0].pk}
    refused = api.post("/chat", body)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["parent_id"])
    assert Message.objects.count() == len(TREE)


def test_a_branch_among_many_takes_as_many_queries_as_one_alone(api: APIClient) -> None:
    alone, _ids = make_long(300)
    among, ids = make_long(300)
    for branch in range(5):
        leaf = ids[branch]
        for number in range(50):
            leaf = among.messages.create(parent_id=leaf, role="user", content=f"{number}").pk

    def queries(conversation: Conversation, path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get(f"/conversations/{conversation.session_id}/{path}").status_code == 200
        return len(captured)

    assert queries(among, "history") == queries(alone, "history") == 3
    assert queries(among, "messages") == queries(alone, "messages") == 4


# Whatever is done, over whichever door -----------------------------------------------------------------------------
@dataclass
class Node:
    parent: int | None
    is_answer: bool


there_is_something = precondition(lambda machine: machine.nodes)


class Trees(RuleBasedStateMachine):
    """A conversation beside a small model of it."""

    server: Server
    upstream: ScriptedUpstream

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.client = self.stack.enter_context(httpx.Client(base_url=self.server.url, trust_env=False, timeout=30))
        self.socket = Socket(self.stack.enter_context(connect(self.server.ws_url, proxy=None)))
        self.nodes: dict[int, Node] = {}
        self.leaf: int | None = None
        self.frames = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.session_id = self.client.post("/conversations").json()["session_id"]

    def teardown(self) -> None:
        self.stack.close()

    # The model ----------------------------------------------------------------------------------------------

    def branch(self, leaf: int | None) -> list[int]:
        found: list[int] = []
        while leaf is not None:
            found.insert(0, leaf)
            leaf = self.nodes[leaf].parent
        return found

    def below(self, node: int) -> list[int]:
        return [key for key in sorted(self.nodes) if node in self.branch(key)]

    def children(self, parent: int | None) -> list[int]:
        return [key for key in sorted(self.nodes) if self.nodes[key].parent == parent]

    # What is done -------------------------------------------------------------------------------------------

    def done(self, over_socket: bool, frame: dict[str, Any], path: str, body: dict[str, Any]) -> int:
        """Ask for an answer; return its id."""
        if over_socket:
            frame_id = f"{next(self.frames)}"
            self.socket.send(id=frame_id, **frame, **body)
            return int(self.socket.reply(frame_id)[0]["message_id"])
        return int(self.client.post(path, json={**body, "stream": False}).json()["message_id"])

    @rule(data=st.data(), over_socket=st.booleans(), says=st.booleans())
    def ask(self, data: st.DataObject, over_socket: bool, says: bool) -> None:
        body: dict[str, Any] = {"message": "hi", "session_id": self.session_id}
        parent = self.leaf
        if says:
            parent = data.draw(st.sampled_from([None, *(key for key, node in self.nodes.items() if node.is_answer)]))
            body["parent_id"] = parent
        self.leaf = self.done(over_socket, {"type": "chat"}, "/chat", body)
        [question] = (
            {message["id"] for message in shown(self.client, self.session_id)} - self.nodes.keys() - {self.leaf}
        )
        self.nodes[question] = Node(parent, False)
        self.nodes[self.leaf] = Node(question, True)

    @there_is_something
    @rule(data=st.data(), over_socket=st.booleans())
    def regenerate(self, data: st.DataObject, over_socket: bool) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.nodes)))
        question = self.nodes[chosen].parent if self.nodes[chosen].is_answer else chosen
        frame = {"type": "regenerate", "message_id": chosen}
        self.leaf = self.done(over_socket, frame, f"/messages/{chosen}/regenerate", {})
        self.nodes[self.leaf] = Node(question, True)

    @there_is_something
    @rule(data=st.data(), over_socket=st.booleans())
    def select(self, data: st.DataObject, over_socket: bool) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.nodes)))
        self.leaf = self.below(chosen)[-1]
        if over_socket:
            self.socket.send(type="select", message_id=chosen)
            told = self.socket.get()["active_leaf"]
        else:
            url = f"/conversations/{self.session_id}"
            told = self.client.patch(url, json={"active_leaf": chosen}).json()["active_leaf"]
        assert told == self.leaf

    @there_is_something
    @rule(data=st.data(), over_socket=st.booleans())
    def delete(self, data: st.DataObject, over_socket: bool) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.nodes)))
        parent, gone = self.nodes[chosen].parent, self.below(chosen)
        beside = [key for key in self.children(parent) if key != chosen]
        older = [key for key in beside if key < chosen]
        if self.leaf in gone:
            nearest = older[-1] if older else beside[0] if beside else None
            self.leaf = parent if nearest is None else self.below(nearest)[-1]
        for key in gone:
            del self.nodes[key]
        if over_socket:
            self.socket.send(type="delete", message_id=chosen)
            told = self.socket.get()["active_leaf"]
        else:
            told = self.client.delete(f"/messages/{chosen}").json()["active_leaf"]
        assert told == self.leaf

    # What has to be so --------------------------------------------------------------------------------------

    @invariant()
    def is_as_the_model_says(self) -> None:
        url = f"/conversations/{self.session_id}"
        state = self.client.get(url).json()
        branch = self.branch(self.leaf)
        assert (state["active_leaf"], state["message_count"]) == (self.leaf, len(branch))
        history = shown(self.client, self.session_id)
        assert [message["id"] for message in history] == branch
        assert [message["sibling_ids"] for message in history] == [
            self.children(self.nodes[key].parent) for key in branch
        ]
        every = self.client.get(f"{url}/messages?limit=500").json()["messages"]
        assert {message["id"]: message["parent_id"] for message in every} == {
            key: node.parent for key, node in self.nodes.items()
        }


def test_random_actions_over_both_doors_give_the_tree_of_the_model(server: Server, model: ScriptedUpstream) -> None:
    machine = type("Machine", (Trees,), {"server": server, "upstream": model, "session_id": ""})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=size(6, 60),
            stateful_step_count=size(14, 40),
            deadline=None,
            phases=size((Phase.generate,), tuple(Phase)),
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_ids_of_nobody_are_not_found(api: APIClient) -> None:
    assert api.get(f"/conversations/{uuid.uuid4()}/messages").status_code == 404
    assert api.delete(f"/messages/{LARGEST}").status_code == 404

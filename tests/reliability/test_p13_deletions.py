"""P13: what is deleted at the moment at which it begins to be answered is stopped first, and then gone."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests import databases
from tests.conversations.helpers import Stream, blocks
from tests.processes.server import ServerProcess, manage

from .conftest import Serve
from .readers import script
from .sizes import size

pytestmark = pytest.mark.server

ROUNDS = size(16, 150)
# The deletion comes so much later than the chat: all that a chat does at its begin takes about as long (seconds).
# From a millisecond to a second: on a slow machine, too, some come before the begin and some after it.
LATER = [0.001 * 1.6**step for step in range(16)]
# So long that no deletion ever meets its end.
LONG = script(chunks=["tick ", "tock "], repeat=300, delay=0.02)
LEFT = ("conversation", "message", "generation", "generationchunk", "tokencharge")
MAKE_ACCOUNTS = """
from django.contrib.auth.models import User
from conversations.access import api_keys
from conversations.models import Scope
User.objects.create_superuser("chief", password="a-long-password")
for number in range({count}):
    user = User.objects.create_user(f"short-lived-{{number}}")
    print("key", user.pk, api_keys.make(user=user, name="tests", scopes=set(Scope))[1])
"""
Rows = dict[str, int]


class Account(NamedTuple):
    pk: str
    token: str


def accounts(server: ServerProcess, count: int) -> list[Account]:
    """Make accounts with a key each, and a superuser ``chief``."""
    printed = manage(server.env, "shell", "--command", MAKE_ACCOUNTS.format(count=count))
    return [Account(*found) for found in re.findall(r"^key (\S+) (\S+)$", printed, re.MULTILINE)]


def client_of(server: ServerProcess, account: Account | None = None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {account.token}"} if account else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False)


class Admin:
    """Django's admin as a superuser's browser, which is ``client``, uses it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._client.get("/admin/login/")
        answer = self.post("/admin/login/", username="chief", password="a-long-password", next="/admin/")
        assert answer.headers["location"] == "/admin/"

    def post(self, path: str, **fields: Any) -> httpx.Response:
        fields["csrfmiddlewaretoken"] = self._client.cookies["csrftoken"]
        answer = self._client.post(path, data=fields, headers={"Origin": str(self._client.base_url).rstrip("/")})
        assert answer.status_code == 302, (answer.status_code, answer.text[-2000:])
        return answer


def ask(client: httpx.Client, path: str, **body: Any) -> Stream | httpx.Response:
    """Begin an answer and read it to its end; the response where it was refused."""
    with client.stream("POST", path, json={"stream": True, **body}) as response:
        if response.status_code != 200:
            response.read()
            return response
        seen = Stream(response.status_code, response.headers)
        for block in blocks(response.iter_text()):
            seen.add(block)
        return seen


def left(database: Path) -> Rows:
    """How many rows there are, by table."""
    tables: list[Rows] = [
        {table: databases.rows(database, f"SELECT count(*) FROM conversations_{table}")[0]} for table in LEFT
    ]
    return {name: count for table in tables for name, count in table.items() if count}


def gone(database: Path) -> None:
    """Nothing of what was deleted is left; the last end may still be on its way."""
    deadline = time.monotonic() + 10
    while found := left(database):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def stopped_or(refused: set[int], told: Stream | httpx.Response) -> int:
    """Check what the asker got: an answer that was stopped, or a refusal that is allowed."""
    if isinstance(told, httpx.Response):
        assert told.status_code in refused, (told.status_code, told.text)
        return told.status_code
    assert [event["status"] for event in told.events if "done" in event] == ["stopped"], told.events[-3:]
    return 200


def raced(asking: Callable[[int], Any], deleting: Callable[[int], object]) -> list[Any]:
    """Ask, and delete a moment later, again and again; each round at another moment."""
    results = []
    with ThreadPoolExecutor(1) as threads:
        for number, later in zip(range(ROUNDS), itertools.cycle(LATER), strict=False):
            future: Future[Any] = threads.submit(asking, number)
            threading.Event().wait(later)
            deleting(number)
            results.append(future.result(60))
    return results


def new_conversations(client: httpx.Client) -> list[str]:
    return [client.post("/conversations").json()["session_id"] for _ in range(ROUNDS)]


@pytest.mark.parametrize("processes", [1, 2])
def test_p13_a_conversation_that_is_deleted_as_a_chat_begins(serve: Serve, database: Path, processes: int) -> None:
    servers = serve(count=processes)
    with servers[0].client() as chatting, servers[-1].client() as deleting:
        sessions = new_conversations(chatting)

        def delete(number: int) -> None:
            answer = deleting.delete(f"/conversations/{sessions[number]}")
            assert answer.status_code == 200, (answer.status_code, answer.text)
            assert deleting.get(f"/conversations/{sessions[number]}").status_code == 404

        told = raced(lambda number: ask(chatting, "/chat", session_id=sessions[number], message=LONG), delete)
    statuses = [stopped_or({404}, answer) for answer in told]
    assert 200 in statuses, "no chat was ever in time: nothing raced"
    gone(database)


def test_p13_a_conversation_that_is_deleted_as_an_answer_is_made_anew(serve: Serve, database: Path) -> None:
    server, other = serve(count=2)
    with server.client() as chatting, other.client() as deleting:
        first = [ask(chatting, "/chat", message=script(chunks=["x"], repeat=1)) for _ in range(ROUNDS)]
        ids = [answer.events[-1] for answer in first if isinstance(answer, Stream)]

        def delete(number: int) -> None:
            answer = deleting.delete(f"/conversations/{ids[number]['session_id']}")
            assert answer.status_code == 200, (answer.status_code, answer.text)

        told = raced(lambda number: ask(chatting, f"/messages/{ids[number]['message_id']}/regenerate"), delete)
    for answer in told:
        if isinstance(answer, httpx.Response):
            assert answer.status_code == 404, answer.text
        else:
            assert answer.events[-1]["status"] in {"stopped", "completed"}
    gone(database)


def test_p13_an_account_that_is_deleted_as_it_chats(serve: Serve, database: Path) -> None:
    """What it asks for then is refused as that of somebody unknown."""
    server, other = serve(count=2, REQUIRE_LOGIN="true", ALLOWED_UPSTREAM_HOSTS="127.0.0.1")
    people = accounts(server, ROUNDS)
    [everybody] = databases.rows(database, "SELECT count(*) FROM auth_user")  # those of a run with logins, too

    def asking(number: int) -> Stream | httpx.Response:
        with client_of(server, people[number]) as client:
            return ask(client, "/chat", message=LONG)

    with client_of(other) as browser:
        admin = Admin(browser)
        told = raced(asking, lambda number: admin.post(f"/admin/auth/user/{people[number].pk}/delete/", post="yes"))
    statuses = [stopped_or({401, 404}, answer) for answer in told]
    assert 200 in statuses, "no chat was ever in time: nothing raced"
    gone(database)
    assert databases.rows(database, "SELECT count(*) FROM auth_user") == [everybody - ROUNDS]


def test_p13_conversations_that_an_administrator_deletes_as_chats_begin(serve: Serve, database: Path) -> None:
    """Many at once, while they begin to be answered one after the other."""
    server, other = serve(count=2, REQUIRE_LOGIN="true", ALLOWED_UPSTREAM_HOSTS="127.0.0.1")
    [person] = accounts(server, 1)
    with client_of(server, person) as client, client_of(other) as browser:
        admin = Admin(browser)
        sessions = new_conversations(client)
        keys = [str(key) for key in databases.rows(database, "SELECT id FROM conversations_conversation")]
        with ThreadPoolExecutor(8) as threads:
            told = [
                threads.submit(ask, client, "/chat", session_id=session_id, message=LONG) for session_id in sessions
            ]
            threading.Event().wait(0.05)
            admin.post(
                "/admin/conversations/conversation/", action="delete_selected", _selected_action=keys, post="yes"
            )
            statuses = [stopped_or({404}, future.result(60)) for future in told]
    assert len(statuses) == ROUNDS
    gone(database)


def test_p13_a_conversation_that_is_pruned_as_a_chat_begins(serve: Serve, database: Path) -> None:
    """One that is being answered is never taken: what was begun comes to its end, and is there afterwards."""
    server, other = serve(count=2, conversations={"KEEP_LATEST": 1})
    short = script(chunks=["one ", "two"], delay=0.02)
    with server.client() as chatting, other.client() as creating:
        session_id = [creating.post("/conversations").json()["session_id"]]

        def create(_number: int) -> None:
            answer = creating.post("/conversations")
            assert answer.status_code == 201, (answer.status_code, answer.text)
            session_id.append(answer.json()["session_id"])

        told = raced(lambda number: ask(chatting, "/chat", session_id=session_id[number], message=short), create)
    for answer in told:
        if isinstance(answer, httpx.Response):
            assert answer.status_code == 404, (answer.status_code, answer.text)
        else:
            assert answer.events[-1]["status"] == "completed", json.dumps(answer.events[-3:])

"""The list of conversations: whose, in which order, in pages, at what cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from conversations.access.rules import Caller
from conversations.exceptions import InvalidCursor, NotAuthenticated
from conversations.models import Conversation, Message
from conversations.services import listing
from tests.upstream import ScriptedUpstream

from .helpers import chat

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYONE = Caller(sees_all=True)


def make(title: str = "", *, minutes: float = 0, user_id: str = "", **fields: Any) -> Conversation:
    """A conversation that was last active so many minutes after noon."""
    return Conversation.objects.create(
        title=title, updated_at=NOON + timedelta(minutes=minutes), user_identifier=user_id, **fields
    )


def titles(api: APIClient, **query: Any) -> list[str]:
    response = api.get("/conversations", query)
    assert response.status_code == 200, response.content
    return [item["title"] for item in response.json()["conversations"]]


def pages(caller: Caller, limit: int, **options: Any) -> Iterator[list[Conversation]]:
    """Every page of a list, from the first to the last."""
    cursor = None
    while True:
        page = listing.list_conversations(caller=caller, limit=limit, cursor=cursor, **options)
        yield page.conversations
        cursor = page.next_cursor
        if cursor is None:
            return


# What is listed -------------------------------------------------------------------------------------------------
def test_an_item_has_the_contracts_keys(api: APIClient) -> None:
    conversation = make("mine", minutes=1.5, message_count=4)
    body = api.get("/conversations").json()
    assert body == {
        "conversations": [
            {
                "session_id": str(conversation.session_id),
                "title": "mine",
                "created_at": body["conversations"][0]["created_at"],
                "updated_at": "2026-03-01T12:01:30Z",
                "message_count": 4,
                "is_pinned": False,
            }
        ],
        "next": None,
    }
    assert datetime.fromisoformat(body["conversations"][0]["created_at"]) == conversation.created_at


def test_newest_activity_comes_first(api: APIClient) -> None:
    for title, minutes in (("second", 5), ("first", 9), ("third", 1)):
        make(title, minutes=minutes)
    assert titles(api) == ["first", "second", "third"]


def test_of_equal_times_the_newest_conversation_comes_first(api: APIClient) -> None:
    for title in "abc":
        make(title)
    assert titles(api) == ["c", "b", "a"]


def test_pinned_conversations_can_be_listed_alone(api: APIClient) -> None:
    make("kept", is_pinned=True)
    make("other")
    assert titles(api, pinned="true") == ["kept"]
    assert titles(api, pinned="false") == ["other"]
    assert sorted(titles(api)) == ["kept", "other"]


def test_archived_conversations_are_a_list_of_their_own(api: APIClient) -> None:
    make("kept")
    make("put away", is_archived=True)
    assert titles(api) == titles(api, archived="false") == ["kept"]
    assert titles(api, archived="true") == ["put away"]


def test_an_open_server_shows_all_and_user_id_filters(api: APIClient) -> None:
    for minutes, (title, user_id) in enumerate((("nobody's", ""), ("kim's", "kim"), ("lee's", "lee"))):
        make(title, minutes=minutes, user_id=user_id)
    assert titles(api) == titles(api, user_id="") == ["lee's", "kim's", "nobody's"]
    assert titles(api, user_id="kim") == ["kim's"]
    assert titles(api, user_id="Kim") == titles(api, user_id="ki") == []


def test_an_account_sees_its_own_only(in_transaction: None) -> None:
    make("mine", user_id="user:1")
    make("another's", user_id="user:2")
    make("nobody's")
    page = listing.list_conversations(caller=Caller(user_identifier="user:1"))
    assert [item.title for item in page.conversations] == ["mine"]


def test_nobody_in_particular_sees_nothing(in_transaction: None) -> None:
    with pytest.raises(NotAuthenticated):
        listing.list_conversations(caller=Caller())


# Search ---------------------------------------------------------------------------------------------------------
SEARCHED = ["Weekend plans", "100% sure", "100 sure", "snake_case", "snakeXcase", "周末计划", "a\\b", "it's"]
FOUND = {
    "week": ["Weekend plans"],
    "PLANS": ["Weekend plans"],
    "周末": ["周末计划"],
    "末": ["周末计划"],
    "%": ["100% sure"],
    "_": ["snake_case"],
    "0% s": ["100% sure"],
    "\\": ["a\\b"],
    "'": ["it's"],
    "sure": ["100% sure", "100 sure"],
    "nothing like it": [],
}


@pytest.mark.parametrize("words", FOUND)
def test_search_finds_titles_that_contain_the_words(api: APIClient, words: str) -> None:
    for minutes, title in enumerate(SEARCHED):
        make(title, minutes=-minutes)
    assert titles(api, search=words) == FOUND[words]


def test_search_looks_neither_into_messages_nor_into_prompts(api: APIClient) -> None:
    conversation = make("title", system_prompt="needle")
    Message.objects.create(conversation=conversation, role="user", content="needle")
    assert titles(api, search="needle") == []


def test_an_empty_search_is_none(api: APIClient) -> None:
    make("a")
    assert titles(api, search="") == ["a"]


def test_search_archive_and_owner_narrow_together(api: APIClient) -> None:
    make("plans", user_id="kim", is_archived=True)
    make("plans of lee", user_id="lee", is_archived=True)
    make("plans of today", user_id="kim")
    make("others", user_id="kim", is_archived=True)
    assert titles(api, search="plans", archived="true", user_id="kim") == ["plans"]


# Pages ----------------------------------------------------------------------------------------------------------
def test_the_limit_is_1_to_500_and_500_by_default(api: APIClient) -> None:
    Conversation.objects.bulk_create(Conversation() for _number in range(501))
    assert len(titles(api)) == len(titles(api, limit=500)) == 500
    assert len(titles(api, limit=1)) == 1
    for limit in (0, 501, -1):
        assert api.get("/conversations", {"limit": limit}).status_code == 400


@pytest.mark.parametrize(("conversations", "expected"), [(2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_the_last_page_has_no_next(in_transaction: None, conversations: int, expected: list[int]) -> None:
    for _number in range(conversations):
        make()
    assert [len(page) for page in pages(EVERYONE, 3)] == expected


def test_next_works_as_it_is_over_a_socket_and_keeps_the_other_parameters(client: httpx.Client) -> None:
    for minutes in range(5):
        make(f"计划 100% {minutes}", minutes=minutes, user_id="kim & co", is_archived=True)
        make(f"计划 100% of today {minutes}", minutes=minutes, user_id="kim & co")
        make(f"计划 100% {minutes}", minutes=minutes, user_id="lee", is_archived=True)
    query = {"search": "计划 100%", "user_id": "kim & co", "archived": "true", "limit": "2"}
    body = client.get("/conversations", params=query).json()
    seen = [item["title"] for item in body["conversations"]]
    while body["next"]:
        url = httpx.URL(body["next"])
        assert {name: url.params[name] for name in query} == query
        assert url.params.keys() == {*query, "cursor"}
        body = httpx.get(body["next"], trust_env=False).json()
        seen += [item["title"] for item in body["conversations"]]
    assert seen == [f"计划 100% {minutes}" for minutes in (4, 3, 2, 1, 0)]


# Some in the same microsecond, some in the next.
moments = st.integers(0, 3).map(lambda microseconds: microseconds / 60_000_000)
rows = st.lists(st.tuples(moments, st.sampled_from(["", "kim", "lee"]), st.booleans()), max_size=25)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=rows, limit=st.integers(1, 8), user_id=st.sampled_from(["", "kim", "lee"]), archived=st.booleans())
def test_pages_show_every_conversation_exactly_once_in_order(
    in_transaction: None, rows: list[tuple[float, str, bool]], limit: int, user_id: str, archived: bool
) -> None:
    """Also where many were last active in the same microsecond."""
    Conversation.objects.all().delete()
    made = [make(minutes=minutes, user_id=owner, is_archived=away) for minutes, owner, away in rows]
    wanted = [c for c in made if c.is_archived == archived and user_id in ("", c.user_identifier)]
    wanted.sort(key=lambda conversation: (conversation.updated_at, conversation.pk), reverse=True)
    shown = list(pages(EVERYONE.labelled(user_id), limit, archived=archived))
    assert [item.pk for page in shown for item in page] == [item.pk for item in wanted]
    assert all(len(page) == limit for page in shown[:-1])


def test_what_becomes_active_meanwhile_is_not_shown_twice(in_transaction: None) -> None:
    made = [make(minutes=minutes) for minutes in range(6)]
    later, shown = count(100), []
    for page in pages(EVERYONE, 2):
        shown += [item.pk for item in page]
        make(minutes=next(later))
        Conversation.objects.filter(pk=page[0].pk).update(updated_at=NOON + timedelta(minutes=next(later)))
    assert shown == [item.pk for item in reversed(made)]


def test_what_is_deleted_meanwhile_loses_no_other(in_transaction: None) -> None:
    """Also when it is the very one that the cursor names."""
    made = [make(minutes=minutes) for minutes in range(6)]
    shown = []
    for page in pages(EVERYONE, 2):
        shown += [item.pk for item in page]
        page[-1].delete()
    assert shown == [item.pk for item in reversed(made)]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cursor=st.text(min_size=1, max_size=60) | st.from_regex(r"[A-Za-z0-9_=-]{1,60}", fullmatch=True))
def test_any_other_cursor_is_refused_by_name(in_transaction: None, cursor: str) -> None:
    with suppress(InvalidCursor):
        listing.list_conversations(caller=EVERYONE, cursor=cursor)


# Cost -----------------------------------------------------------------------------------------------------------
def queries_of(api: APIClient, **query: Any) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        titles(api, **query)
    return [query["sql"] for query in queries.captured_queries]


def test_a_list_is_one_query_however_long_and_loads_no_texts(api: APIClient) -> None:
    costs = []
    for _round in range(2):
        for _number in range(20):
            conversation = make("plans", system_prompt="a long prompt")
            Message.objects.create(conversation=conversation, role="user", content="a long message")
        costs.append(queries_of(api, search="plans", limit=15))
    assert [len(cost) for cost in costs] == [1, 1]
    for sql in (sql for cost in costs for sql in cost):
        assert "system_prompt" not in sql
        assert "conversations_message" not in sql
        assert '"content"' not in sql


def test_every_page_costs_the_same(api: APIClient) -> None:
    for minutes in range(30):
        make(minutes=minutes)
    url = "/conversations?limit=7"
    while url:
        with CaptureQueriesContext(connection) as queries:
            url = api.get(url).json()["next"]
        assert len(queries) == 1
        assert "OFFSET" not in queries.captured_queries[0]["sql"]


@pytest.mark.parametrize("user_id", ["", "kim"])
def test_a_page_is_read_from_the_index_without_sorting(api: APIClient, user_id: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("reads SQLite's plans")
    for minutes in range(40):
        make(minutes=minutes, user_id="kim")
    query: dict[str, Any] = {"user_id": user_id, "limit": 7}
    following = api.get("/conversations", query).json()["next"]
    cursor = httpx.URL(following).params["cursor"]
    for sql in queries_of(api, **query) + queries_of(api, **query, cursor=cursor):
        with connection.cursor() as plan:
            plan.execute(f"EXPLAIN QUERY PLAN {sql}")
            steps = [step[-1] for step in plan.fetchall()]
        assert len(steps) == 1
        assert re.search(r"USING INDEX conv_\w*activity \((user_identifier=\? AND )?is_archived=\?", steps[0])


# Activity -------------------------------------------------------------------------------------------------------
def test_a_message_is_activity(client: httpx.Client, model: ScriptedUpstream) -> None:
    first, second = (chat(client, "hi").done["session_id"] for _number in range(2))

    def listed() -> list[str]:
        return [item["session_id"] for item in client.get("/conversations").json()["conversations"]]

    assert listed() == [second, first]
    chat(client, "again", session_id=first)
    assert listed() == [first, second]
    chat(client, "and again", session_id=second)
    assert listed() == [second, first]

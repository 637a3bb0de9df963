"""How often somebody may call, how many answers at a time, and how large what they send may be."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from limits import parse
from rest_framework.exceptions import ParseError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conversations import checks
from conversations.access.credentials import Connection, client_block
from conversations.exceptions import InvalidRequest, RateLimited
from conversations.limits import allowances, rates
from conversations.limits.rates import Counter, Window
from conversations.models import Allowance, Conversation, Message, Relay
from conversations.web.parsers import loads
from tests.conftest import Server
from tests.conversations.accounts import bearer, key_of, make_key, require_login, session_of
from tests.conversations.calling import calling, until
from tests.reliability.redis_server import RedisServer
from tests.upstream import ScriptedUpstream, answer

from .helpers import chat, stream, whole_chat

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


def remaining(response: httpx.Response) -> int:
    return int(response.headers["RateLimit-Remaining"])


@pytest.fixture
def kim(presets: None, settings: Any) -> User:
    """An account on a server with login that takes 5 requests an hour of each."""
    require_login(settings, RATE_LIMIT="5/hour")
    return User.objects.create_user("kim")


@pytest.fixture
def kims(server: Server, kim: User) -> Iterator[httpx.Client]:
    with calling(server, make_key(kim)) as client:
        yield client


# Requests ---------------------------------------------------------------------------------------------------


def test_every_answer_tells_what_is_left(kims: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    model.script = [answer("hi"), answer("hi")]
    require_login(settings, RATE_LIMIT="5/hour")
    answers = [kims.get("/conversations"), kims.get("/conversations/nope"), kims.put("/chat"), whole_chat(kims, "hi")]
    assert [response.status_code for response in answers] == [200, 404, 405, 200]
    assert [remaining(response) for response in answers] == [4, 3, 2, 1]
    streamed = chat(kims, "hi")
    assert streamed.headers["RateLimit-Remaining"] == "0"
    assert streamed.done["status"] == "completed"
    refused = kims.get("/conversations")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["RateLimit-Limit"] == "5"
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["Retry-After"]) == refused.json()["retry_after"] <= 3600


def test_a_refused_request_does_nothing(kims: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="1/hour")
    kims.get("/conversations")
    assert stream(kims, "POST", "/chat", json={"message": "hi"}).status == 429
    assert not Conversation.objects.exists()
    assert model.calls == 0


def test_each_account_has_a_count_of_its_own(server: Server, kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="1/hour")
    for token in (make_key(kim), make_key(User.objects.create_user("lee"))):
        with calling(server, token) as client:
            assert [client.get("/conversations").status_code for _ in range(2)] == [200, 429]


def test_an_account_has_one_count_whatever_it_shows(server: Server, kim: User, settings: Any) -> None:
    """Keys, sessions, over HTTP and on sockets: else it could go on with the next of its keys, and keys make keys."""
    require_login(settings, RATE_LIMIT="6/hour")
    codes = []
    token = make_key(kim)
    with calling(server, None) as client:
        for _ in range(3):  # each key makes the next
            made = client.post("/api/keys", headers=bearer(token), json={"name": "n", "scopes": ["keys", "read"]})
            codes.append(made.status_code)
            token = made.json()["key"]
        codes.append(client.get("/conversations", headers=bearer(token)).status_code)
        codes.append(client.get("/conversations", headers=session_of(kim)).status_code)
        with connect(server.ws_url, additional_headers=bearer(token), proxy=None) as connection:
            connection.send('{"type": "ping"}')
            assert connection.recv(timeout=10) == '{"type": "pong"}'
        assert codes == [201, 201, 201, 200, 200]
        for headers in (bearer(token), key_of(kim), session_of(kim)):
            assert client.get("/conversations", headers=headers).status_code == 429
    with connect(server.ws_url, additional_headers=key_of(kim), proxy=None) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429


def test_a_flood_of_wrong_keys_is_refused_and_locks_out_nobody(server: Server, kim: User) -> None:
    token = make_key(kim)
    with calling(server, "chatkey_wrong") as wrong, calling(server, None) as nobody, calling(server, token) as right:
        codes = [client.get("/conversations").status_code for _ in range(3) for client in (wrong, nobody)]
        assert codes == [401, 401, 401, 401, 401, 429]
        assert right.get("/conversations").status_code == 200


def test_an_open_server_does_not_count(client: httpx.Client, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "RATE_LIMIT": "1/hour"}
    for _ in range(3):
        response = client.get("/conversations")
        assert response.status_code == 200
        assert not [name for name in HEADERS if name in response.headers]


def test_without_a_rate_there_is_no_limit(kims: httpx.Client, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="")
    answers = [kims.get("/conversations") for _ in range(8)]
    assert {response.status_code for response in answers} == {200}
    assert not [name for name in HEADERS if name in answers[0].headers]


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("testclient", ""),
    ],
)
def test_of_ipv6_a_subscribers_network_counts(peer: str, network: str) -> None:
    assert client_block(Connection(peer, {})) == network


def test_there_is_room_again_when_the_answer_said(settings: Any) -> None:
    require_login(settings, RATE_LIMIT="2/second")
    connection = Connection("203.0.113.9", {})
    assert [window and window.remaining for window in (rates.check_rate(connection) for _ in range(2))] == [1, 0]
    with pytest.raises(RateLimited) as refused:
        rates.check_rate(connection)
    assert refused.value.retry_after == 1
    time.sleep(refused.value.retry_after)
    assert rates.check_rate(connection)


def test_many_threads_get_as_many_as_there_are() -> None:
    counter, rate = Counter(""), parse("100/hour")
    with ThreadPoolExecutor(16) as threads:
        hits = list(threads.map(lambda _: counter.hit("x", rate)[1], range(400)))
    assert hits.count(True) == 100


def test_counting_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    counter, rate = Counter(""), parse("100/hour")
    monkeypatch.setattr(threading.Thread, "start", started.append)
    for number in range(50):
        counter.hit(f"{number}", rate)
    assert started == []


def test_what_ran_out_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SWEEP_INTERVAL", 0.0)
    memory = rates.Memory()
    memory.incr("old", 0)
    memory.incr("new", 60)
    memory.sweep()
    assert list(memory.storage) == ["new"]
    monkeypatch.setattr(rates, "MAX_COUNTS", 1)
    memory.sweep()
    assert not memory.storage


# Redis ------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a moment is not taken for a Redis that is down."""
    monkeypatch.setattr(rates, "REDIS_TIMEOUT", 10.0)


@pytest.mark.usefixtures("patient")
def test_processes_count_together_in_redis(redis_server: RedisServer) -> None:
    first, second, rate = Counter(redis_server.url), Counter(redis_server.url), parse("3/hour")
    taken = [counter.hit("key:1", rate) for counter in (first, second, first, second)]
    assert [allowed for _window, allowed in taken] == [True, True, True, False]
    assert [window.remaining for window, _allowed in taken] == [2, 1, 0, 0]
    assert second.look("key:1", rate).remaining == 0
    assert second.hit("key:2", rate)[1]


@pytest.mark.usefixtures("patient")
def test_while_redis_is_down_each_process_counts(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "REDIS_PAUSE", 0.0)
    counter, rate = Counter(redis_server.url), parse("2/hour")
    assert counter.hit("x", rate) == (Window(2, 1, counter.look("x", rate).reset), True)
    redis_server.kill()
    with caplog.at_level(logging.WARNING, "conversations.limits"):
        assert [counter.hit("x", rate)[1] for _ in range(3)] == [True, True, False]
    assert len(caplog.records) == 1
    redis_server.start()
    assert [counter.hit("x", rate)[1] for _ in range(3)] == [True, True, False]
    assert len(caplog.records) == 1


def test_a_redis_that_is_silent_is_left_alone(redis_server: RedisServer) -> None:
    """Every request would wait for it otherwise."""
    counter, rate = Counter(redis_server.url), parse("100/hour")
    redis_server.kill()
    counter.hit("x", rate)
    redis_server.start()
    assert counter.hit("x", rate)[0].remaining == 98  # the second in memory


# Allowances -------------------------------------------------------------------------------------------------


def test_an_allowance_says_otherwise_field_by_field(kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="5/hour", MAX_ANSWERS_PER_CALLER=3, TOKENS_PER_DAY=100)
    assert allowances.look_up(kim) == allowances.Limits("5/hour", 3, 100)
    groups = [Group.objects.create(name=name) for name in ("a", "b", "c")]
    kim.groups.set(groups[:2])
    Allowance.objects.create(group=groups[0], requests_per_minute=10, max_answers=1, group_tokens_per_day=7)
    Allowance.objects.create(group=groups[1], requests_per_minute=20, tokens_per_day=50)
    Allowance.objects.create(group=groups[2], requests_per_minute=1000, max_answers=1000, tokens_per_day=1000)
    together = ((groups[0].pk, 7),)
    assert allowances.look_up(kim) == allowances.Limits("20/minute", 1, 50, together)
    own = Allowance.objects.create(user=kim, max_answers=2, requests_per_minute=0)
    assert allowances.look_up(kim) == allowances.Limits("", 2, 50, together)
    own.delete()
    Allowance.objects.filter(group=groups[0]).update(requests_per_minute=0)
    assert allowances.look_up(kim).rate == ""


@pytest.mark.parametrize("groups", ["a property", "another model's"])
def test_groups_of_a_project_that_are_not_djangos_have_no_allowance(
    monkeypatch: pytest.MonkeyPatch, groups: str
) -> None:
    """Their ids are others: a number of theirs would mean a group of Django's, and a UUID be an error."""
    memberships = User.user_permissions.through
    teams = SimpleNamespace(
        name="groups",
        related_model=Permission,
        remote_field=SimpleNamespace(through=memberships),
        m2m_field_name=lambda: "user",
        m2m_reverse_field_name=lambda: "permission",
    )
    fields = {} if groups == "a property" else {"groups": teams}
    meta = SimpleNamespace(many_to_many=list(fields.values()), get_field=fields.__getitem__)
    assert "auth_user_groups" in str(allowances._of_an_account().query)
    monkeypatch.setattr(allowances, "get_user_model", lambda: SimpleNamespace(groups=(), _meta=meta))
    assert memberships._meta.db_table not in str(allowances._of_an_account().query)
    # A model that inherits of Django's has its groups, and their ids.
    monkeypatch.setattr(allowances, "Group", Permission.__base__)
    assert (memberships._meta.db_table in str(allowances._of_an_account().query)) == (groups != "a property")


def test_an_allowance_is_looked_up_with_one_query_and_kept(
    kim: User, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with django_assert_num_queries(1):
        allowances.limits_of(kim)
        allowances.limits_of(kim)
    Allowance.objects.create(user=kim, requests_per_minute=7)
    assert allowances.limits_of(kim).rate == "5/hour"
    monkeypatch.setattr(allowances, "KEPT_SECONDS", 0.0)
    assert allowances.limits_of(kim).rate == "7/minute"


def test_an_allowance_counts_for_requests(kims: httpx.Client, kim: User) -> None:
    Allowance.objects.create(user=kim, requests_per_minute=1000)
    assert kims.get("/conversations").headers["RateLimit-Limit"] == "1000"


def test_an_allowance_is_a_users_or_a_groups(kim: User) -> None:
    group = Group.objects.create(name="a")
    for values in ({}, {"user": kim, "group": group}, {"user": kim, "group_tokens_per_day": 1}):
        with pytest.raises(ValidationError):
            Allowance(**values).full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            Allowance.objects.create(**values)


# Answers at a time ------------------------------------------------------------------------------------------


def test_an_account_has_so_many_answers_at_a_time(kims: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="", MAX_ANSWERS_PER_CALLER=2)
    model.script = [answer("a", gate="g") for _ in range(2)]
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(whole_chat, kims, "hi") for _ in range(12)]
        model.wait_until(lambda: model.calls == 2)
        try:
            until(lambda: sum(call.done() for call in asked) == 10)
        finally:
            model.gate("g").open()
    responses = [call.result() for call in asked]
    refused = [response for response in responses if response.status_code != 200]
    assert {(r.status_code, r.json()["code"], r.headers["Retry-After"]) for r in refused} == {
        (429, "too_many_answers", "5")
    }
    assert len(refused) == 10
    assert model.calls == 2
    assert Message.objects.count() == 4
    assert whole_chat(kims, "again").status_code == 200


def test_keys_of_an_account_share_its_answers_and_its_tokens(
    kims: httpx.Client, kim: User, model: ScriptedUpstream, settings: Any
) -> None:
    require_login(settings, MAX_ANSWERS_PER_CALLER=1, TOKENS_PER_DAY=1)
    model.script = [answer("a", gate="g")]
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(whole_chat, kims, "hi")
        model.wait_until(lambda: model.calls == 1)
        Allowance.objects.create(user=kim, tokens_per_day=0)
        refused = kims.post("/chat", headers=key_of(kim), json={"message": "hi"})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_answers")
        model.gate("g").open()
        assert first.result().status_code == 200
    Allowance.objects.all().delete()
    refused = kims.post("/chat", headers=key_of(kim), json={"message": "hi"})
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")


def test_a_process_makes_so_many_answers_at_a_time(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    """On an open server too."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_ANSWERS_PER_PROCESS": 1}
    model.script = [answer("a", gate="g")]
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(whole_chat, client, "hi")
        model.wait_until(lambda: model.calls == 1)
        busy = whole_chat(client, "hi")
        assert (busy.status_code, busy.json()["code"], busy.headers["Retry-After"]) == (503, "server_busy", "5")
        model.gate("g").open()
        assert first.result().status_code == 200
    assert Conversation.objects.count() == 1
    assert whole_chat(client, "hi").status_code == 200


# Sockets ----------------------------------------------------------------------------------------------------


def frames(connection: Any, *sent: dict[str, Any]) -> list[dict[str, Any]]:
    for frame in sent:
        connection.send(json.dumps(frame))
    return [json.loads(connection.recv(timeout=10)) for _frame in sent]


def close_code(connection: Any) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    return closed.value.rcvd.code if closed.value.rcvd else None


STOP = {"type": "stop", "id": "x", "generation_id": "6f1c0b8e-8f0f-4d43-9a39-0c7d64a0f2f1"}


def test_acting_frames_count_and_a_refused_one_closes_nothing(server: Server, kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="3/hour")
    headers = bearer(make_key(kim))
    with connect(server.ws_url, additional_headers=headers, proxy=None) as connection:
        codes = [frame["error"]["code"] for frame in frames(connection, STOP, {**STOP, "generation_id": "?"}, STOP)]
        assert sorted(codes) == ["not_found", "not_found", "rate_limited"]
        [refused] = frames(connection, STOP)
        assert (refused["type"], refused["id"], refused["error"]["status"]) == ("refused", "x", 429)
        assert refused["error"]["retry_after"] >= 1
        assert frames(connection, {"type": "ping"}) == [{"type": "pong"}]
    with connect(server.ws_url, additional_headers=headers, proxy=None) as connection:
        assert close_code(connection) == 4429


def test_sockets_that_show_nothing_or_nothing_good_count_by_address(server: Server, kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="3/hour")
    wrong = {"Authorization": "Bearer chatkey_wrong"}
    with connect(server.ws_url, additional_headers=wrong, proxy=None) as connection:
        assert close_code(connection) == 4401
    with connect(server.ws_url, proxy=None) as connection:
        connection.send(json.dumps({"type": "authenticate", "key": "chatkey_wrong"}))
        assert json.loads(connection.recv(timeout=10))["error"]["code"] == "invalid_key"
        assert close_code(connection) == 4401
    for headers in (wrong, {}):
        with connect(server.ws_url, additional_headers=headers, proxy=None) as connection:
            assert close_code(connection) == 4429
    right = bearer(make_key(kim))
    with connect(server.ws_url, additional_headers=right, proxy=None) as connection:
        assert frames(connection, {"type": "ping"}) == [{"type": "pong"}]


def test_a_wrong_key_over_the_limit_is_refused_and_closes_the_socket(server: Server, kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="1/hour")
    with connect(server.ws_url, proxy=None) as connection:
        [refused] = frames(connection, {"type": "authenticate", "key": "chatkey_wrong"})
        assert refused["error"]["code"] == "rate_limited"
        assert close_code(connection) == 4429


# One's own limits -------------------------------------------------------------------------------------------


def test_a_caller_sees_their_limits(kims: httpx.Client, kim: User, settings: Any) -> None:
    require_login(settings, RATE_LIMIT="5/hour", MAX_ANSWERS_PER_CALLER=3, TOKENS_PER_DAY=100)
    shown = kims.get("/api/limits").json()
    assert shown["requests"].keys() == {"limit", "remaining", "resets_in"}
    assert (shown["requests"]["limit"], shown["requests"]["remaining"]) == (5, 4)
    assert shown["answers"] == {"limit": 3, "running": 0}
    assert (shown["tokens"]["limit"], shown["tokens"]["spent"]) == (100, 0)
    assert shown["tokens"]["resets_at"].endswith("T00:00:00Z")
    group = Group.objects.create(name="a")
    kim.groups.add(group)
    Allowance.objects.create(group=group, group_tokens_per_day=50)
    assert kims.get("/api/limits").json()["tokens"]["limit"] == 50


def test_an_answer_that_is_passed_on_is_among_those_that_run(kims: httpx.Client, kim: User, settings: Any) -> None:
    require_login(settings, MAX_ANSWERS_PER_CALLER=1)
    Relay.objects.create(user_identifier=f"user:{kim.pk}", owner=kim, model_type="default")
    Relay.objects.create(user_identifier="user:0", model_type="default")
    assert kims.get("/api/limits").json()["answers"] == {"limit": 1, "running": 1}


def test_on_an_open_server_nothing_is_limited(client: httpx.Client) -> None:
    assert client.get("/api/limits").json() == {
        "requests": None,
        "answers": None,
        "tokens": None,
        "attachments": {"limit": 209_715_200, "bytes": 0, "files_limit": 2_000, "files": 0},
    }


# What is sent -----------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


def test_json_may_be_nested_so_deep() -> None:
    assert loads(nested(20))
    assert loads('{"a": ' + "[" * 19 + "]" * 19 + "}")
    for deep in (nested(21), '{"a": ' + "[" * 20 + "]" * 20 + "}"):
        with pytest.raises(ParseError):
            loads(deep)


@pytest.mark.parametrize("place", ['{"a": %s}', '{"a": {"b": [[], %s]}}'])
def test_a_list_in_json_may_be_so_long(place: str) -> None:
    assert loads(place % json.dumps([0] * 1000))
    with pytest.raises(InvalidRequest):
        loads(place % json.dumps([0] * 1001))


# Settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["300/minute", "1/second", "9/hour", "7/day", ""])
def test_rates(settings: Any, rate: str) -> None:
    settings.CONVERSATIONS = {"RATE_LIMIT": rate}
    assert checks.check_rate_limit(None) == []


@pytest.mark.parametrize("rate", ["300", "0/minute", "-1/minute", "3/fortnight", "3 per minute", "3/minute;4/hour"])
def test_what_is_no_rate(settings: Any, rate: str) -> None:
    settings.CONVERSATIONS = {"RATE_LIMIT": rate}
    assert [message.id for message in checks.check_rate_limit(None)] == ["conversations.E011"]


def test_a_storage_that_is_none_is_not_shown(settings: Any) -> None:
    settings.CONVERSATIONS = {"RATE_LIMIT_STORAGE": "memcached://user:hunter2@host"}
    [message] = checks.check_rate_limit(None)
    assert message.id == "conversations.E011"
    assert "hunter2" not in str(message)

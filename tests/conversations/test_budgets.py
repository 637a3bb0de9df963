"""Tokens: reserved before the model is asked, settled whatever ends the answer."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations.access.rules import Caller
from conversations.engine import workers
from conversations.engine.events import CONTENT, REASONING, Ending, Piece
from conversations.engine.storage import finish, store
from conversations.exceptions import BudgetExhausted
from conversations.limits import budgets
from conversations.limits.estimates import estimate
from conversations.models import Allowance, Conversation, Generation, Message, TokenBudget, TokenCharge, Worker
from conversations.services import replies
from tests import databases
from tests.conftest import Server
from tests.conversations.accounts import make_key, require_login
from tests.conversations.calling import calling, until
from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, answer, run_upstream_in_thread, status

from .helpers import chat, stream, streaming, whole_chat
from .log_rows import entry

PROMPT, LONGEST = 100, 1000
RESERVED = PROMPT + LONGEST


@pytest.fixture
def kim(presets: None, settings: Any) -> User:
    """An account that may spend 10,000 tokens a day."""
    require_login(settings, RATE_LIMIT="", MAX_ANSWERS_PER_CALLER=0, TOKENS_PER_DAY=10_000)
    return User.objects.create_user("kim")


@pytest.fixture
def kims(server: Server, kim: User) -> Iterator[httpx.Client]:
    with calling(server, make_key(kim)) as client:
        yield client


def spent(subject: str | User = "") -> int:
    """What is in a subject's budget of today; without one, in the only budget there is."""
    subject = f"user:{subject.pk}" if isinstance(subject, User) else subject
    rows = TokenBudget.objects.filter(day=budgets.today())
    return int((rows.get(subject=subject) if subject else rows.get()).spent)


def running(user: User, *pieces: Piece) -> Generation:
    """A running answer with a reservation, as `start_reply` makes one, and this text."""
    identifier = f"user:{user.pk}"
    conversation = Conversation.objects.create(owner=user, user_identifier=identifier)
    message = Message.objects.create(conversation=conversation, role="assistant")
    generation = Generation.objects.create(
        message=message, active_for=conversation, worker=Worker.objects.create(host="h", pid=1), owner=user
    )
    account = budgets.account_of(Caller.of(user))
    account.reserve(generation.pk, prompt_tokens=PROMPT, max_tokens=LONGEST)
    store([entry(generation.pk, *pieces)])
    return generation


# Spending ---------------------------------------------------------------------------------------------------


def usage(total: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": total - 1, "total_tokens": total}


TEXT = (Piece(2, REASONING, "hm"), Piece(8, CONTENT, "answer"))
OF_TEXT = PROMPT + estimate("hmanswer")
ENDINGS = {
    "completed, counted": (Ending("completed", usage=usage(321)), TEXT, 321),
    "completed, not counted": (Ending("completed"), TEXT, OF_TEXT),
    "completed without a word": (Ending("completed"), (), PROMPT),
    "counted absurdly": (Ending("completed", usage=usage(2**31 - 1)), TEXT, RESERVED * 3),
    "stopped": (Ending("stopped"), TEXT, OF_TEXT),
    "stopped before a word": (Ending("stopped"), (), PROMPT),
    "interrupted": (Ending("interrupted"), TEXT, OF_TEXT),
    "interrupted before a word": (Ending("interrupted"), (), PROMPT),
    "failed": (Ending("failed", error_code="upstream_timeout"), TEXT, OF_TEXT),
    "failed before a word": (Ending("failed", error_code="upstream_timeout"), (), 0),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_an_ended_answer_costs_what_it_used(kim: User, case: str) -> None:
    ending, text, cost = ENDINGS[case]
    generation = running(kim, *text[:1])
    assert spent() == RESERVED
    assert finish(generation.pk, ending, tail=text[1:])
    assert spent() == cost
    assert not finish(generation.pk, ending, tail=text[1:])
    budgets.settle([budgets.Outcome(generation.pk, "stopped", 5, "")])
    assert spent() == cost
    assert not TokenCharge.objects.exists()


def test_a_batch_settles_each_of_its_answers(kim: User) -> None:
    first, second, third = running(kim), running(kim), running(kim)
    store([entry(first.pk, ending=Ending("completed", usage=usage(10))), entry(second.pk, ending=Ending("stopped"))])
    assert spent() == 10 + PROMPT + RESERVED
    assert [charge.generation_id for charge in TokenCharge.objects.all()] == [third.pk]


def test_what_a_dead_process_left_is_settled(kim: User) -> None:
    generation = running(kim, *TEXT)
    assert generation.worker_id
    workers.give_up(generation.worker_id)
    assert spent() == OF_TEXT


@pytest.mark.parametrize("what", ["conversation", "conversations", "message", "generation", "account"])
def test_a_running_answer_that_is_deleted_costs_what_it_used(kim: User, what: str) -> None:
    """A whole group's budget would lack it for the rest of the day."""
    group = Group.objects.create(name="a")
    kim.groups.add(group)
    Allowance.objects.create(group=group, group_tokens_per_day=5000)
    generation = running(kim, *TEXT)
    subject = f"group:{group.pk}"
    assert spent(subject) == RESERVED
    doomed: Any = {
        "conversation": generation.message.conversation,
        "conversations": Conversation.objects.all(),
        "message": generation.message,
        "generation": generation,
        "account": kim,
    }[what]
    doomed.delete()
    assert spent(subject) == OF_TEXT
    assert not TokenCharge.objects.exists()


def test_without_budgets_an_end_costs_one_query_more(kim: User, settings: Any) -> None:
    require_login(settings, TOKENS_PER_DAY=0)
    generation = running(kim)
    assert not TokenBudget.objects.exists()
    with CaptureQueriesContext(connection) as queries:
        finish(generation.pk, Ending("completed"))
    asked = [query["sql"] for query in queries if "tokencharge" in query["sql"] or "tokenbudget" in query["sql"]]
    assert len(asked) == 1
    assert asked[0].startswith("SELECT")


def test_who_looked_before_another_spent_finds_nothing_left(kim: User) -> None:
    """As other processes and threads do: what was seen before the transaction does not count in it."""
    Allowance.objects.create(user=kim, tokens_per_day=1)
    first, second = (budgets.account_of(Caller.of(kim)) for _ in range(2))
    generation = running(kim)
    with pytest.raises(BudgetExhausted):
        second.reserve(generation.pk, prompt_tokens=1, max_tokens=1)
    with pytest.raises(BudgetExhausted):
        budgets.account_of(Caller.of(kim))
    finish(generation.pk, Ending("failed"))
    assert first.reserve(generation.pk, prompt_tokens=1, max_tokens=1)
    assert spent() == 2


def test_budgets_of_long_ago_are_dropped_when_a_new_one_is_made(kim: User) -> None:
    for days in (budgets.KEPT_DAYS, budgets.KEPT_DAYS + 1):
        TokenBudget.objects.create(subject=f"user:{kim.pk}", day=budgets.today() - timedelta(days=days))
    budgets.account_of(Caller.of(kim))
    days_ago = [(budgets.today() - row.day).days for row in TokenBudget.objects.order_by("day")]
    assert days_ago == [budgets.KEPT_DAYS, 0]


# Over the API -----------------------------------------------------------------------------------------------


def test_fifty_requests_at_once_on_a_budget_of_one(kims: httpx.Client, model: ScriptedUpstream, kim: User) -> None:
    Allowance.objects.create(user=kim, tokens_per_day=1)
    model.script = [answer("a", gate="g", usage={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25})]
    with ThreadPoolExecutor(50) as threads:
        asked = [threads.submit(whole_chat, kims, "hi") for _ in range(50)]
        try:
            until(lambda: sum(call.done() for call in asked) == 49)
        finally:
            model.gate("g").open()
        responses = [call.result() for call in asked]
    refused = [response for response in responses if response.status_code != 200]
    assert len(refused) == 49
    assert {(response.status_code, response.json()["code"]) for response in refused} == {(429, "budget_exhausted")}
    assert all(1 <= int(response.headers["Retry-After"]) <= 86_400 for response in refused)
    assert model.calls == 1
    assert Message.objects.count() == 2
    assert spent() == 25


def test_regenerate_and_sockets_verbs_spend_too(kims: httpx.Client, kim: User, model: ScriptedUpstream) -> None:
    model.script = [answer("a"), answer("b")]
    message_id = chat(kims, "hi").done["message_id"]
    before = spent()
    assert stream(kims, "POST", f"/messages/{message_id}/regenerate").done["status"] == "completed"
    assert spent() > before > 0
    Allowance.objects.create(user=kim, tokens_per_day=spent())
    refused = kims.post(f"/messages/{message_id}/regenerate")
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
    assert Generation.objects.count() == 2


def test_a_request_that_is_sent_again_costs_nothing(kims: httpx.Client, kim: User, model: ScriptedUpstream) -> None:
    Allowance.objects.create(user=kim, tokens_per_day=1)
    headers = {"Idempotency-Key": "once"}
    first, again = (kims.post("/chat", json={"message": "hi", "stream": False}, headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.json()["generation_id"] == again.json()["generation_id"]
    assert model.calls == 1


def test_one_key_sent_at_once_on_a_budget_of_one_is_one_answer(
    kims: httpx.Client, kim: User, model: ScriptedUpstream
) -> None:
    Allowance.objects.create(user=kim, tokens_per_day=1)
    headers = {"Idempotency-Key": "once"}

    def ask(_number: int) -> httpx.Response:
        return kims.post("/chat", json={"message": "hi", "stream": False}, headers=headers)

    with ThreadPoolExecutor(20) as threads:
        responses = list(threads.map(ask, range(20)))
    assert {response.status_code for response in responses} == {200}
    assert model.calls == 1


class Spent(budgets.Account):
    """An account whose budget another spends between the look at it and the transaction."""

    def reserve(self, generation_id: uuid.UUID, *, prompt_tokens: int, max_tokens: int) -> tuple[int, ...]:
        raise budgets.exhausted()


@pytest.mark.parametrize("refusal", ["before the transaction", "in it"])
def test_a_key_whose_answer_came_in_between_gets_that_answer(
    kims: httpx.Client, kim: User, model: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    """Two requests with one key looked for its answer before there was one; the quicker took what was left."""
    Allowance.objects.create(user=kim, tokens_per_day=1)
    headers = {"Idempotency-Key": "once"}
    first = kims.post("/chat", json={"message": "hi", "stream": False}, headers=headers).json()
    look, calls = replies.stored_reply, count()
    monkeypatch.setattr(replies, "stored_reply", lambda *given: look(*given) if next(calls) else None)
    if refusal == "in it":
        monkeypatch.setattr(budgets, "account_of", lambda _caller: Spent(0, "", 0, ()))
    again = kims.post("/chat", json={"message": "hi", "stream": False}, headers=headers).json()
    assert again["generation_id"] == first["generation_id"]


def test_a_stopped_answer_costs_its_text(kims: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer("kept", "never", gate="g", gate_at=1)]
    with streaming(kims, "POST", "/chat", json={"message": "hi"}) as (result, blocks):
        while result.text != "kept":
            next(blocks)
        reserved = spent()
        kims.post(f"/generations/{result.headers['x-generation-id']}/stop")
        list(blocks)
    assert reserved > 1000
    assert 10 < spent() < 100


def test_a_failed_answer_costs_nothing(kims: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [status(401, {"error": {"message": "no"}})]
    assert whole_chat(kims, "hi").status_code == 502
    assert spent() == 0


def test_an_account_spends_its_own_budget_and_its_groups(
    server: Server, kims: httpx.Client, kim: User, model: ScriptedUpstream
) -> None:
    lee = User.objects.create_user("lee")
    group = Group.objects.create(name="a")
    group.user_set.add(kim, lee)
    Allowance.objects.create(group=group, group_tokens_per_day=1)
    model.script = [answer("a", usage={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25})]
    assert whole_chat(kims, "hi").status_code == 200
    assert (spent(kim), spent(f"group:{group.pk}")) == (25, 25)
    with calling(server, make_key(lee)) as lees:
        assert whole_chat(lees, "hi").json()["code"] == "budget_exhausted"
    assert spent(lee) == 0


def test_a_title_is_paid_from_the_same_budget(kims: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    require_login(settings, TITLES="model")
    counts = ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}, {"total_tokens": 700})
    model.script = [answer("a", usage=counts[0]), answer("A title", usage={**counts[0], **counts[1]})]
    chat(kims, "hi")
    until(lambda: Conversation.objects.filter(title="A title").exists())
    assert spent() == 710


def test_on_an_open_server_nothing_is_spent(client: httpx.Client, model: ScriptedUpstream, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TOKENS_PER_DAY": 1}
    assert [whole_chat(client, "hi").status_code for _ in range(2)] == [200, 200]
    assert not TokenBudget.objects.exists()


# Processes --------------------------------------------------------------------------------------------------

MAKE_ACCOUNT = "from django.contrib.auth.models import User; User.objects.create_user('kim')"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[list[ServerProcess], str, ScriptedUpstream, Path]]:
    """Two server processes on one database, the key of an account that has a budget of one token, the upstream."""
    with run_upstream_in_thread() as upstream:
        env = environment(
            tmp_path,
            REQUIRE_LOGIN="true",
            TOKENS_PER_DAY="1",
            RATE_LIMIT="none",
            MAX_ANSWERS_PER_CALLER="0",
            LLM_API_URL=upstream.url,
            LLM_MODEL="scripted",
        )
        manage(env, "migrate", "--verbosity=0")
        manage(env, "shell", "-v", "0", "-c", MAKE_ACCOUNT)
        token = manage(env, "create_api_key", "kim", "--name", "test").strip()
        first, second = (ServerProcess("uvicorn", env, tmp_path / f"{number}.log") for number in (1, 2))
        with first, second:
            yield [first, second], token, upstream, tmp_path


@pytest.mark.server
def test_fifty_requests_to_two_processes_overspend_by_one_answer_and_a_killed_one_is_settled(two: Any) -> None:
    servers, token, upstream, database = two
    # Of the answer that begins: a word, and then nothing until its process is killed.
    upstream.script = [answer("kept", "never", gate="g", gate_at=1)]
    with calling(servers[0].url, token) as first, calling(servers[1].url, token) as second:

        def ask(number: int) -> int | str:
            try:
                return stream((first, second)[number % 2], "POST", "/chat", json={"message": "hi"}).status
            except httpx.TransportError:
                return "killed"

        with ThreadPoolExecutor(50) as threads:
            asked = [threads.submit(ask, number) for number in range(50)]
            try:
                until(lambda: sum(call.done() for call in asked) == 49)
                [begun] = [number for number, call in enumerate(asked) if not call.done()]
                until(lambda: databases.rows(database, "SELECT text FROM conversations_generationchunk"))
                reserved = databases.rows(database, "SELECT spent FROM conversations_tokenbudget")
                servers[begun % 2].signal(signal.SIGKILL)
            finally:
                upstream.gate("g").open()
            answers = [call.result() for call in asked]
            servers[begun % 2].wait()
    assert sorted(answers, key=str) == [429] * 49 + ["killed"]
    assert upstream.calls == 1
    assert reserved[0] > 1000
    until(lambda: databases.rows(database, "SELECT status FROM conversations_generation") == ["interrupted"])
    assert 10 < databases.rows(database, "SELECT spent FROM conversations_tokenbudget")[0] < 100
    assert databases.rows(database, "SELECT id FROM conversations_tokencharge") == []


def test_ids_that_nothing_has_are_settled_quietly(kim: User) -> None:
    budgets.settle([budgets.Outcome(uuid.uuid4(), "stopped", None, "")])
    assert not TokenBudget.objects.exists()

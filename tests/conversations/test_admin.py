"""Django admin: what it shows, what it hides, and what a page costs."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Max
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine.reader import open_reader
from conversations.engine.supervisor import Supervisor
from conversations.models import (
    Allowance,
    ApiKey,
    Conversation,
    DailyUsage,
    Feedback,
    Generation,
    GenerationChunk,
    Message,
    TokenBudget,
    UserConfig,
    Worker,
)
from tests.upstream import ScriptedUpstream, answer

from .helpers import flat

pytestmark = pytest.mark.django_db

KEY = "sk-secret-abcdef-7890"
URL = "https://models.example.com/v1/chat/completions"
PAGES = {
    "conversation": Conversation,
    "message": Message,
    "generation": Generation,
    "worker": Worker,
    "userconfig": UserConfig,
    "apikey": ApiKey,
    "allowance": Allowance,
    "tokenbudget": TokenBudget,
    "dailyusage": DailyUsage,
    "feedback": Feedback,
}


@pytest.fixture
def page(admin_client: Client) -> Callable[..., str]:
    """Open an admin page, such as `page("message_changelist", q="…")`; return its HTML."""

    def get(name: str, *args: Any, **query: Any) -> str:
        response = admin_client.get(reverse(f"admin:conversations_{name}", args=args), query)
        assert response.status_code == 200
        return response.content.decode()

    return get


def make_rows(first: int, last: int) -> None:
    """Rows of every kind, each of another conversation, owner, worker."""
    owners = User.objects.bulk_create(User(username=f"user{number}") for number in range(first, last))
    conversations = Conversation.objects.bulk_create(
        Conversation(title=f"title {number}", owner=owner, user_identifier=f"user:{owner.pk}", system_prompt="PROMPT")
        for number, owner in enumerate(owners, start=first)
    )
    messages = Message.objects.bulk_create(
        Message(conversation=conversation, role="assistant", content=f"{'body ' * 20}TAIL", reasoning="REASON")
        for conversation in conversations
    )
    workers = Worker.objects.bulk_create(Worker(host="host", pid=number) for number in range(first, last))
    Generation.objects.bulk_create(
        Generation(message=message, active_for=message.conversation, worker=worker, owner=message.conversation.owner)
        for message, worker in zip(messages, workers, strict=True)
    )
    UserConfig.objects.bulk_create(
        UserConfig(owner=owner, user_identifier=f"user:{owner.pk}", custom_api_url=URL, custom_api_key=KEY)
        for owner in owners
    )
    ApiKey.objects.bulk_create(
        ApiKey(user=owner, name="a program", hint="chatkey_abcd", hash=owner.username) for owner in owners
    )
    Allowance.objects.bulk_create(Allowance(user=owner, max_answers=1) for owner in owners)
    today = timezone.now().date()
    TokenBudget.objects.bulk_create(TokenBudget(subject=f"user:{owner.pk}", day=today) for owner in owners)
    DailyUsage.objects.bulk_create(DailyUsage(user_identifier=f"user:{owner.pk}", day=today) for owner in owners)
    Feedback.objects.bulk_create(Feedback(message=message, rating=1, text="words") for message in messages)


def make_conversation(**values: Any) -> Conversation:
    conversation = Conversation.objects.create(**values)
    question = Message.objects.create(conversation=conversation, role="user", content="what <b>is</b> this")
    reply = Message.objects.create(conversation=conversation, parent=question, role="assistant", content="an answer")
    Generation.objects.create(message=reply, status="completed", ended_at=timezone.now())
    conversation.active_leaf = reply
    conversation.message_count = 2
    conversation.save()
    return conversation


# Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_list_costs_as_many_queries_with_1000_rows_as_with_10(admin_client: Client, name: str) -> None:
    url = reverse(f"admin:conversations_{name}_changelist")
    admin_client.get(url)  # what is cached at the first visit is no part of the comparison
    counts = []
    for first, last in ((0, 10), (10, 1000)):
        make_rows(first, last)
        with CaptureQueriesContext(connection) as queries:
            changelist = admin_client.get(url).context["cl"]
        counts.append(len(queries))
        assert changelist.result_count == last
        assert len(changelist.result_list) == min(last, 100)
    assert counts[0] == counts[1] <= 8


@pytest.mark.parametrize("name", PAGES)
def test_a_list_loads_no_texts_and_no_keys(page: Callable[..., str], name: str) -> None:
    make_rows(0, 3)
    with CaptureQueriesContext(connection) as queries:
        html = page(f"{name}_changelist")
    heavy = re.compile(r'"(content|reasoning|system_prompt|custom_api_key)"(, "|$)')
    selected = [query["sql"].partition(" FROM ")[0] for query in queries if "ORDER BY" in query["sql"]]
    assert selected
    assert not [sql for sql in selected if heavy.search(sql)]
    assert not [word for word in ("TAIL", "REASON", "PROMPT", KEY) if word in html]


@pytest.mark.parametrize("name", PAGES)
def test_every_list_can_be_searched_and_its_rows_opened(page: Callable[..., str], name: str) -> None:
    make_rows(0, 2)
    assert page(f"{name}_changelist", q="zzz no such thing")
    for row in PAGES[name].objects.all():
        assert page(f"{name}_change", row.pk)


@pytest.mark.parametrize("how", ["title", "session_id", "user_identifier", "username"])
def test_conversations_are_found_by(page: Callable[..., str], how: str) -> None:
    owner = User.objects.create(username="kim")
    wanted = make_conversation(title="Wanted", owner=owner, user_identifier="user:77")
    make_conversation(title="Other")
    words = {"title": "wanted", "session_id": str(wanted.session_id), "user_identifier": "user:77", "username": "kim"}
    html = page("conversation_changelist", q=words[how])
    assert "Wanted" in html
    assert "Other" not in html


@pytest.mark.parametrize("name", ["message", "generation"])
def test_what_was_said_and_made_is_found_by_session(page: Callable[..., str], name: str) -> None:
    wanted, other = make_conversation(), make_conversation()
    html = page(f"{name}_changelist", q=str(wanted.session_id))
    assert f'<span title="{wanted.session_id}">{str(wanted.session_id)[:8]}…</span></a>' in html
    assert str(other.session_id) not in html


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"is_pinned__exact": "1"}, {"pinned"}),
        ({"is_archived__exact": "1"}, {"archived"}),
        ({"model_type": "custom"}, {"own"}),
        ({"title_source__exact": "person"}, {"named"}),
        ({"updated_at__gte": "2020-01-01 00:00+00:00"}, {"pinned", "archived", "own", "named"}),
    ],
)
def test_conversations_are_filtered(page: Callable[..., str], query: dict[str, str], expected: set[str]) -> None:
    Conversation.objects.create(title="pinned", is_pinned=True)
    Conversation.objects.create(title="archived", is_archived=True)
    Conversation.objects.create(title="own", model_type="custom")
    Conversation.objects.create(title="named", title_source="person")
    Conversation.objects.create(title="ancient", updated_at=timezone.now() - timedelta(days=10_000))
    html = page("conversation_changelist", **query)
    names = {"pinned", "archived", "own", "named", "ancient"}
    assert {name for name in names if f">{name}</a>" in html} == expected


def test_newest_activity_comes_first(page: Callable[..., str]) -> None:
    make_conversation(title="newer")
    make_conversation(title="older", updated_at=timezone.now() - timedelta(days=1))
    html = page("conversation_changelist")
    assert html.index(">newer<") < html.index(">older<")


def test_a_conversation_leads_to_its_messages(admin_client: Client, page: Callable[..., str]) -> None:
    conversation = make_conversation(title="Mine")
    make_conversation(title="Other")
    url = f"{reverse('admin:conversations_message_changelist')}?conversation__id__exact={conversation.pk}"
    assert f'<a href="{url}">2</a>' in page("conversation_changelist")
    html = admin_client.get(url).content.decode()
    assert "Mine" in html
    assert "Other" not in html


def test_a_message_is_shown_as_text_and_shortened_in_the_list(page: Callable[..., str]) -> None:
    conversation = make_conversation()
    long = Message.objects.create(conversation=conversation, role="user", content="<i>x</i>" + "y" * 200 + "TAIL")
    html = page("message_changelist")
    assert "what &lt;b&gt;is&lt;/b&gt; this" in html
    assert "TAIL" not in html
    assert "<i>" not in html
    html = page("message_change", long.pk)
    assert "TAIL" in html
    assert "&lt;i&gt;x&lt;/i&gt;" in html


def test_the_status_of_a_message_is_that_of_its_generation(page: Callable[..., str]) -> None:
    conversation = make_conversation()
    Generation.objects.update(status="interrupted")
    assert "interrupted" in page("message_change", conversation.active_leaf_id)
    assert "completed" in page("message_change", conversation.messages.earliest("pk").pk)


def test_running_answers_are_counted_by_worker(page: Callable[..., str]) -> None:
    make_rows(0, 1)
    idle = Worker.objects.create(host="idle", pid=5)
    html = page("worker_changelist")
    assert html.count('<td class="field-running">1</td>') == 1
    assert html.count('<td class="field-running">0</td>') == 1
    assert idle.host in html


# Read-only --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["message", "generation", "worker"])
def test_what_the_engine_writes_can_only_be_read(admin_client: Client, page: Callable[..., str], name: str) -> None:
    make_rows(0, 1)
    row = PAGES[name].objects.get()
    for action, arguments in (("add", []), ("change", [row.pk]), ("delete", [row.pk])):
        url = reverse(f"admin:conversations_{name}_{action}", args=arguments)
        assert admin_client.post(url, {"post": "yes"}).status_code == 403
    html = page(f"{name}_change", row.pk)
    assert 'name="_save"' not in html
    assert "deletelink" not in html
    data = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    admin_client.post(reverse(f"admin:conversations_{name}_changelist"), data)
    assert PAGES[name].objects.count() == 1


def test_chunks_are_not_shown() -> None:
    assert not admin.site.is_registered(GenerationChunk)


# Conversations ----------------------------------------------------------------------------------------------------


def change(client: Client, conversation: Conversation, **values: Any) -> Any:
    form = {
        "title": conversation.title,
        "system_prompt": conversation.system_prompt,
        "model_type": conversation.model_type,
        **values,
    }
    return client.post(reverse("admin:conversations_conversation_change", args=[conversation.pk]), form)


def test_a_title_that_is_changed_in_admin_was_set_by_a_person(admin_client: Client) -> None:
    conversation = make_conversation(title="first words", title_source="first_words")
    before = conversation.updated_at
    assert change(admin_client, conversation, title="Better", is_pinned="on").status_code == 302
    conversation.refresh_from_db()
    assert (conversation.title, conversation.title_source, conversation.is_pinned) == ("Better", "person", True)
    assert conversation.updated_at == before  # no activity


def test_a_change_leaves_alone_what_an_answer_changes_meanwhile(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = make_conversation(title="old")
    original = services.update_conversation

    def with_an_answer_in_between(**values: Any) -> Conversation:
        Conversation.objects.update(message_count=44)
        return original(**values)

    monkeypatch.setattr(services, "update_conversation", with_an_answer_in_between)
    change(admin_client, conversation, title="new")
    conversation.refresh_from_db()
    assert (conversation.title, conversation.message_count) == ("new", 44)


def test_line_ends_of_a_browser_do_not_get_into_the_system_prompt(admin_client: Client) -> None:
    conversation = make_conversation()
    change(admin_client, conversation, system_prompt="one\r\ntwo")
    conversation.refresh_from_db()
    assert conversation.system_prompt == "one\ntwo"


def test_an_unknown_model_type_is_refused_but_one_that_is_gone_may_stay(admin_client: Client) -> None:
    conversation = make_conversation(model_type="gone")
    response = change(admin_client, conversation, model_type="nope")
    assert "custom" in str(response.context["errors"])
    assert change(admin_client, conversation, title="renamed").status_code == 302
    assert change(admin_client, conversation, model_type="custom").status_code == 302


def test_a_conversation_is_deleted_with_its_messages_after_they_were_counted(
    admin_client: Client, page: Callable[..., str]
) -> None:
    conversation, other = make_conversation(title="Doomed"), make_conversation()
    with CaptureQueriesContext(connection) as queries:
        html = page("conversation_delete", conversation.pk)
    assert str(conversation.session_id) in html
    assert "assistant" not in html  # each message has a page of its own
    assert not [query["sql"] for query in queries if "content" in query["sql"] and "_message" in query["sql"]]
    url = reverse("admin:conversations_conversation_delete", args=[conversation.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert list(Conversation.objects.all()) == [other]
    assert Message.objects.count() == 2


def test_selected_conversations_are_deleted_at_a_cost_that_does_not_grow(admin_client: Client) -> None:
    make_rows(0, 30)
    url = reverse("admin:conversations_conversation_changelist")
    data = {"action": "delete_selected", "_selected_action": list(Conversation.objects.values_list("pk", flat=True))}
    with CaptureQueriesContext(connection) as queries:
        html = admin_client.post(url, data).content.decode()
    assert "Messages: 30" in html or "messages: 30" in html
    assert len(queries) <= 12
    admin_client.post(url, {**data, "post": "yes"})
    assert not Conversation.objects.exists()
    assert not Generation.objects.exists()


def test_staff_without_the_permission_deletes_nothing() -> None:
    client = Client()
    conversation = make_conversation()
    staff = User.objects.create_user("staff", password="x", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_conversation"))
    client.force_login(staff)
    url = reverse("admin:conversations_conversation_delete", args=[conversation.pk])
    assert client.post(url, {"post": "yes"}).status_code == 403
    assert client.get(reverse("admin:conversations_conversation_change", args=[conversation.pk])).status_code == 200
    assert client.get(reverse("admin:conversations_message_changelist")).status_code == 403


def test_an_account_can_be_deleted_with_all_it_owns(admin_client: Client) -> None:
    make_rows(0, 1)
    owner = User.objects.get(username="user0")
    url = reverse("admin:auth_user_delete", args=[owner.pk])
    assert admin_client.get(url).context["perms_lacking"] == set()
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert not Conversation.objects.exists()
    assert not UserConfig.objects.exists()


def test_an_account_with_a_long_conversation_can_be_deleted(admin_client: Client) -> None:
    """Django shows what goes as a tree, and calls itself for each level."""
    owner = User.objects.create_user("talker")
    conversation = Conversation.objects.create(owner=owner, user_identifier=f"user:{owner.pk}")
    first = (Message.objects.aggregate(highest=Max("pk"))["highest"] or 0) + 1
    Message.objects.bulk_create(
        Message(pk=pk, conversation=conversation, parent_id=pk - 1 if pk > first else None, role=Message.Role.USER)
        for pk in range(first, first + sys.getrecursionlimit())
    )
    url = reverse("admin:auth_user_delete", args=[owner.pk])
    page = admin_client.get(url)
    assert page.status_code == 200
    assert page.content.count(b"<ul") < 20
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()


async def test_deleting_a_conversation_ends_its_running_answer_as_stopped(
    engine: Supervisor, upstream: ScriptedUpstream, settings: Any
) -> None:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted"}
    upstream.script = [answer("a", "b", stall=1)]
    ids = await db.write(services.start_reply, caller=Caller(sees_all=True), message="hi")
    reader = await open_reader(ids.generation_id)
    await upstream.until(lambda: upstream.calls)

    def delete_in_admin() -> int:
        user = User.objects.create_superuser("root", password="x")
        client = Client()
        client.force_login(user)
        pk = Conversation.objects.get(session_id=ids.session_id).pk
        url = reverse("admin:conversations_conversation_delete", args=[pk])
        return client.post(url, {"post": "yes"}).status_code

    assert await db.write(delete_in_admin) == 302
    async with asyncio.timeout(10):
        *_others, done = await flat(reader.batches())
        await upstream.closed_by_client()
    assert done.ending.status == "stopped"
    assert await db.read(lambda: Conversation.objects.count() + Message.objects.count()) == 0


# Users' model settings --------------------------------------------------------------------------------------------


def make_config(**values: Any) -> UserConfig:
    fields = {"user_identifier": "kim", "custom_api_url": URL, "custom_model": "m", "custom_api_key": KEY}
    return UserConfig.objects.create(**{**fields, **values})


def change_config(client: Client, config: UserConfig, **values: str) -> Any:
    form = {
        "current_model_type": config.current_model_type,
        "max_tokens": "",
        "custom_api_url": config.custom_api_url,
        "custom_model": config.custom_model,
        "custom_api_key": "",
        **values,
    }
    return client.post(reverse("admin:conversations_userconfig_change", args=[config.pk]), form)


def test_a_key_is_never_shown(page: Callable[..., str]) -> None:
    client, config = Client(), make_config()
    html = page("userconfig_change", config.pk)
    assert KEY not in html
    assert KEY[-4:] in html  # the hint
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_userconfig"))
    client.force_login(viewer)
    html = client.get(reverse("admin:conversations_userconfig_change", args=[config.pk])).content.decode()
    assert KEY not in html
    assert KEY[-4:] in html


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({}, KEY),
        ({"custom_model": "other"}, KEY),
        ({"custom_api_key": "sk-new"}, "sk-new"),
        ({"custom_api_key-clear": "on"}, ""),
        ({"custom_api_url": "https://other.example.com/v1"}, ""),
        ({"custom_api_url": "https://other.example.com/v1", "custom_api_key": "sk-new"}, "sk-new"),
    ],
)
def test_a_key_is_kept_replaced_or_cleared(admin_client: Client, values: dict[str, str], key: str) -> None:
    config = make_config()
    assert change_config(admin_client, config, **values).status_code == 302
    config.refresh_from_db()
    assert config.custom_api_key == key


@pytest.mark.parametrize(
    "values",
    [
        {"custom_api_url": "ftp://x"},
        {"custom_api_url": "http://169.254.169.254/"},
        {"custom_api_key": "ключ"},
        {"custom_api_key": "env:SECRET_KEY"},
        {"current_model_type": "nope"},
        {"current_model_type": "custom", "custom_model": ""},
        {"max_tokens": "0"},
        {"max_tokens": "131073"},
    ],
)
def test_bad_settings_are_refused_and_change_nothing(admin_client: Client, values: dict[str, str]) -> None:
    config = make_config()
    response = change_config(admin_client, config, **values)
    assert response.status_code == 200
    assert next(iter(values)) in response.context["adminform"].form.errors or "custom_model" in values
    assert KEY not in response.content.decode()
    unchanged = UserConfig.objects.get()
    assert (unchanged.custom_api_url, unchanged.custom_api_key, unchanged.custom_model) == (URL, KEY, "m")


def test_whose_settings_they_are_is_said_once(admin_client: Client) -> None:
    owner = User.objects.create(username="kim")
    url = reverse("admin:conversations_userconfig_add")
    assert admin_client.post(url, {"user_identifier": f"user:{owner.pk}"}).status_code == 200  # refused
    assert admin_client.post(url, {"owner": owner.pk, "user_identifier": ""}).status_code == 302
    config = UserConfig.objects.get()
    assert config.user_identifier == f"user:{owner.pk}"
    change_config(admin_client, config, user_identifier="other", owner="")
    config.refresh_from_db()
    assert (config.user_identifier, config.owner) == (f"user:{owner.pk}", owner)


def test_a_key_that_nothing_decrypts_closes_no_page(admin_client: Client, settings: Any) -> None:
    config = make_config()
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "ENCRYPTION_KEYS": ["x" * 43 + "="]}
    assert admin_client.get(reverse("admin:conversations_userconfig_changelist")).status_code == 200
    assert change_config(admin_client, config, custom_api_key="sk-again").status_code == 302
    assert UserConfig.objects.get().custom_api_key == "sk-again"


# Limits -----------------------------------------------------------------------------------------------------------


def test_an_allowance_is_given_and_changed_with_a_history(admin_client: Client, page: Callable[..., str]) -> None:
    kim = User.objects.create(username="kim")
    add = reverse("admin:conversations_allowance_add")
    assert "Choose a user or a group" in admin_client.post(add, {"max_answers": 3}).content.decode()
    admin_client.post(add, {"user": kim.pk, "max_answers": 3})
    allowance = Allowance.objects.get()
    assert (allowance.user, allowance.max_answers, allowance.tokens_per_day) == (kim, 3, None)
    change = reverse("admin:conversations_allowance_change", args=[allowance.pk])
    admin_client.post(change, {"user": "", "tokens_per_day": 500})
    allowance.refresh_from_db()
    assert (allowance.user, allowance.max_answers, allowance.tokens_per_day) == (kim, None, 500)
    assert "Changed Answers at a time and Tokens per day" in page("allowance_history", allowance.pk)
    assert "kim" in page("allowance_changelist", q="kim")


def test_token_budgets_are_shown_and_not_changed(admin_client: Client, page: Callable[..., str]) -> None:
    budget = TokenBudget.objects.create(subject="user:7", day=timezone.now().date(), spent=4711)
    assert "4711" in page("tokenbudget_changelist", q="user:7")
    for name in ("change", "delete"):
        url = reverse(f"admin:conversations_tokenbudget_{name}", args=[budget.pk])
        assert admin_client.post(url, {"spent": 0, "post": "yes"}).status_code == 403
    assert admin_client.get(reverse("admin:conversations_tokenbudget_add")).status_code == 403
    assert TokenBudget.objects.get().spent == 4711


def test_a_list_has_ids_in_short_and_long_texts_in_one_line(page: Callable[..., str]) -> None:
    """The whole is in a hint; the style cuts what is shown."""
    kim = User.objects.create_user("kim.with.a.rather.long.name@example.com")
    untitled = make_conversation(owner=kim, user_identifier=f"user:{kim.pk}", title="")
    title = "A title of many words " * 8
    make_conversation(owner=kim, user_identifier=f"user:{kim.pk}", title=title.strip())
    html = page("conversation_changelist")
    assert f'<span title="{untitled.session_id}">{str(untitled.session_id)[:8]}…</span>' in html
    assert f'<span title="{title.strip()}">' in html
    assert f'<span title="{kim}">{kim}</span>' in html


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_admin_carries_the_products_name_icon_and_style(admin_client: Client, language: str) -> None:
    for path in ("/admin/", "/admin/conversations/message/"):
        html = admin_client.get(path, headers={"Accept-Language": language}).content.decode()
        assert "Django" not in html
        assert ">chatproject</a>" in html
        assert "| chatproject</title>" in html
        assert 'href="/static/chatproject/icon.svg"' in html
        assert 'href="/static/chatproject/admin.css"' in html


@pytest.mark.parametrize("path", ["/", "/docs", "/accounts/login", "/favicon.ico"])
def test_no_browser_asks_in_vain_for_an_icon(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    if path == "/favicon.ico":
        assert response.headers["Content-Type"] == "image/x-icon"
        assert response.content.startswith(b"\0\0\1\0")
    else:
        assert 'rel="icon" href="/static/chatproject/icon.svg"' in response.content.decode()

"""A conversation in admin as a transcript: what it shows, safely, to whom, page by page and branch by branch."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations import services
from conversations.admin import transcript
from conversations.models import BILLION, Conversation, Feedback, Generation, Message

pytestmark = pytest.mark.django_db

LIST = reverse("admin:conversations_conversation_changelist")


def url_of(conversation: Conversation) -> str:
    return reverse("admin:conversations_conversation_transcript", args=[conversation.pk])


def say(conversation: Conversation, parent: Message | None, content: str, **values: Any) -> Message:
    role = "assistant" if parent is not None and parent.role == "user" else "user"
    message = Message.objects.create(conversation=conversation, parent=parent, role=role, content=content, **values)
    if role == "assistant":
        Generation.objects.create(message=message, status="completed", ended_at=timezone.now())
    conversation.active_leaf = message
    conversation.message_count += 1
    conversation.save()
    return message


def long_one(messages: int) -> Conversation:
    conversation = Conversation.objects.create(title="Long")
    last = None
    for number in range(messages):
        last = say(conversation, last, f"words {number:03}.")
    return conversation


def words(client: Client, url: str) -> list[str]:
    response = client.get(url)
    assert response.status_code == 200
    return re.findall(r"words [0-9a-z]+\.", response.content.decode())


def test_calls_of_tools_and_what_came_of_them_are_folded(admin_client: Client) -> None:
    conversation = Conversation.objects.create()
    question = say(conversation, None, "How far is it?")
    asks = services.by_model("I look.", [("one", "distance", '{"to": "<b>moon</b>"}')])
    reply = say(conversation, question, asks.content, arguments=asks.arguments, parts=asks.parts)
    told = services.by_tools([services.ToolResult("one", "<i>384,400 km</i>")])
    Message.objects.create(conversation=conversation, parent=reply, **told._asdict())
    conversation.active_leaf = Message.objects.latest("pk")
    conversation.save()
    page = admin_client.get(url_of(conversation)).content.decode()
    assert "Call of the tool distance" in page
    assert "{&quot;to&quot;: &quot;&lt;b&gt;moon&lt;/b&gt;&quot;}" in page
    assert page.count("&lt;i&gt;384,400 km&lt;/i&gt;") == 1


def test_it_shows_who_said_what_with_model_time_status_and_usage(admin_client: Client) -> None:
    conversation = Conversation.objects.create(title="About the moon", system_prompt="Be brief.")
    question = say(conversation, None, "How far is it?")
    reply = say(conversation, question, "Far.\n  Very far.", reasoning="They mean the moon.", model="big-1")
    Generation.objects.update(
        prompt_tokens=1234, completion_tokens=5, total_tokens=1239, cost=2 * BILLION, status="stopped"
    )
    Feedback.objects.create(message=reply, rating=1)
    html = admin_client.get(url_of(conversation)).content.decode()
    for shown in ("How far is it?", "Far.\n  Very far.", "They mean the moon.", "big-1", "stopped", "About the moon"):
        assert shown in html
    assert "Be brief." in html
    assert "1,234 tokens in, 5 out" in html
    assert "cost 2.00" in html
    assert "rated good" in html
    assert html.index("How far") < html.index("Very far")


def test_a_failed_answer_says_why_and_a_running_one_that_it_runs(admin_client: Client) -> None:
    conversation = long_one(4)
    first, second = Generation.objects.order_by("message_id")
    Generation.objects.filter(pk=first.pk).update(
        status="failed", error_code="rate_limited", error_message="Too many."
    )
    Generation.objects.filter(pk=second.pk).update(status="running")
    Message.objects.filter(pk=second.message_id).update(content="")
    html = admin_client.get(url_of(conversation)).content.decode()
    assert "rate_limited: Too many." in html
    assert "It is being written" in html


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "</div><img src=x onerror=alert(1)>", "{{ title }} {% csrf_token %}"]
)
def test_what_was_said_is_shown_as_text(admin_client: Client, text: str) -> None:
    conversation = Conversation.objects.create(title=text[:200], system_prompt=text)
    question = say(conversation, None, text)
    reply = say(conversation, question, text, reasoning=text, model=text)
    Generation.objects.filter(message=reply).update(status="failed", error_code="x", error_message=text)
    html = admin_client.get(url_of(conversation)).content.decode()
    main = html[html.index('class="ov tr"') : html.index("</main>")]
    assert not re.search(r"<script|<img|\sstyle=", main)
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    assert main.count(escaped) >= 5


def test_it_is_for_those_who_may_read_alone() -> None:
    conversation = long_one(2)
    for names, status in (
        (["view_conversation", "view_message"], 200),
        (["view_conversation", "change_conversation", "change_message"], 403),
        (["view_message"], 403),
    ):
        user = User.objects.create_user(f"staff-{status}-{len(names)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client()
        client.force_login(user)
        assert client.get(url_of(conversation)).status_code == status
        if "view_conversation" in names:
            page = reverse("admin:conversations_conversation_change", args=[conversation.pk])
            for where in (LIST, page):
                assert (url_of(conversation) in client.get(where).content.decode()) == (status == 200)
    assert Client().get(url_of(conversation)).status_code == 302


def test_a_branch_is_shown_and_the_others_are_reached(admin_client: Client) -> None:
    conversation = Conversation.objects.create()
    question = say(conversation, None, "words q.")
    first = say(conversation, question, "words a.")
    say(conversation, first, "words b.")
    second = say(conversation, question, "words c.")
    active = url_of(conversation)
    assert words(admin_client, active) == ["words q.", "words c."]
    html = admin_client.get(active).content.decode()
    assert "2/2" in html
    assert f'href="?through={first.pk}"' in html
    other = admin_client.get(active, {"through": first.pk}, follow=True)
    assert re.findall(r"words \w+\.", other.content.decode()) == ["words q.", "words a.", "words b."]
    assert "another branch than the one" in other.content.decode()
    assert f'href="?through={second.pk}"' in other.content.decode()
    conversation.refresh_from_db()
    assert conversation.active_leaf == second  # looking changes nothing


def test_a_long_one_is_shown_page_by_page(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "PAGE", 4)
    conversation = long_one(10)
    url, seen = url_of(conversation), []
    address = url
    for _page in range(3):
        seen[:0] = words(admin_client, address)
        html = admin_client.get(address).content.decode()
        assert ("To the newest" in html) == (address != url)
        found = re.search(r'href="(\?leaf=\d+&amp;end=\d+)"', html)
        address = url + found[1].replace("&amp;", "&") if found else ""
    assert address == ""
    assert seen == [f"words {number:03}." for number in range(10)]


@pytest.mark.parametrize(
    "query", [{"leaf": "x"}, {"leaf": "-1"}, {"end": "9" * 30}, {"leaf": "²"}, {"through": "987654"}]
)
def test_messages_of_elsewhere_are_not_found(admin_client: Client, query: dict[str, str]) -> None:
    assert admin_client.get(url_of(long_one(2)), query).status_code == 404


def test_nor_are_those_of_another_conversation(admin_client: Client) -> None:
    conversation, other = long_one(2), long_one(2)
    for name in ("leaf", "end", "through"):
        assert admin_client.get(url_of(conversation), {name: str(other.active_leaf_id)}).status_code == 404
    assert admin_client.get(reverse("admin:conversations_conversation_transcript", args=[987654])).status_code == 404


def test_an_empty_conversation_opens(admin_client: Client) -> None:
    conversation = Conversation.objects.create()
    assert "Nothing was said" in admin_client.get(url_of(conversation)).content.decode()


def test_it_costs_as_many_queries_with_500_messages_as_with_2(admin_client: Client) -> None:
    counts = []
    for number in (2, 120):
        conversation = long_one(number)
        admin_client.get(url_of(conversation))
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(url_of(conversation))
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_it_is_archived_from_there_and_taken_back(admin_client: Client) -> None:
    conversation = long_one(2)
    for archived in (True, False):
        html = admin_client.get(url_of(conversation)).content.decode()
        action = re.search(r'name="action" value="(\w+)"', html)
        assert action
        data = {"action": action[1], "_selected_action": [conversation.pk]}
        assert admin_client.post(LIST, data).status_code == 302
        conversation.refresh_from_db()
        assert conversation.is_archived is archived

"""What is done in admin to selected conversations: a few, or all of a list, confirmed and in time."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations.admin import selected
from conversations.models import Conversation, Generation, Message
from conversations.services import selection

pytestmark = pytest.mark.django_db

LIST = reverse("admin:conversations_conversation_changelist")


def make(number: int, **values: Any) -> list[Conversation]:
    """Conversations with two messages each."""
    first = (Conversation.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    rows = [
        Conversation(pk=first + index, message_count=2, title=f"title {index}", **values) for index in range(number)
    ]
    Conversation.objects.bulk_create(rows, batch_size=500)
    Message.objects.bulk_create(
        [Message(conversation=row, role=role, content="words") for row in rows for role in ("user", "assistant")],
        batch_size=500,
    )
    return rows


def answering(conversation: Conversation) -> Generation:
    message = conversation.messages.filter(role="assistant").get()
    return Generation.objects.create(message=message, active_for=conversation)


def inputs(html: str) -> dict[str, list[str]]:
    """What the form of a page would send."""
    form = html[html.rindex("<form", 0, html.index('name="post"')) :]
    sent: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form):
        sent.setdefault(name, []).append(value)
    return sent


def ask(client: Client, action: str, url: str = LIST, **more: Any) -> str:
    response = client.post(
        url, {"action": action, "_selected_action": ["1"], "select_across": "1", "index": "0", **more}
    )
    assert response.status_code == 200
    return response.content.decode()


def test_all_of_a_list_are_deleted_with_few_fields_and_after_they_were_counted(admin_client: Client) -> None:
    rows = make(1000)
    Conversation.objects.filter(pk__in=[row.pk for row in rows[:3]]).update(is_pinned=True)
    with CaptureQueriesContext(connection) as queries:
        html = ask(admin_client, "delete_selected")
    assert len(queries) <= 14
    for text in ("Conversations: 1,000", "Messages: 2,000", "Pinned: 3", "Being answered now: 0", "and 990 more"):
        assert text.replace(",", "") in html.replace(",", "")
    sent = inputs(html)
    assert sum(map(len, sent.values())) < 10
    assert sent["counted"] == ["1000"]
    assert len(html) < 30_000
    assert admin_client.post(LIST, sent).status_code == 302
    assert not Conversation.objects.exists()
    assert LogEntry.objects.count() == 1000


def test_only_what_the_list_shows_is_among_all(admin_client: Client) -> None:
    make(2, is_archived=True)
    kept = make(2)
    url = f"{LIST}?is_archived__exact=1"
    sent = inputs(ask(admin_client, "delete_selected", url))
    assert admin_client.post(url, sent).status_code == 302
    assert list(Conversation.objects.order_by("pk")) == kept


def test_what_came_since_it_was_confirmed_stays(admin_client: Client) -> None:
    make(2)
    sent = inputs(ask(admin_client, "delete_selected"))
    kept = make(1)
    admin_client.post(LIST, sent)
    assert list(Conversation.objects.all()) == kept


def test_more_than_was_confirmed_is_asked_for_again(admin_client: Client) -> None:
    make(1, is_archived=True)
    older = make(1)
    make(1, is_archived=True)
    url = f"{LIST}?is_archived__exact=1"
    sent = inputs(ask(admin_client, "delete_selected", url))
    Conversation.objects.filter(pk=older[0].pk).update(is_archived=True)
    html = admin_client.post(url, sent).content.decode()
    assert "look again" in html
    assert Conversation.objects.count() == 3
    admin_client.post(url, inputs(html))
    assert not Conversation.objects.exists()


def test_pinned_and_running_ones_survive_a_pruning_and_no_deletion(admin_client: Client) -> None:
    pinned, busy, idle = make(3)
    Conversation.objects.filter(pk=pinned.pk).update(is_pinned=True)
    answering(busy)
    html = ask(admin_client, "prune_selected")
    assert html.count("they stay") == 2
    done = admin_client.post(LIST, inputs(html), follow=True).content.decode()
    assert set(Conversation.objects.all()) == {pinned, busy}
    assert "stayed, as they are pinned or being answered: 2" in done
    assert not Conversation.objects.filter(pk=idle.pk).exists()
    admin_client.post(LIST, inputs(ask(admin_client, "delete_selected")))
    assert not Conversation.objects.exists()


def test_a_deletion_that_takes_long_stops_in_time_and_goes_on_when_asked(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(250)
    monkeypatch.setattr(selected, "SECONDS", 0.0)
    html = ask(admin_client, "delete_selected")
    rounds = 0
    while rounds < 20:
        answer = admin_client.post(LIST, inputs(html))
        rounds += 1
        if answer.status_code == 302:
            break
        html = answer.content.decode()
        assert "Confirm again to go on" in html
    assert rounds > 2
    assert not Conversation.objects.exists()


def test_a_few_are_archived_and_taken_back_with_a_history_and_no_activity(admin_client: Client) -> None:
    first, second, third = make(3, updated_at=timezone.now() - timedelta(days=1))
    data = {"_selected_action": [first.pk, second.pk]}
    html = admin_client.post(LIST, {"action": "archive_selected", **data}, follow=True).content.decode()
    assert "Conversations archived: 2" in html
    assert list(Conversation.objects.filter(is_archived=True).order_by("pk")) == [first, second]
    entries = LogEntry.objects.filter(object_id=str(first.pk))
    assert [entry.get_change_message() for entry in entries] == ["Archived."]
    assert LogEntry.objects.count() == 2
    before = Conversation.objects.get(pk=first.pk)
    assert before.updated_at == first.updated_at
    assert (before.changed_at or first.updated_at) > first.updated_at
    admin_client.post(LIST, {"action": "unarchive_selected", "_selected_action": [first.pk, third.pk]})
    assert list(Conversation.objects.filter(is_archived=True)) == [second]


def test_all_of_a_list_are_archived_at_a_cost_of_a_few_queries_a_batch(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(1200)
    data = {"action": "archive_selected", "_selected_action": ["1"], "select_across": "1", "index": "0"}
    with CaptureQueriesContext(connection) as queries:
        assert admin_client.post(LIST, data).status_code == 302
    assert len(queries) < 10 + 40 * (1200 / selection.TOGETHER)
    assert not Conversation.objects.filter(is_archived=False).exists()


@pytest.mark.parametrize("action", ["archive_selected", "unarchive_selected", "prune_selected", "delete_selected"])
def test_who_may_only_look_does_nothing(action: str) -> None:
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_conversation", "view_message"]))
    client = Client()
    client.force_login(user)
    (row,) = make(1)
    client.post(LIST, {"action": action, "_selected_action": [row.pk], "post": "yes"})
    row.refresh_from_db()
    assert not row.is_archived

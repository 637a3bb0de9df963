"""Staff without the permission to read messages see in admin nothing of what was said; and admin's history."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from conversations.models import Conversation, Generation, Message, UserConfig
from llmproviders.models import Preset

pytestmark = pytest.mark.django_db

SECRETS = ("TITLE-canary", "PROMPT-canary", "CONTENT-canary", "REASON-canary", "ERROR-canary")
CONVERSATIONS = reverse("admin:conversations_conversation_changelist")
READ = "view_message"


@pytest.fixture
def conversation() -> Conversation:
    owner = User.objects.create_user("kim")
    whose = {"owner": owner, "user_identifier": f"user:{owner.pk}"}
    conversation = Conversation.objects.create(title="TITLE-canary", system_prompt="PROMPT-canary", **whose)
    question = Message.objects.create(conversation=conversation, role="user", content="CONTENT-canary")
    reply = Message.objects.create(
        conversation=conversation,
        parent=question,
        role="assistant",
        content="CONTENT-canary",
        reasoning="REASON-canary",
    )
    Generation.objects.create(message=reply, status="failed", error_message="ERROR-canary", **whose)
    return conversation


def staff(*without: str) -> Client:
    """A member of the staff with every permission but these."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.exclude(codename__in=without))
    client = Client()
    client.force_login(user)
    return client


def pages(conversation: Conversation) -> dict[str, str]:
    """Every page of admin that has to do with a conversation, by its name."""
    found = {"index": reverse("admin:index"), "app": reverse("admin:app_list", args=["conversations"])}
    rows = {
        "conversation": conversation,
        "message": conversation.messages.latest("pk"),
        "generation": Generation.objects.get(),
    }
    for name, row in rows.items():
        found[f"{name} list"] = reverse(f"admin:conversations_{name}_changelist")
        for page in ("change", "delete", "history"):
            found[f"{name} {page}"] = reverse(f"admin:conversations_{name}_{page}", args=[row.pk])
    for page in ("change", "delete", "history"):
        found[f"user {page}"] = reverse(f"admin:auth_user_{page}", args=[conversation.owner_id])
    return found


def seen(client: Client, conversation: Conversation) -> dict[str, set[str]]:
    """What of the texts is on which page."""
    result = {}
    for name, url in pages(conversation).items():
        html = client.get(url).content.decode()
        if found := {secret for secret in SECRETS if secret in html}:
            result[name] = found
    return result


def test_with_the_permission_texts_are_where_they_belong(conversation: Conversation) -> None:
    """Or the test below would prove nothing."""
    found = seen(staff(), conversation)
    assert found["conversation list"] == {"TITLE-canary"}
    assert found["conversation change"] == {"TITLE-canary", "PROMPT-canary"}
    assert found["message change"] >= {"CONTENT-canary", "REASON-canary"}
    assert found["generation change"] == {"ERROR-canary"}
    assert set(found) <= {
        *("conversation list", "conversation change"),
        *("message list", "message change", "generation change"),
    }


def test_without_it_they_are_nowhere(conversation: Conversation) -> None:
    client = staff(READ)
    assert seen(client, conversation) == {}
    for name, url in pages(conversation).items():
        forbidden = name.startswith("message") or name in ("generation delete",)
        assert client.get(url).status_code == (403 if forbidden else 200), name


@pytest.mark.parametrize("changes", [True, False])
def test_nor_for_those_who_may_only_look(conversation: Conversation, changes: bool) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    names = ["view_conversation", "view_generation", *(["change_message"] if changes else [])]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    assert client.get(CONVERSATIONS).status_code == 200
    assert seen(client, conversation) == {}


def test_what_they_do_leaves_no_text_in_pages_and_history(conversation: Conversation) -> None:
    client = staff(READ)
    url = reverse("admin:conversations_conversation_change", args=[conversation.pk])
    page = client.post(url, {"is_pinned": "on", "title": "changed", "system_prompt": "changed"}, follow=True)
    assert page.status_code == 200
    conversation.refresh_from_db()
    assert (conversation.title, conversation.system_prompt) == ("TITLE-canary", "PROMPT-canary")
    assert conversation.is_pinned
    selected = {"action": "delete_selected", "_selected_action": [conversation.pk]}
    confirmation = client.post(CONVERSATIONS, selected)
    done = client.post(CONVERSATIONS, {**selected, "post": "yes"}, follow=True)
    html = "".join(answer.content.decode() for answer in (page, confirmation, done, client.get("/admin/")))
    assert str(conversation.session_id) in html
    entries = "".join(f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all())
    assert LogEntry.objects.count() == 2
    assert [secret for secret in SECRETS if secret in html + entries] == []
    assert not Conversation.objects.exists()


@pytest.mark.parametrize(("without", "found"), [((), 1), ((READ,), 0)])
def test_titles_are_searched_by_those_who_may_read_them(
    conversation: Conversation, without: tuple[str, ...], found: int
) -> None:
    client = staff(*without)
    page = client.get(CONVERSATIONS, {"q": "canary"})
    assert page.context["cl"].result_count == found
    assert page.context["cl"].search_help_text.startswith("Title" if found else "Session id")
    assert client.get(CONVERSATIONS, {"q": str(conversation.session_id)}).context["cl"].result_count == 1


@pytest.mark.parametrize(
    "query",
    [
        {"title__startswith": "T"},
        {"title": "TITLE-canary"},
        {"title__regex": "^T"},
        {"system_prompt__contains": "P"},
        {"messages__content__contains": "C"},
        {"active_leaf__content__contains": "C"},
    ],
)
def test_no_list_tells_texts_letter_by_letter(conversation: Conversation, query: dict[str, str]) -> None:
    client = staff(READ)
    assert client.get(CONVERSATIONS, query).status_code == 400
    (name,) = query
    if name.startswith(("title", "system_prompt")):
        user = User.objects.get(username="staff")
        user.user_permissions.add(Permission.objects.get(codename=READ))
        assert client.get(CONVERSATIONS, query).context["cl"].result_count == 1


@pytest.mark.parametrize("query", ["error_message__contains", "message__content__contains", "message__reasoning"])
def test_nor_does_the_list_of_answers(conversation: Conversation, query: str) -> None:
    url = reverse("admin:conversations_generation_changelist")
    assert staff(READ).get(url, {query: "E"}).status_code == 400


@pytest.mark.parametrize("order", ["1", "-1"])
def test_the_order_of_a_list_tells_no_titles(conversation: Conversation, order: str) -> None:
    page = staff(READ).get(CONVERSATIONS, {"o": order})
    assert "title" not in str(page.context["cl"].queryset.query).partition("ORDER BY")[2]


# History --------------------------------------------------------------------------------------------------------


def inputs(client: Client, url: str) -> dict[str, Any]:
    """What the form of a page would send as it is."""
    form = client.get(url).context["adminform"].form
    sent: dict[str, Any] = {}
    for field in form:
        value = field.value()
        if isinstance(value, datetime):
            sent[f"{field.html_name}_0"], sent[f"{field.html_name}_1"] = f"{value:%Y-%m-%d %H:%M:%S}".split()
        elif value not in (None, False):
            sent[field.html_name] = value
    return sent


def change(client: Client, url: str, **fields: Any) -> LogEntry:
    answer = client.post(url, {**inputs(client, url), **fields})
    assert answer.status_code == 302, answer.context["errors"]
    return LogEntry.objects.latest("pk")


SECRET = "sk-secret-abcdef-7890"


def test_who_changed_a_preset_is_in_its_history(admin_client: Client, admin_user: User) -> None:
    preset = Preset.objects.create(type="x", name="X", api_url="https://models.example.com/v1", model="m")
    url = reverse("admin:llmproviders_preset_change", args=[preset.pk])
    entry = change(admin_client, url, api_key=SECRET, model="other")
    assert entry.user == admin_user
    assert re.search(r"Changed .*[Mm]odel.*API key|Changed .*API key.*[Mm]odel", entry.get_change_message())
    assert SECRET not in f"{entry.object_repr} {entry.change_message}"
    preset.refresh_from_db()
    assert preset.api_key == SECRET


def test_who_changed_a_user_s_settings_is_in_their_history(admin_client: Client) -> None:
    config = UserConfig.objects.create(user_identifier="kim", custom_api_url="https://models.example.com/v1")
    url = reverse("admin:conversations_userconfig_change", args=[config.pk])
    entry = change(admin_client, url, custom_api_key=SECRET, custom_model="m")
    assert "Own API key" in entry.get_change_message()
    assert SECRET not in f"{entry.object_repr} {entry.change_message}"


def test_who_changed_a_conversation_is_in_its_history(admin_client: Client, conversation: Conversation) -> None:
    url = reverse("admin:conversations_conversation_change", args=[conversation.pk])
    entry = change(admin_client, url, title="another", system_prompt="new canary")
    assert (entry.object_repr, entry.get_change_message()) == (
        str(conversation.session_id),
        "Changed Title and System prompt.",
    )


def test_who_gave_a_permission_is_in_the_history(admin_client: Client) -> None:
    permission = Permission.objects.get(codename=READ)
    user = User.objects.create_user("kim")
    url = reverse("admin:auth_user_change", args=[user.pk])
    entry = change(admin_client, url, user_permissions=[permission.pk], is_staff="on")
    assert entry.get_change_message().startswith("Changed Staff status, User permissions")
    group = Group.objects.create(name="support")
    url = reverse("admin:auth_group_change", args=[group.pk])
    assert change(admin_client, url, permissions=[permission.pk]).get_change_message() == "Changed Permissions."


def test_who_set_a_password_is_in_the_history(admin_client: Client) -> None:
    user = User.objects.create_user("kim")
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    fields = {"password1": "analytical engine 1843", "password2": "analytical engine 1843", "usable_password": "true"}
    assert admin_client.post(url, fields).status_code == 302
    assert LogEntry.objects.get().get_change_message() == "Changed password."


def test_every_admin_that_changes_things_writes_history() -> None:
    """An admin of ours that overrides the writing of it would need a test of its own here."""
    own = [item for item in admin.site._registry.values() if type(item).__module__.split(".")[0] != "django"]
    for item in own:
        for name in ("log_addition", "log_change", "log_deletions"):
            assert getattr(type(item), name) is getattr(admin.ModelAdmin, name)

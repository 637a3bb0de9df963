"""The groups that a migration makes: what is in them, and that it takes nothing from a project that has its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from conversations.models import Conversation, Message
from llmproviders.models import Preset

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
migration: Any = import_module("conversations.migrations.0012_groups_of_staff")


@pytest.fixture
def made() -> None:
    """The groups as the migration makes them, whatever tests before have left."""
    Group.objects.filter(name__in=migration.GROUPS).delete()
    migration.create_groups(apps, _Editor())


class _Editor:
    """What the migration takes of a schema editor."""

    connection = connection


def codenames(name: str) -> set[str]:
    return set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))


def member_of(name: str) -> Client:
    user = User.objects.create_user("member", is_staff=True)
    user.groups.add(Group.objects.get(name=name))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("name", migration.GROUPS)
def test_every_permission_that_is_meant_is_in_it_and_none_to_read(made: None, name: str) -> None:
    wanted = {codename for names in migration.GROUPS[name].values() for codename in names}
    assert codenames(name) == wanted
    assert not {codename for codename in wanted if codename.endswith("_message")}


def test_support_manages_conversations_and_reads_none(made: None) -> None:
    conversation = Conversation.objects.create(title="TITLE-canary", system_prompt="PROMPT-canary")
    Message.objects.create(conversation=conversation, role="user", content="CONTENT-canary")
    client = member_of("Chat support")
    for name, args in (
        ("conversations_overview_changelist", []),
        ("conversations_conversation_changelist", []),
        ("conversations_conversation_change", [conversation.pk]),
    ):
        response = client.get(reverse(f"admin:{name}", args=args))
        assert response.status_code == 200
        assert "canary" not in response.content.decode()
    assert (
        client.get(reverse("admin:conversations_conversation_transcript", args=[conversation.pk])).status_code == 403
    )
    assert client.get(reverse("admin:conversations_message_changelist")).status_code == 403
    url = reverse("admin:conversations_conversation_delete", args=[conversation.pk])
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not Conversation.objects.exists()


def test_operators_change_presets_and_support_does_not(made: None) -> None:
    preset = Preset.objects.create(type="x", name="X", api_url="https://models.example.com/v1", model="m")
    url = reverse("admin:llmproviders_preset_change", args=[preset.pk])
    assert 'name="_save"' in member_of("Chat operators").get(url).content.decode()
    User.objects.all().delete()
    assert 'name="_save"' not in member_of("Chat support").get(url).content.decode()


def test_a_group_of_that_name_that_was_there_stays_as_it_is() -> None:
    Group.objects.filter(name__in=migration.GROUPS).delete()
    own = Group.objects.create(name="Chat support")
    own.permissions.add(Permission.objects.get(codename="view_user"))
    for _time in range(2):
        migration.create_groups(apps, _Editor())
        assert codenames("Chat support") == {"view_user"}
        assert "change_preset" in codenames("Chat operators")
    assert Group.objects.filter(name__in=migration.GROUPS).count() == 2


def test_what_is_taken_out_stays_out(made: None) -> None:
    Group.objects.get(name="Chat support").permissions.clear()
    Group.objects.get(name="Chat operators").delete()
    migration.create_groups(apps, _Editor())
    assert codenames("Chat support") == set()


def test_permissions_that_are_not_there_yet_are_made(made: None) -> None:
    Group.objects.filter(name__in=migration.GROUPS).delete()
    Permission.objects.filter(content_type__app_label__in=["conversations", "llmproviders"]).delete()
    migration.create_groups(apps, _Editor())
    assert "stop_generation" in codenames("Chat support")
    assert "change_preset" in codenames("Chat operators")


def test_nothing_happens_where_accounts_are_in_another_database(settings: Any) -> None:
    Group.objects.filter(name__in=migration.GROUPS).delete()
    settings.DATABASE_ROUTERS = [_Elsewhere()]
    migration.create_groups(apps, _Editor())
    assert not Group.objects.filter(name__in=migration.GROUPS).exists()


class _Elsewhere:
    def allow_migrate(self, _db: str, app_label: str, **_hints: Any) -> bool:
        return app_label != "auth"


NAMES = [
    ("stop_generation", "Can stop running answers"),
    ("view_overview", "Can view overview"),
    ("view_userconfig", "Can view user's model settings"),
]
LOOK = """
from django.contrib.auth.models import Group, Permission
for group in Group.objects.order_by("name"):
    print(group.name, group.permissions.count())
print(sorted(Permission.objects.filter(codename__in=["view_overview", "stop_generation", "view_userconfig"])
    .values_list("codename", "name")))
"""


def manage(folder: Path, *arguments: str) -> str:
    environ = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "DEBUG": "false"}
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def test_they_are_there_after_a_migration_from_nothing_and_after_one_back_and_forth(tmp_path: Path) -> None:
    manage(tmp_path, "migrate", "-v0")
    # And the one of attachments, which a later migration adds.
    numbers = {name: sum(map(len, wanted.values())) + 1 for name, wanted in migration.GROUPS.items()}
    expected = [*(f"{name} {numbers[name]}" for name in sorted(numbers)), str(NAMES)]
    assert manage(tmp_path, "shell", "-v0", "-c", LOOK).splitlines() == expected
    manage(tmp_path, "migrate", "-v0", "conversations", "0010")
    manage(tmp_path, "migrate", "-v0")
    assert manage(tmp_path, "shell", "-v0", "-c", LOOK).splitlines() == expected

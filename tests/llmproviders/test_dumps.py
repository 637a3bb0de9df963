"""Dumps (`dumpdata`, `loaddata`) carry ciphertext, and no other door takes it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.core.serializers.base import DeserializationError
from django.db import connection
from django.test import Client
from django.urls import reverse

from conversations.models import Allowance, Conversation, UserConfig
from llmproviders.exceptions import InvalidEndpoint
from llmproviders.fields import ENCRYPTED, as_stored, ciphertext
from llmproviders.models import Preset
from llmproviders.net.guard import validate_key
from tests.docs.markdown import ROOT, blocks

pytestmark = pytest.mark.django_db
Limits = Callable[..., None]
SECRET = "sk-very-secret-0123456789"


@pytest.fixture
def preset() -> Preset:
    Preset.objects.all().delete()
    return Preset.objects.create(type="mine", name="Mine", api_url="http://127.0.0.1/v1", model="m", api_key=SECRET)


def dump(path: Path, *models: str) -> str:
    call_command("dumpdata", *(models or ["llmproviders"]), output=str(path))
    return path.read_text()


def stolen(preset: Preset) -> str:
    """What somebody who saw a dump, or the database, could try to enter as a key of their own."""
    return ENCRYPTED + str(Preset.objects.annotate(token=ciphertext("api_key")).get(pk=preset.pk).token)


@pytest.mark.parametrize("format", ["json", "jsonl", "xml", "yaml"])
def test_a_dump_holds_ciphertext_and_loads_again(preset: Preset, format: str) -> None:
    text = serializers.serialize(format, Preset.objects.all())
    assert SECRET not in text
    assert f"{ENCRYPTED}gAAAA" in text

    Preset.objects.all().delete()
    for item in serializers.deserialize(format, text):
        item.save()
    assert Preset.objects.get(pk=preset.pk).api_key == SECRET


def test_the_commands_do_so_for_all_that_is_empty_too(preset: Preset, tmp_path: Path) -> None:
    UserConfig.objects.create(user_identifier="full", custom_api_key="sk-of-a-user-12345678")
    UserConfig.objects.create(user_identifier="empty")
    path = tmp_path / "dump.json"
    text = dump(path, "llmproviders", "conversations")
    assert SECRET not in text
    assert "sk-of-a-user" not in text
    rows = [item["fields"] for item in json.loads(text)]
    assert [row["custom_api_key"] for row in rows if row.get("user_identifier") == "empty"] == [""]

    Preset.objects.all().delete()
    UserConfig.objects.all().delete()
    call_command("loaddata", str(path), stdout=StringIO())

    assert Preset.objects.get().api_key == SECRET
    keys = UserConfig.objects.order_by("user_identifier").values_list("user_identifier", "custom_api_key")
    assert list(keys) == [("empty", ""), ("full", "sk-of-a-user-12345678")]


def test_a_dump_that_was_made_before_a_rotation_loads_while_the_old_key_is_known(
    preset: Preset, tmp_path: Path, limits: Limits
) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    limits(ENCRYPTION_KEYS=[old])
    preset.save()
    dump(path := tmp_path / "dump.json")
    limits(ENCRYPTION_KEYS=[new, old])
    call_command("loaddata", str(path), stdout=StringIO())
    limits(ENCRYPTION_KEYS=[new])
    assert Preset.objects.get().api_key == SECRET


def test_with_other_encryption_keys_a_dump_is_refused_whole(preset: Preset, tmp_path: Path, limits: Limits) -> None:
    dump(path := tmp_path / "dump.json")
    Preset.objects.all().delete()
    limits(ENCRYPTION_KEYS=[Fernet.generate_key().decode()])

    with pytest.raises(DeserializationError, match=r"llmproviders_preset\.api_key cannot be decrypted") as refused:
        call_command("loaddata", str(path), stdout=StringIO())

    assert f"pk={preset.pk}" in str(refused.value)
    assert not Preset.objects.exists()


def test_a_value_that_cannot_be_decrypted_ends_a_dump_with_the_reason(
    preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On PostgreSQL Django would leave a cursor open in this test's transaction, which the next test is told of.
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    Preset.objects.filter(pk=preset.pk).update(api_key=as_stored("of-another-key"))

    with pytest.raises(CommandError, match=r"llmproviders_preset\.api_key cannot be decrypted") as failed:
        dump(tmp_path / "dump.json")

    assert "of-another-key" not in str(failed.value)


def test_a_fixture_written_by_hand_may_hold_a_key_in_clear(preset: Preset, tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    path.write_text(dump(path).replace(json.loads(path.read_text())[0]["fields"]["api_key"], "sk-by-hand"))
    call_command("loaddata", str(path), stdout=StringIO())
    assert Preset.objects.get().api_key == "sk-by-hand"


def documented(path: Path) -> dict[str, list[str]]:
    """The arguments of the commands by which docs/database.md moves to another database; ``path`` is the file."""
    [block] = [block.text for block in blocks(ROOT / "docs" / "database.md", "bash") if "dumpdata" in block.text]
    assert block.startswith("umask 077\n"), "the file holds what everybody said"
    lines = [shlex.split(line.replace("var/dump.json.gz", str(path))) for line in block.splitlines()]
    return {words[2]: words[3:] for words in lines if words[1:2] == ["manage.py"]}


def test_accounts_keep_their_groups_and_permissions_in_a_database_that_numbers_them_otherwise(tmp_path: Path) -> None:
    commands = documented(tmp_path / "dump.json.gz")
    shipped = {group.name: sorted(group.permissions.values_list("codename")) for group in Group.objects.all()}
    team, kim = Group.objects.create(name="team"), User.objects.create_user("kim")
    seen = Permission.objects.get(codename="view_conversation")
    kim.groups.add(team)
    kim.user_permissions.add(seen)
    Allowance.objects.create(group=team, tokens_per_day=5)
    mine = Conversation.objects.create(owner=kim, user_identifier=f"user:{kim.pk}")
    call_command("dumpdata", *commands["dumpdata"])

    kim.delete()
    Group.objects.all().delete()
    Group.objects.create(name="Chat operators")
    number, kind = seen.pk, seen.content_type
    seen.delete()
    Permission.objects.create(name="Another", codename="another", content_type=kind, pk=number)
    Permission.objects.create(name="Can view conversation", codename="view_conversation", content_type=kind)
    call_command("shell", *commands["shell"], verbosity=0)
    call_command("loaddata", *commands["loaddata"], stdout=StringIO())

    kim = User.objects.get()
    assert [group.name for group in kim.groups.all()] == ["team"]
    assert [each.codename for each in kim.user_permissions.all()] == ["view_conversation"]
    assert [each.group and each.group.name for each in Allowance.objects.all()] == ["team"]
    assert [(each.session_id, each.owner) for each in Conversation.objects.all()] == [(mine.session_id, kim)]
    there = {group.name: sorted(group.permissions.values_list("codename")) for group in Group.objects.all()}
    assert there == {**shipped, "team": []}


def test_ciphertext_is_no_key(preset: Preset) -> None:
    with pytest.raises(InvalidEndpoint, match="may not begin with encrypted:"):
        validate_key(stolen(preset))


def test_the_admin_does_not_take_ciphertext_as_a_key(preset: Preset, admin_client: Client) -> None:
    form = {
        "type": "theirs",
        "name": "Theirs",
        "backend": "openai_compatible",
        "api_url": "https://example.com/v1",
        "model": "m",
        "api_key": stolen(preset),
        "context_window": "8192",
        "order": "5",
    }
    response = admin_client.post(reverse("admin:llmproviders_preset_add"), form)

    assert "may not begin with encrypted:" in response.content.decode()
    assert not Preset.objects.filter(type="theirs").exists()


@pytest.mark.parametrize("write", ["save", "update", "full_clean"])
def test_no_other_way_of_writing_decrypts(preset: Preset, write: str) -> None:
    """Also where no form looks at it first."""
    key = stolen(preset)
    if write == "update":
        Preset.objects.filter(pk=preset.pk).update(api_key=key)
    else:
        preset.api_key = key
        if write == "full_clean":
            with pytest.raises(ValidationError, match="may not begin with"):
                preset.full_clean()
            assert preset.api_key == key
            return
        preset.save()
    preset.refresh_from_db()
    assert preset.api_key == key


def test_the_api_does_not_take_ciphertext_as_a_key(preset: Preset, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 0}
    body = {
        "model_type": "custom",
        "custom_api_url": "https://example.com/v1",
        "custom_model": "m",
        "custom_api_key": stolen(preset),
    }
    response = Client(headers={"Host": "localhost"}).post("/api/config", body, content_type="application/json")
    assert response.status_code == 400
    assert list(response.json()["errors"]) == ["custom_api_key"]
    assert not UserConfig.objects.exists()

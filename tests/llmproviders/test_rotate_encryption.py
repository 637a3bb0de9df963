"""`manage.py rotate_encryption`: old ciphertexts get the new key, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from conversations.models import UserConfig
from llmproviders.fields import DecryptionFailed, EncryptedTextField, as_stored, ciphertext
from llmproviders.management.commands import rotate_encryption
from llmproviders.models import Preset

pytestmark = pytest.mark.django_db
Limits = Callable[..., None]
OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_presets(limits: Limits) -> None:
    Preset.objects.all().delete()
    limits(ENCRYPTION_KEYS=[OLD])


def preset(number: int = 1, key: str = SECRET) -> Preset:
    return Preset.objects.create(type=f"p{number}", name="P", api_url="http://127.0.0.1/v1", model="m", api_key=key)


def stored(row: Preset | UserConfig) -> str:
    name = "api_key" if isinstance(row, Preset) else "custom_api_key"
    tokens = type(row)._base_manager.annotate(token=ciphertext(name)).values_list("token", flat=True)
    return str(tokens.get(pk=row.pk))


def rotate(*arguments: str) -> tuple[str, str]:
    """What the command prints."""
    out, err = StringIO(), StringIO()
    call_command("rotate_encryption", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_values_of_every_model_open_with_the_new_key_alone(limits: Limits) -> None:
    first = preset()
    config = UserConfig.objects.create(user_identifier="u", custom_api_key="sk-of-a-user-12345678")
    changed_at = config.updated_at
    limits(ENCRYPTION_KEYS=[NEW, OLD])

    out, err = rotate()

    limits(ENCRYPTION_KEYS=[NEW])
    assert Preset.objects.get(pk=first.pk).api_key == SECRET
    config.refresh_from_db()
    assert (config.custom_api_key, config.updated_at) == ("sk-of-a-user-12345678", changed_at)
    assert "llmproviders_preset.api_key: 1 encrypted anew, 0 already current, 0 unreadable" in out
    assert "conversations_userconfig.custom_api_key: 1 encrypted anew" in out
    assert err == ""


def test_all_encrypted_fields_are_found() -> None:
    assert {rotate_encryption.column_of(field) for field in rotate_encryption.encrypted_fields("default")} >= {
        "llmproviders_preset.api_key",
        "conversations_userconfig.custom_api_key",
    }


def test_what_is_current_is_not_written_again(limits: Limits) -> None:
    old = preset(1)
    limits(ENCRYPTION_KEYS=[NEW, OLD])
    current = preset(2)
    before = stored(current)
    rotate()
    after = stored(old)

    out, _err = rotate()

    assert "llmproviders_preset.api_key: 0 encrypted anew, 2 already current" in out
    assert (stored(current), stored(old)) == (before, after)


def test_empty_values_stay_empty(limits: Limits) -> None:
    empty = preset(key="")
    limits(ENCRYPTION_KEYS=[NEW, OLD])

    assert "llmproviders_preset.api_key: 0 encrypted anew, 0 already current" in rotate()[0]
    assert stored(empty) == ""


def test_a_dry_run_says_the_same_and_stores_nothing(limits: Limits) -> None:
    row = preset()
    before = stored(row)
    limits(ENCRYPTION_KEYS=[NEW, OLD])

    out, err = rotate("--dry-run")

    assert "llmproviders_preset.api_key: 1 encrypted anew" in out
    assert "nothing was stored" in err
    assert stored(row) == before


@pytest.mark.parametrize("broken", [None, "plain text", "密钥"])
def test_what_no_key_opens_is_named_and_left_alone(limits: Limits, broken: str | None) -> None:
    good, bad = preset(1), preset(2)
    if broken is None:
        limits(ENCRYPTION_KEYS=[LOST])
        Preset.objects.filter(pk=bad.pk).update(api_key=SECRET)
    else:
        Preset.objects.filter(pk=bad.pk).update(api_key=as_stored(broken))
    before = stored(bad)
    limits(ENCRYPTION_KEYS=[NEW, OLD])
    out, err = StringIO(), StringIO()

    with pytest.raises(CommandError, match="1") as failed:
        call_command("rotate_encryption", stdout=out, stderr=err)

    assert failed.value.returncode == 1
    assert "1 encrypted anew, 0 already current, 1 unreadable" in out.getvalue()
    assert f"llmproviders_preset.api_key of the row {bad.pk} " in err.getvalue()
    said = f"{out.getvalue()}{err.getvalue()}{failed.value}"
    assert before not in said
    assert SECRET not in said
    assert stored(bad) == before
    limits(ENCRYPTION_KEYS=[NEW])
    assert Preset.objects.get(pk=good.pk).api_key == SECRET


@pytest.mark.parametrize("written_with", [OLD, NEW], ids=["old", "new"])
def test_an_edit_at_the_same_time_wins(limits: Limits, monkeypatch: pytest.MonkeyPatch, written_with: str) -> None:
    """Also one by a server that does not know the new key yet."""
    row = preset()
    limits(ENCRYPTION_KEYS=[NEW, OLD])
    rotated, edits = EncryptedTextField.rotated, iter(["sk-edited-meanwhile"])

    def rotated_late(field: EncryptedTextField, token: str) -> str | None:
        fresh = rotated(field, token)
        for edit in edits:
            edited = Fernet(written_with).encrypt(edit.encode()).decode()
            Preset.objects.filter(pk=row.pk).update(api_key=as_stored(edited))
        return fresh

    monkeypatch.setattr(EncryptedTextField, "rotated", rotated_late)
    rotate()

    limits(ENCRYPTION_KEYS=[NEW])
    assert Preset.objects.get(pk=row.pk).api_key == "sk-edited-meanwhile"


def test_a_row_that_is_deleted_meanwhile_stays_deleted(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    preset()
    limits(ENCRYPTION_KEYS=[NEW, OLD])
    rotated = EncryptedTextField.rotated

    def rotated_late(field: EncryptedTextField, token: str) -> str | None:
        Preset.objects.all().delete()
        return rotated(field, token)

    monkeypatch.setattr(EncryptedTextField, "rotated", rotated_late)
    rotate()

    assert not Preset.objects.exists()


def test_many_rows_are_read_in_pages(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate_encryption, "BATCH", 3)
    rows = [preset(number) for number in range(8)]
    limits(ENCRYPTION_KEYS=[NEW, OLD])

    with CaptureQueriesContext(connection) as queries:
        rotate()

    reads = [q["sql"] for q in queries if q["sql"].startswith("SELECT") and "llmproviders_preset" in q["sql"]]
    assert len(reads) == 4
    assert all("LIMIT 3" in sql for sql in reads)
    limits(ENCRYPTION_KEYS=[NEW])
    assert {Preset.objects.get(pk=row.pk).api_key for row in rows} == {SECRET}


def test_servers_read_all_values_before_and_after(limits: Limits) -> None:
    halfway = preset()
    limits(ENCRYPTION_KEYS=[NEW, OLD])
    assert Preset.objects.get(pk=halfway.pk).api_key == SECRET
    rotate()
    assert Preset.objects.get(pk=halfway.pk).api_key == SECRET
    limits(ENCRYPTION_KEYS=[OLD])
    with pytest.raises(DecryptionFailed):
        Preset.objects.get(pk=halfway.pk)


def test_a_database_without_the_tables_is_passed_over(settings: Any) -> None:
    class Elsewhere:
        def allow_migrate(self, database: str, app_label: str, **hints: object) -> bool:
            return app_label != "llmproviders"

    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert "llmproviders_preset" not in rotate()[0]

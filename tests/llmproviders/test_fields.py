"""What is secret stays out of the database, of forms and of error texts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import connection, connections
from django.forms import modelform_factory
from hypothesis import given
from hypothesis import strategies as st

from llmproviders.fields import HIDDEN, DecryptionFailed, EncryptedTextField, SecretField, mask
from llmproviders.models import Preset

SECRET = "sk-very-secret-0123456789"
Limits = Callable[..., None]
Form = modelform_factory(Preset, fields=["name", "api_key"])


def stored(preset: Preset) -> str:
    """What the database really holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_key FROM llmproviders_preset WHERE id = %s", [preset.pk])
        return str(cursor.fetchone()[0])


def make(key: str = SECRET, type: str = "mine") -> Preset:
    return Preset.objects.create(type=type, name="Mine", api_url="http://127.0.0.1/v1", model="m", api_key=key)


def read(preset: Preset) -> str:
    return Preset.objects.get(pk=preset.pk).api_key


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("", ""),
        ("short", HIDDEN),
        ("elevenchars", HIDDEN),
        ("twelve-chars", HIDDEN + "hars"),
        (SECRET, HIDDEN + "6789"),
        ("env:MY_KEY", "env:MY_KEY"),
    ],
)
def test_mask_shows_the_end_of_long_secrets_only(secret: str, shown: str) -> None:
    assert mask(secret) == shown


@given(st.text(min_size=1))
def test_mask_never_shows_more_than_four_characters(secret: str) -> None:
    assert secret.startswith("env:") or len(mask(secret).removeprefix(HIDDEN)) <= 4


@pytest.mark.django_db
@pytest.mark.parametrize("write", ["create", "save", "update", "bulk_create", "bulk_update"])
def test_every_way_of_writing_encrypts(write: str) -> None:
    if write == "create":
        preset = make()
    elif write == "bulk_create":
        preset = Preset.objects.bulk_create([Preset(type="mine", name="n", model="m", api_key=SECRET)])[0]
    else:
        preset = make("another-key")
        preset.api_key = SECRET
    if write == "save":
        preset.save()
    elif write == "update":
        Preset.objects.filter(pk=preset.pk).update(api_key=SECRET)
    elif write == "bulk_update":
        Preset.objects.bulk_update([preset], ["api_key"])

    assert SECRET not in stored(preset)
    assert stored(preset).startswith("gAAAA")
    assert read(preset) == SECRET
    assert Preset.objects.values_list("api_key", flat=True).get(pk=preset.pk) == SECRET


@pytest.mark.django_db
def test_equal_secrets_look_different_in_the_database() -> None:
    assert stored(make(type="one")) != stored(make(type="two"))


@pytest.mark.django_db
def test_text_outside_ascii_survives() -> None:
    assert read(make("密钥 \N{KEY} e\u0301")) == "密钥 \N{KEY} e\u0301"


@pytest.mark.django_db
def test_an_empty_value_is_stored_as_it_is() -> None:
    preset = make("")

    assert stored(preset) == ""
    assert read(preset) == ""


def test_null_passes() -> None:
    field = Preset._meta.get_field("api_key")

    assert field.get_db_prep_save(None, connection) is None
    assert field.from_db_value(None, None, connection) is None


@pytest.mark.django_db
def test_the_first_key_encrypts_and_all_decrypt(limits: Limits) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    limits(ENCRYPTION_KEYS=[old])
    before = make(type="before")
    limits(ENCRYPTION_KEYS=[new, old])
    after = make(type="after")

    assert read(before) == SECRET
    limits(ENCRYPTION_KEYS=[new])
    assert read(after) == SECRET
    with pytest.raises(DecryptionFailed):
        read(before)


@pytest.mark.django_db
@pytest.mark.parametrize("content", [None, "plain text", "密钥", "gAAAAABnotatoken"])
def test_what_no_key_opens_is_an_error_without_the_value(limits: Limits, content: str | None) -> None:
    preset = make()
    if content is None:
        limits(ENCRYPTION_KEYS=[Fernet.generate_key().decode()])
    else:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE llmproviders_preset SET api_key = %s WHERE id = %s", [content, preset.pk])
    ciphertext = stored(preset)

    with pytest.raises(DecryptionFailed, match=r"llmproviders_preset\.api_key") as caught:
        read(preset)

    assert ciphertext not in str(caught.value)
    assert caught.value.__suppress_context__, "a traceback would go on to the call that had the value"


@pytest.mark.django_db
def test_without_encryption_keys_nothing_is_stored(limits: Limits) -> None:
    limits(ENCRYPTION_KEYS=[])

    with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS"):
        make()


@pytest.mark.django_db
def test_whether_there_is_a_value_can_be_asked() -> None:
    full, empty = make(type="full"), make("", type="empty")
    mine = Preset.objects.filter(type__in=["full", "empty"])

    assert mine.get(api_key="") == empty
    assert mine.exclude(api_key="").get() == full
    assert mine.filter(api_key__isnull=False).count() == 2


@pytest.mark.parametrize(
    "lookup", ["", "__iexact", "__in", "__contains", "__startswith", "__gt", "__regex", "__range", "__lower"]
)
def test_every_other_lookup_is_refused(lookup: str) -> None:
    with pytest.raises(FieldError, match="encrypted"):
        Preset.objects.filter(**{f"api_key{lookup}": SECRET})


def test_a_migration_names_no_keys(settings: Any) -> None:
    _name, path, _arguments, options = Preset._meta.get_field("api_key").deconstruct()

    assert path == "llmproviders.fields.EncryptedTextField"
    assert settings.LLMPROVIDERS["ENCRYPTION_KEYS"][0] not in repr(options)


def test_repr_shows_no_secret() -> None:
    preset = Preset(type="mine", name="Mine", api_key=SECRET)

    assert SECRET not in f"{preset!r} {preset} {preset.endpoint()!r}"


@pytest.mark.django_db(transaction=True)
def test_every_thread_can_read() -> None:
    preset = make()

    def read_in_thread(_number: int) -> str:
        try:
            return read(preset)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(read_in_thread, range(8))) == {SECRET}


def test_a_form_never_holds_the_secret() -> None:
    preset = Preset(name="Mine", api_key=SECRET)

    for form in (Form(instance=preset), Form({"name": "", "api_key": "sk-typed-just-now-1234"}, instance=preset)):
        html = form.as_p()
        assert SECRET not in html
        assert "sk-typed" not in html
        assert f'placeholder="{HIDDEN}6789"' in html
        assert 'type="password"' in html


def test_the_widget_cannot_be_replaced_by_one_that_shows() -> None:
    from django.contrib.admin.widgets import AdminTextareaWidget

    field = Preset._meta.get_field("api_key").formfield(widget=AdminTextareaWidget)

    assert isinstance(field, SecretField)
    assert SECRET not in field.widget.render("api_key", SECRET)[: -len("x")].replace(f'placeholder="{SECRET}"', "")


def test_there_is_nothing_to_clear_where_nothing_is_stored() -> None:
    assert "checkbox" not in Form(instance=Preset()).as_p()


@pytest.mark.parametrize(
    ("typed", "expected", "changed"),
    [
        ({"api_key": ""}, SECRET, False),
        ({}, SECRET, False),
        ({"api_key": "sk-new"}, "sk-new", True),
        ({"api_key": " sk-new \n"}, "sk-new", True),
        ({"api_key": "", "api_key-clear": "on"}, "", True),
        ({"api_key": "sk-new", "api_key-clear": "on"}, "sk-new", True),
    ],
)
def test_an_empty_input_keeps_and_the_box_clears(typed: dict[str, str], expected: str, changed: bool) -> None:
    form = Form({"name": "Mine", **typed}, instance=Preset(name="Mine", api_url="http://127.0.0.1/v1", api_key=SECRET))

    assert form.is_valid(), form.errors
    assert form.instance.api_key == expected
    assert ("api_key" in form.changed_data) is changed


def test_the_field_is_described() -> None:
    assert str(EncryptedTextField.description) == "Encrypted text"

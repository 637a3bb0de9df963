"""Presets in Django admin, through real requests of the test client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from llmproviders.models import Preset

pytestmark = pytest.mark.django_db
SECRET = "sk-very-secret-0123456789"
LIST = "admin:llmproviders_preset_changelist"


@pytest.fixture
def preset() -> Preset:
    return Preset.objects.create(
        type="mine", name="Mine", api_url="https://user.example.com:8443/v1/chat?x=1", model="m", api_key=SECRET
    )


@pytest.fixture
def posted(preset: Preset, admin_client: Client) -> Callable[..., Any]:
    """Post the change form, with these fields changed."""

    def post(**changes: str) -> Any:
        data = {
            "type": "mine",
            "name": "Mine",
            "backend": "openai_compatible",
            "api_url": preset.api_url,
            "model": "m",
            "api_key": "",
            "context_window": "8192",
            "order": "100",
            "is_enabled": "on",
        }
        return admin_client.post(change_url(preset), {**data, **changes})

    return post


def change_url(preset: Preset) -> str:
    return reverse("admin:llmproviders_preset_change", args=[preset.pk])


def saved_key(preset: Preset) -> str:
    return Preset.objects.get(pk=preset.pk).api_key


def test_no_page_holds_a_key(preset: Preset, admin_client: Client) -> None:
    pages = [
        reverse(LIST),
        change_url(preset),
        reverse("admin:llmproviders_preset_add"),
        reverse("admin:llmproviders_preset_history", args=[preset.pk]),
        reverse("admin:llmproviders_preset_delete", args=[preset.pk]),
    ]
    for page in pages:
        response = admin_client.get(page)
        assert response.status_code == 200, page
        assert SECRET not in response.content.decode()


def test_who_may_only_look_sees_the_key_masked(preset: Preset) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_preset"))
    client = Client()
    client.force_login(user)

    html = client.get(change_url(preset)).content.decode()

    assert SECRET not in html
    assert "••••6789" in html


def test_the_form_hints_at_the_stored_key(preset: Preset, admin_client: Client) -> None:
    assert 'placeholder="••••6789"' in admin_client.get(change_url(preset)).content.decode()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, SECRET),
        ({"name": "Renamed"}, SECRET),
        ({"api_key": "sk-new"}, "sk-new"),
        ({"api_key-clear": "on"}, ""),
        ({"api_url": "https://other.example.com/v1"}, ""),
        ({"api_url": "https://other.example.com/v1", "api_key": "sk-other"}, "sk-other"),
    ],
)
def test_what_becomes_of_the_key(
    posted: Callable[..., Any], preset: Preset, changes: dict[str, str], key: str
) -> None:
    assert posted(**changes).status_code == 302
    assert saved_key(preset) == key


def test_the_history_says_that_the_key_changed_and_not_to_what(posted: Callable[..., Any], preset: Preset) -> None:
    posted(api_key="sk-another-secret")

    entry = LogEntry.objects.get()
    assert "API key" in entry.get_change_message()
    assert "secret" not in f"{entry.change_message} {entry.object_repr}"


def test_a_bad_form_is_shown_again_without_what_was_typed(posted: Callable[..., Any], preset: Preset) -> None:
    response = posted(api_url="not a url", api_key="sk-typed-0123456789")

    assert response.status_code == 200
    html = response.content.decode()
    assert "errorlist" in html
    assert "sk-typed" not in html
    assert saved_key(preset) == SECRET


def test_a_new_preset_keeps_the_key_that_was_entered_with_it(admin_client: Client) -> None:
    response = admin_client.post(
        reverse("admin:llmproviders_preset_add"),
        {
            "type": "fresh",
            "name": "Fresh",
            "backend": "openai_compatible",
            "api_url": "https://example.com/v1",
            "model": "m",
            "api_key": "sk-fresh",
            "context_window": "8192",
            "order": "5",
        },
    )

    assert response.status_code == 302
    assert Preset.objects.get(type="fresh").api_key == "sk-fresh"


def test_the_list_shows_host_and_whether_there_is_a_key(preset: Preset, admin_client: Client) -> None:
    html = admin_client.get(reverse(LIST), {"q": "mine"}).content.decode()

    assert "user.example.com:8443" in html
    assert "/v1/chat" not in html
    assert 'alt="True"' in html


def test_order_and_enabled_are_changed_in_the_list_and_the_key_stays(preset: Preset, admin_client: Client) -> None:
    Preset.objects.exclude(pk=preset.pk).delete()
    Preset.objects.filter(pk=preset.pk).update(api_url="")  # not valid as a whole: the list must not mind

    response = admin_client.post(
        reverse(LIST),
        {
            "form-TOTAL_FORMS": "1",
            "form-INITIAL_FORMS": "1",
            "form-0-id": str(preset.pk),
            "form-0-order": "3",
            "_save": "Save",
        },
    )
    assert response.status_code == 200
    assert "needs an API URL" in response.content.decode()

    Preset.objects.filter(pk=preset.pk).update(api_url="https://example.com/v1")
    response = admin_client.post(
        reverse(LIST),
        {
            "form-TOTAL_FORMS": "1",
            "form-INITIAL_FORMS": "1",
            "form-0-id": str(preset.pk),
            "form-0-order": "3",
            "_save": "Save",
        },
    )
    assert response.status_code == 302
    preset.refresh_from_db()
    assert (preset.order, preset.is_enabled, preset.api_key) == (3, False, SECRET)


@pytest.mark.parametrize("query", [{}, {"q": "preset"}, {"is_enabled__exact": "1"}, {"o": "6"}])
def test_the_list_runs_as_many_queries_for_many_as_for_few(
    admin_client: Client, django_assert_max_num_queries: Any, query: dict[str, str]
) -> None:
    Preset.objects.bulk_create(
        Preset(type=f"preset-{n}", name=f"Preset {n}", model="m", api_url="https://example.com/v1", api_key=SECRET)
        for n in range(1000)
    )
    admin_client.get(reverse(LIST), query)

    with django_assert_max_num_queries(6):
        assert admin_client.get(reverse(LIST), query).status_code == 200


def test_a_key_that_cannot_be_decrypted_can_be_entered_again(
    preset: Preset, posted: Callable[..., Any], admin_client: Client, limits: Callable[..., None]
) -> None:
    limits(ENCRYPTION_KEYS=[Fernet.generate_key().decode()])

    assert admin_client.get(reverse(LIST)).status_code == 200
    page = admin_client.get(change_url(preset))
    assert "cannot be decrypted" in page.content.decode()
    assert posted(api_key="sk-again").status_code == 302
    assert saved_key(preset) == "sk-again"


def test_what_a_model_can_do_is_set_and_shown(
    posted: Callable[..., Any], preset: Preset, admin_client: Client
) -> None:
    page = admin_client.get(change_url(preset)).content.decode()
    assert "callers of /v1 may send through" in page
    assert posted(takes_images="true", takes_tools="false", extra_fields="top_k min_p").status_code == 302
    preset.refresh_from_db()
    assert (preset.takes_images, preset.takes_tools, preset.reasons) == (True, False, None)
    assert (preset.takes_system, preset.alternates, preset.extra_fields) == (False, False, "top_k min_p")
    assert '<td class="field-can">images</td>' in admin_client.get(reverse(LIST), {"q": "mine"}).content.decode()
    filtered = admin_client.get(reverse(LIST), {"takes_images__exact": "0"}).content.decode()
    assert change_url(preset) not in filtered
    assert "SmolLM2" in filtered


def test_fields_that_are_ours_are_no_extra_fields(posted: Callable[..., Any], preset: Preset) -> None:
    response = posted(extra_fields="top_k messages")
    assert "These are no extra fields: messages." in response.content.decode()
    preset.refresh_from_db()
    assert preset.extra_fields == ""

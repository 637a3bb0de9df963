"""A preset tried from its page in admin: whether it answers, and which models its server has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from llmproviders import admin
from llmproviders.breaker import FAILURES, breaker
from llmproviders.management import trials
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, status

KEY = "sk-scripted-0123456789"


@pytest.fixture(autouse=True)
def limited(limits: Callable[..., None], no_retries: None) -> None:
    limits()


@pytest.fixture
def preset(db: None, upstream_thread: ScriptedUpstream) -> Preset:
    return Preset.objects.create(type="scripted", name="Mine", api_url=upstream_thread.url, model="tiny", api_key=KEY)


def url_of(what: str, preset: Preset) -> str:
    return reverse(f"admin:llmproviders_preset_{what}", args=[preset.pk])


def tried(client: Client, what: str, preset: Preset) -> str:
    response = client.post(url_of(what, preset))
    assert response.status_code == 200
    html = response.content.decode()
    assert KEY not in html
    return html


def test_a_model_that_answers_is_said_to(
    admin_client: Client, preset: Preset, upstream_thread: ScriptedUpstream
) -> None:
    upstream_thread.script = [answer("Hello", "!")]
    html = tried(admin_client, "test", preset)
    assert "It answers." in html
    assert "First token after" in html
    assert upstream_thread.requests[-1].headers["authorization"] == f"Bearer {KEY}"


def test_one_that_does_not_says_why(admin_client: Client, preset: Preset, upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [status(401, {"error": {"message": f"<b>wrong</b> key {KEY}"}})]
    html = tried(admin_client, "test", preset)
    assert "It does not work." in html
    assert "upstream_authentication" in html
    assert "&lt;b&gt;wrong&lt;/b&gt;" in html
    assert "It answers." not in html


def test_a_server_that_says_nothing_ends_in_time(
    admin_client: Client, preset: Preset, upstream_thread: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "TEST_SECONDS", 0.2)
    upstream_thread.script = [answer("a", stall="headers")]
    assert "No whole answer within 0.2 s." in tried(admin_client, "test", preset)


def test_the_server_s_models_are_listed(admin_client: Client, preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    html = tried(admin_client, "models", preset)
    assert "“tiny” is not among them." in html
    names = admin_client.post(url_of("models", preset)).context["names"]
    assert names
    Preset.objects.update(model=names[0])
    html = tried(admin_client, "models", preset)
    assert f"<code>{names[0]}</code> (this preset’s)" in html
    assert "not among them" not in html
    monkeypatch.setattr(admin, "MOST_SHOWN", 0)
    assert f"and {len(names)} more" in tried(admin_client, "models", preset)


def test_a_backend_that_lists_none_says_so(admin_client: Client, preset: Preset) -> None:
    Preset.objects.update(backend="embedded", api_url="")
    assert "It does not work." in tried(admin_client, "models", preset)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_server_is_asked(
    admin_client: Client, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = trials.ask_all

    async def look(*args: Any) -> Any:
        seen.append(connection.in_atomic_block)
        return await original(*args)

    monkeypatch.setattr(trials, "ask_all", look)
    tried(admin_client, "test", preset)
    assert seen == [False]


def test_a_model_that_works_again_is_passed_over_no_more(admin_client: Client, preset: Preset) -> None:
    try:
        for _number in range(FAILURES):
            breaker.failed(preset.endpoint())
        assert breaker.seconds_left(preset.endpoint())
        tried(admin_client, "test", preset)
        assert not breaker.seconds_left(preset.endpoint())
    finally:
        breaker.forget()


def test_only_so_many_are_tried_at_a_time(
    admin_client: Client, preset: Preset, upstream_thread: ScriptedUpstream
) -> None:
    with admin._places, admin._places:
        response = admin_client.post(url_of("test", preset), follow=True)
    assert "try again in a moment" in response.content.decode()
    assert not upstream_thread.requests
    tried(admin_client, "test", preset)


@pytest.mark.parametrize("what", ["test", "models"])
def test_it_is_for_those_who_may_change_it_and_by_post(
    preset: Preset, upstream_thread: ScriptedUpstream, what: str
) -> None:
    for names, allowed in ((["view_preset"], False), (["view_preset", "change_preset"], True)):
        user = User.objects.create_user(f"staff-{allowed}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client()
        client.force_login(user)
        page = client.get(reverse("admin:llmproviders_preset_change", args=[preset.pk])).content.decode()
        assert (url_of(what, preset) in page) == allowed
        assert client.post(url_of(what, preset)).status_code == (200 if allowed else 403)
        assert client.get(url_of(what, preset)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("root"))
    assert strict.post(url_of(what, preset)).status_code == 403
    assert len(upstream_thread.requests) == 1


def test_one_that_is_gone_is_not_found(admin_client: Client, preset: Preset) -> None:
    url = url_of("test", preset)
    preset.delete()
    assert admin_client.post(url).status_code == 404


def test_a_key_that_nothing_decrypts_is_told_and_not_replaced_by_none(
    admin_client: Client, preset: Preset, upstream_thread: ScriptedUpstream, limits: Callable[..., None]
) -> None:
    limits(ENCRYPTION_KEYS=[Fernet.generate_key().decode()])
    response = admin_client.post(url_of("test", preset))
    assert response.status_code == 302
    assert not upstream_thread.requests

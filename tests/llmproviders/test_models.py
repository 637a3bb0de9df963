"""Presets: what may be saved, what ships, and the endpoint that comes of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from llmproviders import CompletionFinished, Delta, Provider, get_provider
from llmproviders.backends.openai_compatible import request_body
from llmproviders.catalog import is_available
from llmproviders.models import Preset, backend_choices
from llmproviders.registry import backend_class
from llmproviders.types import CompletionRequest

pytestmark = pytest.mark.django_db
seed = import_module("llmproviders.migrations.0002_seed_presets")

VALID: dict[str, Any] = {"type": "mine", "name": "Mine", "api_url": "https://example.com/v1/chat", "model": "m"}


def preset(**values: Any) -> Preset:
    return Preset(**{**VALID, **values})


def test_the_presets_that_ship() -> None:
    shipped = {p.type: (p.name, p.api_url, p.model, p.api_key, p.backend) for p in Preset.objects.all()}

    assert shipped == {
        "codegeex": (
            "CodeGeeX 4",
            "http://111.19.168.151:11551/v1/chat/completions",
            "codegeex4-all-9b",
            "codegeex",
            "openai_compatible",
        ),
        "glm4": (
            "GLM-4 32B",
            "http://111.19.168.151:11553/v1/chat/completions",
            "glm4_32B_chat",
            "glm432b",
            "openai_compatible",
        ),
        "local": ("SmolLM2 135M (demo, English only)", "", "SmolLM2-135M-Instruct", "", "embedded"),
    }
    for row in Preset.objects.all():
        row.full_clean()


def test_the_migration_stores_keys_encrypted() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT type, api_key FROM llmproviders_preset")
        keys = dict(cursor.fetchall())

    assert keys.pop("local") == ""
    assert all(key.startswith("gAAAA") for key in keys.values())


def test_undoing_the_migration_spares_what_was_changed() -> None:
    Preset.objects.filter(type="glm4").update(model="glm-4.5")

    seed.remove_presets(apps, None)

    assert [row.type for row in Preset.objects.all()] == ["glm4"]


def test_the_migration_overwrites_nothing() -> None:
    Preset.objects.filter(type="glm4").update(name="Ours")
    Preset.objects.filter(type="local").delete()

    seed.create_presets(apps, None)

    assert Preset.objects.get(type="glm4").name == "Ours"
    assert Preset.objects.count() == 3


def test_the_order_is_by_order_then_type() -> None:
    Preset.objects.all().delete()
    for order, type in ((2, "a"), (1, "c"), (1, "b")):
        preset(type=type, order=order).save()

    assert [row.type for row in Preset.objects.all()] == ["b", "c", "a"]


def test_enabled_leaves_out_the_others() -> None:
    Preset.objects.filter(type="glm4").update(is_enabled=False)

    assert [row.type for row in Preset.objects.enabled()] == ["codegeex", "local"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", ""),
        ("type", "Upper"),
        ("type", "with space"),
        ("type", "newline\n"),
        ("type", "x" * 65),
        ("type", "glm4"),
        ("name", ""),
        ("api_url", "ftp://example.com/"),
        ("api_url", "http://user:password@example.com/v1"),
        ("api_url", "http://169.254.169.254/v1"),
        ("api_url", "not a url"),
        ("model", ""),
        ("model", "line\nbreak"),
        ("api_key", "has space"),
        ("api_key", "schlüssel"),
        ("api_key", "env:not-a-name"),
        ("backend", "telepathy"),
        ("context_window", 255),
        ("max_tokens", 0),
        ("max_tokens", 131_073),
        ("temperature", -0.1),
        ("temperature", 2.1),
    ],
)
def test_what_cannot_work_is_refused_by_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        preset(**{field: value}).full_clean()

    assert field in caught.value.message_dict


@pytest.mark.parametrize("type", ["custom", "default"])
def test_reserved_types_are_refused(type: str) -> None:
    with pytest.raises(ValidationError, match="taken by the system"):
        preset(type=type).full_clean()


def test_a_url_is_needed_where_the_backend_needs_one() -> None:
    with pytest.raises(ValidationError, match="needs an API URL"):
        preset(api_url="").full_clean()
    preset(api_url="", backend="embedded").full_clean()


@pytest.mark.parametrize(
    "value", [{"api_key": "env:MY_KEY"}, {"api_url": "http://vllm:8000/v1/chat/completions"}, {"type": "glm-4.5_air"}]
)
def test_what_operators_use_is_accepted(value: dict[str, Any]) -> None:
    preset(**value).full_clean()


@pytest.mark.parametrize(
    "value",
    [
        {"type": "custom"},
        {"type": "default"},
        {"context_window": 255},
        {"max_tokens": 0},
        {"max_tokens": 131_073},
        {"temperature": 2.5},
        {"temperature": -1.0},
        {"type": "glm4"},
    ],
)
def test_the_database_refuses_it_too(value: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        preset(**value).save()


def test_an_endpoint_has_what_the_preset_says() -> None:
    endpoint = preset(api_key="sk-1", context_window=4096, max_tokens=100, temperature=0.2).endpoint()

    assert (endpoint.model_type, endpoint.name, endpoint.api_url, endpoint.model) == tuple(VALID.values())
    assert (endpoint.api_key, endpoint.context_window, endpoint.max_tokens) == ("sk-1", 4096, 100)
    assert (endpoint.temperature, endpoint.is_demo, endpoint.set_by) == (0.2, False, "operator")


def test_the_embedded_model_is_a_demo_with_the_window_it_was_started_with(limits: Callable[..., None]) -> None:
    local = Preset.objects.get(type="local")
    assert local.endpoint().is_demo
    assert local.endpoint().context_window == 8192

    limits(LOCAL_CONTEXT_WINDOW=2048)
    assert local.endpoint().context_window == 2048


def test_a_preset_of_a_backend_that_is_gone_still_loads() -> None:
    assert preset(backend="telepathy").endpoint().backend == "telepathy"


class Parrot(Provider):
    """All that a backend has to be."""

    async def stream(self, request: CompletionRequest) -> AsyncIterator[Delta]:
        yield CompletionFinished("stop")


def test_a_backend_need_declare_nothing(limits: Callable[..., None]) -> None:
    limits(BACKENDS={"parrot": f"{__name__}.Parrot"})
    ours = preset(backend="parrot")

    assert isinstance(get_provider(ours.endpoint()), Parrot)
    assert (ours.endpoint().is_demo, ours.endpoint().context_window) == (False, 8192)
    assert is_available(ours.endpoint())
    assert list(backend_class("parrot").check()) == []
    with pytest.raises(ValidationError, match="needs an API URL"):
        preset(backend="parrot", api_url="").full_clean()


@pytest.mark.parametrize("path", ["nowhere.Backend", "llmproviders.models.Nothing", "llmproviders.conf.Settings"])
def test_of_what_is_no_backend_the_defaults_are_told(limits: Callable[..., None], path: str) -> None:
    limits(BACKENDS={"mine": path})

    assert backend_class("mine") is backend_class("telepathy") is Provider


def test_the_choices_of_backends_are_the_settings(limits: Callable[..., None]) -> None:
    limits(BACKENDS={"mine": "a.b.C"})

    assert backend_choices() == [("mine", "mine")]


def test_the_key_is_shown_masked() -> None:
    assert preset(api_key="sk-0123456789abcd").masked_key() == "••••abcd"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", [[1], "x", {"model": "other"}, {"messages": []}, {"max_tokens": 5}, {"x": "y" * 5000}]
)
def test_parameters_that_are_none(value: Any) -> None:
    preset = Preset(type="p", name="P", api_url="https://example.com/v1/chat/completions", model="m", parameters=value)
    with pytest.raises(ValidationError):
        preset.full_clean()


@pytest.mark.django_db
def test_parameters_of_a_preset_go_along() -> None:
    wanted: dict[str, Any] = {"top_p": 0.9, "temperature": None, "max_tokens": "max_completion_tokens"}
    preset = Preset(
        type="p", name="P", api_url="https://example.com/v1/chat/completions", model="m", parameters=wanted
    )
    preset.full_clean()
    assert preset.endpoint().parameters == wanted


@pytest.mark.parametrize(("value", "streams"), [(None, False), (False, False), (True, True)])
def test_a_preset_says_whether_its_answers_stream(value: bool | None, streams: bool) -> None:
    body = request_body(preset(parameters={"stream": value}).endpoint(), CompletionRequest(()))
    assert body["stream"] is streams
    assert ("stream_options" in body) is streams


@pytest.mark.django_db
def test_the_demo_model_comes_to_an_end() -> None:
    endpoint = Preset.objects.get(type="local").endpoint()
    assert (endpoint.max_tokens, endpoint.temperature) == (300, 0.2)
    assert endpoint.parameters["top_p"] == 0.9
    assert endpoint.parameters["repeat_penalty"] > 1


@pytest.mark.django_db
def test_a_model_file_of_ones_own_is_no_demo(settings: Any) -> None:
    settings.LLMPROVIDERS = {
        **settings.LLMPROVIDERS, "LOCAL_MODEL_FILE": "/models/Qwen3-4B.gguf", "LOCAL_CONTEXT_WINDOW": 16384,
    }  # fmt: skip
    endpoint = Preset.objects.get(type="local").endpoint()
    assert (endpoint.name, endpoint.model, endpoint.is_demo) == ("Qwen3-4B", "Qwen3-4B", False)
    assert (endpoint.max_tokens, endpoint.temperature, endpoint.parameters) == (None, None, {})
    assert endpoint.context_window == 16384

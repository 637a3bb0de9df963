"""Which models can be chosen, and which one answers where nobody chose."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from llmproviders import catalog, local
from llmproviders.exceptions import InvalidEndpoint, UnknownModelType
from llmproviders.fields import DecryptionFailed
from llmproviders.models import Preset

pytestmark = pytest.mark.django_db
Limits = Callable[..., None]
URL = "https://example.com/v1/chat/completions"


@pytest.fixture(autouse=True)
def no_model_of_the_environment(limits: Limits, no_retries: None) -> None:
    limits(API_URL="", MODEL="", API_KEY="")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether the embedded model's packages are there."""

    def say(there: bool) -> None:
        monkeypatch.setattr(local, "is_installed", lambda: there)

    say(True)
    return say


@pytest.fixture
def default(limits: Limits) -> None:
    limits(API_URL=URL, MODEL="env-model", API_KEY="sk-env")


def types() -> list[str]:
    return [endpoint.model_type for endpoint in catalog.list_endpoints()]


def test_enabled_presets_are_listed_in_their_order(installed: Any) -> None:
    Preset.objects.filter(type="local").update(order=1)
    Preset.objects.filter(type="glm4").update(is_enabled=False)

    assert types() == ["local", "codegeex"]


def test_the_environments_model_is_listed_as_default(installed: Any, default: None) -> None:
    assert types() == ["codegeex", "glm4", "local", "default"]
    endpoint = catalog.get_endpoint("default")
    assert (endpoint.api_url, endpoint.model, endpoint.api_key) == (URL, "env-model", "sk-env")
    assert endpoint.set_by == "operator"


def test_the_embedded_model_is_listed_only_where_it_is_installed(installed: Callable[[bool], None]) -> None:
    installed(False)

    assert types() == ["codegeex", "glm4"]


def test_the_embedded_model_can_still_be_asked_for_so_that_the_call_says_how_to_install_it(
    installed: Callable[[bool], None],
) -> None:
    installed(False)

    assert catalog.get_endpoint("local").model_type == "local"


@pytest.mark.parametrize("unknown", ["", "nope", "default", "custom", "glm4"])
def test_an_unknown_or_disabled_type_is_an_error(unknown: str) -> None:
    Preset.objects.filter(type="glm4").update(is_enabled=False)

    with pytest.raises(UnknownModelType):
        catalog.get_endpoint(unknown)


def test_each_call_is_one_query(installed: Any, default: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        catalog.list_endpoints()
    with django_assert_num_queries(1):
        catalog.get_endpoint("glm4")
    with django_assert_num_queries(1):
        catalog.preferred_endpoint("glm4")


def test_the_environments_model_needs_no_query(default: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert catalog.preferred_endpoint().model_type == "default"
        assert catalog.preferred_endpoint("default").model_type == "default"


def test_the_preferred_type_answers_if_it_is_known(installed: Any, default: None) -> None:
    assert catalog.preferred_endpoint("glm4").model_type == "glm4"
    assert catalog.preferred_endpoint("gone").model_type == "default"


def test_else_default_then_local_then_codegeex_then_the_first(installed: Callable[[bool], None]) -> None:
    assert catalog.preferred_endpoint().model_type == "local"
    installed(False)
    assert catalog.preferred_endpoint().model_type == "codegeex"
    Preset.objects.filter(type="codegeex").update(is_enabled=False)
    assert catalog.preferred_endpoint().model_type == "glm4"


def test_with_no_model_at_all_the_error_says_what_to_do() -> None:
    Preset.objects.update(is_enabled=False)

    with pytest.raises(UnknownModelType, match="LLM_API_URL"):
        catalog.preferred_endpoint()


def test_a_users_own_endpoint_is_marked_as_theirs() -> None:
    endpoint = catalog.custom_endpoint(URL, "their-model", "sk-theirs")

    assert (endpoint.model_type, endpoint.set_by) == ("custom", "user")
    assert (endpoint.api_url, endpoint.model, endpoint.api_key) == (URL, "their-model", "sk-theirs")
    assert "sk-theirs" not in repr(endpoint)


def test_on_an_open_server_a_users_own_endpoint_is_the_operators() -> None:
    assert catalog.custom_endpoint(URL, "their-model", set_by="operator").set_by == "operator"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("model", (URL, "", "")),
        ("model", (URL, "line\nbreak", "")),
        ("api_key", (URL, "m", "env:SECRET_KEY")),
    ],
)
def test_a_users_endpoint_that_cannot_be_used_is_refused(field: str, values: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidEndpoint) as caught:
        catalog.custom_endpoint(*values)

    assert caught.value.field == field


def test_an_unreadable_key_hides_only_its_own_preset(
    installed: Any, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    limits(ENCRYPTION_KEYS=[Fernet.generate_key().decode()])
    Preset.objects.filter(type="glm4").update(api_key="sk-new")

    with caplog.at_level(logging.ERROR, "llmproviders"):
        assert types() == ["glm4", "local"]

    assert "preset codegeex is left out" in caplog.text
    with pytest.raises(DecryptionFailed):
        catalog.get_endpoint("codegeex")

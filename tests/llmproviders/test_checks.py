"""The system checks, by their ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core import checks

from llmproviders.checks import check_settings
from llmproviders.conf import BACKENDS, Settings

KEY = Fernet.generate_key().decode()
URL = "https://example.com/v1/chat/completions"
Run = Callable[..., list[checks.CheckMessage]]


@pytest.fixture
def run(settings: Any, no_retries: None) -> Run:
    """Run the app's checks with these settings beside valid ones."""

    def with_settings(**values: object) -> list[checks.CheckMessage]:
        settings.LLMPROVIDERS = {"ENCRYPTION_KEYS": [KEY], **values}
        return checks.run_checks(tags=["llmproviders"])

    return with_settings


def ids(messages: list[checks.CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def test_the_defaults_pass(run: Run) -> None:
    assert run() == []


def test_the_projects_own_settings_pass() -> None:
    assert checks.run_checks(tags=["llmproviders"]) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"CONECT_TIMEOUT": 3}, ["llmproviders.E002"]),
        ({"CONNECT_TIMEOUT": "3"}, ["llmproviders.E003"]),
        ({"CONNECT_TIMEOUT": 0}, ["llmproviders.E003"]),
        ({"CONNECT_TIMEOUT": float("inf")}, ["llmproviders.E003"]),
        ({"CONNECT_TIMEOUT": True}, ["llmproviders.E003"]),
        ({"CONNECT_TIMEOUT": 3}, []),
        ({"MAX_CONNECTIONS": 2.5}, ["llmproviders.E003"]),
        ({"MAX_CONNECTIONS": -1}, ["llmproviders.E003"]),
        ({"MAX_RETRIES": 0}, []),
        ({"MAX_RETRIES": -1}, ["llmproviders.E003"]),
        ({"MODEL": None}, ["llmproviders.E003"]),
        ({"ALLOW_PRIVATE_UPSTREAMS": 1}, ["llmproviders.E003"]),
        ({"ENCRYPTION_KEYS": KEY}, ["llmproviders.E003"]),
        ({"BACKENDS": ["a.b"]}, ["llmproviders.E003"]),
        ({"ENCRYPTION_KEYS": []}, ["llmproviders.E004"]),
        ({"ENCRYPTION_KEYS": [KEY, "short"]}, ["llmproviders.E005"]),
        ({"API_URL": URL}, ["llmproviders.E006"]),
        ({"API_URL": URL, "MODEL": "m"}, []),
        ({"API_URL": "ftp://example.com", "MODEL": "m"}, ["llmproviders.E007"]),
        ({"API_URL": URL, "MODEL": "m", "API_KEY": "with space"}, ["llmproviders.E007"]),
        ({"API_URL": URL, "MODEL": "line\nbreak"}, ["llmproviders.E007"]),
        ({"MODEL": "m"}, ["llmproviders.W001"]),
        ({"API_KEY": "sk-1"}, ["llmproviders.W001"]),
        ({"BACKENDS": {**BACKENDS, "mine": "nowhere.Backend"}}, ["llmproviders.E008"]),
        ({"BACKENDS": {**BACKENDS, "mine": ".Backend"}}, ["llmproviders.E008"]),
        ({"BACKENDS": {**BACKENDS, "mine": "..mine.Backend"}}, ["llmproviders.E008"]),
        ({"BACKENDS": {**BACKENDS, "mine": "llmproviders.models.Nothing"}}, ["llmproviders.E008"]),
        ({"BACKENDS": {"mine": "llmproviders.conf.Settings"}}, ["llmproviders.E009"]),
        ({"LOCAL_CONTEXT_WINDOW": 16_384}, ["llmproviders.W002"]),
        ({"ALLOWED_UPSTREAM_HOSTS": "llm.internal"}, ["llmproviders.E003"]),
        ({"ALLOWED_UPSTREAM_HOSTS": ["llm.internal", "LLM:8000", "10.0.0.5:8000", "[fd00::1]:8000"]}, []),
        ({"ALLOWED_UPSTREAM_HOSTS": ["http://llm.internal"]}, ["llmproviders.E010"]),
        (
            {"ALLOWED_UPSTREAM_HOSTS": ["a b", "a:0", "a:65536", "fd00::1", "*.internal", ""]},
            ["llmproviders.E010"] * 6,
        ),
        *(
            ({"UPSTREAM_PROXY": url}, [])
            for url in ("", "http://proxy:3128", "http://me:p%40ss@[fd00::1]:3128/", "http://10.0.0.1")
        ),
        *(
            ({"UPSTREAM_PROXY": url}, ["llmproviders.E012"])
            for url in (
                "proxy:3128",
                "https://proxy",
                "socks5://proxy",
                "http://",
                "http://p:0",
                "http://p:x",
                "http://p/x",
            )
        ),
        ({"ALLOW_PRIVATE_UPSTREAMS": False, "API_URL": "http://10.0.0.5/v1", "MODEL": "m"}, ["llmproviders.E007"]),
    ],
)
def test_a_mistake_has_its_id(run: Run, values: dict[str, object], expected: list[str]) -> None:
    assert ids(run(**values)) == expected


def test_settings_that_are_no_dictionary(settings: Any, no_retries: None) -> None:
    settings.LLMPROVIDERS = ["API_URL"]

    assert ids(checks.run_checks(tags=["llmproviders"])) == ["llmproviders.E001"]


def test_an_unknown_key_is_answered_with_the_likely_one(run: Run) -> None:
    assert run(api_url=URL)[0].hint == "Did you mean API_URL?"
    assert "API_URL" in str(run(XYZZY=1)[0].hint)


def test_secrets_are_not_in_the_messages(run: Run) -> None:
    messages = [
        *run(ENCRYPTION_KEYS="not-a-list-secret"),
        *run(ENCRYPTION_KEYS=["not-a-key-secret"]),
        *run(API_URL=URL, MODEL="m", API_KEY="a secret"),
    ]

    assert len(messages) == 3
    assert "secret" not in "".join(str(message) for message in messages)


def test_every_key_is_checked_by_type(run: Run) -> None:
    wrong = {name: object() for name in Settings.__dataclass_fields__}

    assert len(run(**wrong)) == len(wrong)


@pytest.mark.parametrize(
    ("content", "ids"), [(b"GGUF\x03", []), (b"PK\x03\x04", ["llmproviders.E011"]), (None, ["llmproviders.E011"])]
)
def test_a_model_file_is_looked_at(settings: Any, tmp_path: Path, content: bytes | None, ids: list[str]) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "LOCAL_MODEL_FILE": str(path)}
    assert [message.id for message in check_settings(None)] == ids

"""The app's system checks: each names what is wrong, and the project's own settings are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from conversations import checks, conf


def ids(found: list[Any]) -> list[str]:
    return [message.id for message in found]


def check_settings(**values: Any) -> list[Any]:
    with override_settings(CONVERSATIONS=values):
        return checks.check_app_settings(None)


def check_database(engine: str = "sqlite3", **values: Any) -> list[str]:
    with override_settings(DATABASES={"default": {"ENGINE": f"django.db.backends.{engine}", **values}}):
        return ids(checks.check_database_settings(None))


GOOD_SQLITE = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous=NORMAL"}


@override_settings(ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"])  # the test runner adds its own
def test_the_projects_own_settings_are_right() -> None:
    assert ids([message for message in run_checks(databases=[]) if str(message.id).startswith("conversations.")]) == []


def test_every_check_is_registered() -> None:
    with override_settings(CONVERSATIONS={"KEEP": 1, "REQUIRE_LOGIN": False}, ALLOWED_HOSTS=["*"], CHANNEL_LAYERS={}):
        assert {"conversations.E002", "conversations.E006", "conversations.W005"} <= set(ids(run_checks(databases=[])))


def test_settings_that_are_no_dict_are_an_error() -> None:
    with override_settings(CONVERSATIONS=None):
        assert ids(checks.check_app_settings(None)) == ["conversations.E001"]
        assert checks.check_login(None) == []


@pytest.mark.parametrize("is_on", [True, False])
def test_times_without_a_zone_are_an_error(is_on: bool) -> None:
    with override_settings(USE_TZ=is_on):
        assert ("conversations.E017" in ids(run_checks(databases=[]))) is not is_on


@pytest.mark.parametrize("given", [None, [1], {"ATTACHMENT_STORAGE": ["x"]}])
def test_all_checks_together_survive_settings_of_the_wrong_kind(given: Any) -> None:
    with override_settings(CONVERSATIONS=given, LLMPROVIDERS=None):
        found = ids(run_checks(databases=[]))
    assert "llmproviders.E001" in found
    assert {"conversations.E001", "conversations.E003"} & set(found)


def test_an_unknown_key_is_an_error_that_names_the_likely_one() -> None:
    [message] = check_settings(KEEP_LATST=5)
    assert message.id == "conversations.E002"
    assert "'KEEP_LATEST'" in message.hint


def test_a_key_like_no_other_gets_the_list_of_keys() -> None:
    [message] = check_settings(qqqq=5)
    assert "KEEP_LATEST" in message.hint
    assert "TITLES" in message.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("KEEP_LATEST", "500"),
        ("KEEP_LATEST", 5.5),
        ("KEEP_LATEST", True),
        ("REQUIRE_LOGIN", 1),
        ("TEMPERATURE", "warm"),
        ("DRAIN_SECONDS", None),
        ("DEFAULT_MODEL_TYPE", None),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error(key: str, value: Any) -> None:
    assert ids(check_settings(**{key: value})) == ["conversations.E003"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("KEEP_LATEST", 0),
        ("TEMPERATURE", 2.1),
        ("TEMPERATURE", float("nan")),
        ("DB_THREADS", -1),
        ("BEAT_INTERVAL", 0),
        ("MAX_TOKENS", 131_073),
    ],
)
def test_a_number_out_of_range_is_an_error(key: str, value: float) -> None:
    assert ids(check_settings(**{key: value})) == ["conversations.E004"]


@pytest.mark.parametrize(("key", "value"), [("TITLES", "never"), ("ON_DISCONNECT", "stop"), ("TITLES", ["model"])])
def test_an_unknown_word_is_an_error(key: str, value: Any) -> None:
    assert ids(check_settings(**{key: value})) == ["conversations.E005"]


@pytest.mark.parametrize("proxies", ["127.0.0.1", 7, None])
def test_proxies_are_a_list(proxies: Any) -> None:
    assert ids(check_settings(TRUSTED_PROXIES=proxies)) == ["conversations.E003"]


def test_proxies_are_addresses_and_networks() -> None:
    assert check_settings(TRUSTED_PROXIES=["127.0.0.1", "10.0.0.0/8", "::1"]) == []
    assert ids(check_settings(TRUSTED_PROXIES=("127.0.0.1", "proxy", "1/2/3"))) == ["conversations.E010"] * 2


def test_a_whole_number_is_a_duration_too() -> None:
    assert check_settings(DRAIN_SECONDS=20, TITLES="first_words", REQUIRE_LOGIN=True) == []


def test_the_defaults_pass_their_own_checks() -> None:
    assert check_settings(**{item.name: item.default for item in fields(conf.Settings)}) == []


def test_every_number_has_a_range() -> None:
    assert set(checks.RANGES) == {item.name for item in fields(conf.Settings) if item.type in ("int", "float")}


@pytest.mark.parametrize("host", ["*", "chat.example.com", ".example.com", "192.168.1.5", "[2001:db8::1]"])
def test_no_login_beyond_this_machine_is_an_error(host: str) -> None:
    with override_settings(CONVERSATIONS={"REQUIRE_LOGIN": False}, ALLOWED_HOSTS=["localhost", host]):
        assert ids(checks.check_login(None)) == ["conversations.E006"]
    with override_settings(CONVERSATIONS={}, ALLOWED_HOSTS=[host]):
        assert checks.check_login(None) == []


def test_no_login_on_this_machine_is_fine() -> None:
    hosts = ["localhost", "127.0.0.1", "[::1]", "chat.localhost", "127.5.0.1"]
    with override_settings(CONVERSATIONS={"REQUIRE_LOGIN": False}, ALLOWED_HOSTS=hosts):
        assert checks.check_login(None) == []


@pytest.mark.parametrize(
    ("engine", "values", "expected"),
    [
        ("sqlite3", {"OPTIONS": GOOD_SQLITE}, []),
        ("sqlite3", {}, ["conversations.W001", "conversations.W002"]),
        ("sqlite3", {"OPTIONS": {**GOOD_SQLITE, "transaction_mode": "DEFERRED"}}, ["conversations.W001"]),
        ("sqlite3", {"OPTIONS": {**GOOD_SQLITE, "init_command": None}}, ["conversations.W002"]),
        ("sqlite3", {"OPTIONS": GOOD_SQLITE, "ATOMIC_REQUESTS": True}, ["conversations.E007"]),
        ("postgresql", {}, []),
        ("postgresql", {"CONN_MAX_AGE": 60}, ["conversations.W003"]),
        ("postgresql", {"CONN_MAX_AGE": None}, ["conversations.W003"]),
        ("mysql", {}, []),
        ("mysql", {"OPTIONS": {"charset": "utf8mb4", "isolation_level": "READ COMMITTED"}}, []),
        ("mysql", {"OPTIONS": {"charset": "utf8"}}, ["conversations.E008"]),
        ("mysql", {"OPTIONS": {"isolation_level": "repeatable read"}}, ["conversations.W004"]),
        ("mysql", {"OPTIONS": {"isolation_level": None}}, ["conversations.W004"]),
    ],
)
# Nothing connects: the override is only read.
@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_the_database_settings_are_looked_at(engine: str, values: Mapping[str, Any], expected: list[str]) -> None:
    assert check_database(engine, **values) == expected


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_another_database_whose_requests_are_atomic_is_an_error_too() -> None:
    """Django refuses async views for whichever it is."""
    databases = {name: {"ENGINE": "django.db.backends.postgresql"} for name in ("default", "other")}
    databases["other"]["ATOMIC_REQUESTS"] = True
    with override_settings(DATABASES=databases):
        [message] = checks.check_database_settings(None)
    assert message.id == "conversations.E007"
    assert "'other'" in message.msg


@pytest.mark.parametrize(("layers", "expected"), [({}, 1), (None, 1), ({"default": {}}, 0)])
def test_a_missing_channel_layer_is_a_warning(layers: Any, expected: int) -> None:
    with override_settings(CHANNEL_LAYERS=layers):
        assert ids(checks.check_channel_layer(None)) == ["conversations.W005"] * expected


FILES = "django.core.files.storage.FileSystemStorage"


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ({"BACKEND": FILES}, 1),
        ({"BACKEND": FILES, "OPTIONS": {"base_url": "/x/"}}, 1),
        ({"BACKEND": FILES, "OPTIONS": {"location": "/var/attachments"}}, 0),
        ({"BACKEND": "storages.backends.s3.S3Storage"}, 0),
    ],
)
def test_attachments_among_files_that_are_served_are_a_warning(storage: Any, expected: int) -> None:
    with override_settings(STORAGES={"files": storage}, CONVERSATIONS={"ATTACHMENT_STORAGE": "files"}):
        assert ids(checks.check_attachment_storage(None)) == ["conversations.W007"] * expected


def test_a_storage_that_is_none_of_the_projects_is_an_error() -> None:
    [message] = check_settings(ATTACHMENT_STORAGE="attachment")
    assert message.id == "conversations.E016"
    assert "'attachments'" in message.hint


def test_the_other_app_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_providers_installed(None) == []
    monkeypatch.setattr(checks.deployment.apps, "is_installed", lambda name: name != "llmproviders")
    assert ids(checks.check_providers_installed(None)) == ["conversations.E009"]

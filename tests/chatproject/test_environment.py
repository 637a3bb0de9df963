"""Values of the environment: typed, and a malformed one is named."""

from __future__ import annotations

import errno
import importlib.util
import os
import stat
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from chatproject import environment as env
from chatproject import keys
from conversations.access.hosts import is_loopback

from .processes import ROOT, run, variables

# Any text is a value of these; whether HOST is an address shows when the server listens, and whether there is such a
# file, or such a class, when the checks run.
FREE = {"ATTACHMENTS_DIR", "HOST", "LLM_MODEL", "LLM_API_KEY", "LOCAL_MODEL_FILE", "SEARCH"}
MALFORMED = {
    "ALLOWED_HOSTS": "http://example.com",
    "ALLOWED_UPSTREAM_HOSTS": "http://llm.internal",
    "ALLOW_PRIVATE_UPSTREAMS": "perhaps",
    "ATTACHMENT_BYTES_PER_OWNER": "200MB",
    "CONVERSATIONS_KEEP_LATEST": "many",
    "CORS_ALLOWED_ORIGINS": "https://[",
    "CSRF_TRUSTED_ORIGINS": "chat.example.com",
    "DATABASE_URL": "oracle://x/y",
    "DB_THREADS": "0",
    "DEBUG": "perhaps",
    "DEFAULT_MODEL_TYPE": "No Such",
    "DRAIN_LISTEN_SECONDS": "-1",
    "DRAIN_SECONDS": "soon",
    "FIELD_ENCRYPTION_KEYS": "short",
    "KEEP_ALIVE_SECONDS": "0",
    "KEEP_TEMPORARY_SECONDS": "soon",
    "LANGUAGE_CODE": "tlh",
    "LLM_API_URL": "ftp://x",
    "UPSTREAM_PROXY": "socks5://x",
    "WORKERS": "0",
    "LLM_BETWEEN_TOKENS_TIMEOUT": "0",
    "LLM_CONNECT_TIMEOUT": "nan",
    "LLM_CONTEXT_WINDOW": "255",
    "LLM_FIRST_TOKEN_TIMEOUT": "-1",
    "LLM_TOTAL_TIMEOUT": "1e9",
    "LOCAL_CONTEXT_WINDOW": "255",
    "LOGIN_COOLOFF": "0",
    "LOGIN_FAILURES": "0",
    "LOG_FORMAT": "xml",
    "LOG_LEVEL": "LOUD",
    "MAX_ANSWERS_PER_CALLER": "-1",
    "MAX_ANSWERS_PER_PROCESS": "many",
    "MAX_LARGE_BODY_BYTES": "1000",
    "ON_DISCONNECT": "panic",
    "PORT": "65536",
    "ROOT_PATH": "chat-api",
    "RATE_LIMIT": "300/fortnight",
    "READY_NEEDS_REDIS": "perhaps",
    "REDIS_URL": "http://x",
    "REQUEST_BODY_SECONDS": "soon",
    "REQUEST_HEAD_SECONDS": "-1",
    "REQUIRE_LOGIN": "perhaps",
    "SECRET_KEY": "weak",
    "SECURE_HSTS_PRELOAD": "perhaps",
    "SECURE_HSTS_SECONDS": "-1",
    "SECURE_SSL_REDIRECT": "perhaps",
    "TIME_ZONE": "Mars/Olympus",
    "TITLES": "none",
    "TRUSTED_PROXIES": "proxy.example.com",
    "TOKENS_PER_DAY": "-1",
}
PUBLIC = {
    "ALLOWED_HOSTS": "chat.example.com",
    "SECRET_KEY": "Nn8Zk1rS9pQvLx3yWb7TdUe5GhJm2CfA0iKoRtYzXcVbMlPq6E",
    "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the settings module anew, in an environment of its own."""

    def load_settings(**given: str) -> Any:
        for name in variables():
            monkeypatch.setenv(name, given.get(name, ""))
        spec = importlib.util.spec_from_file_location("chatproject.other_settings", ROOT / "chatproject/settings.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_settings


@pytest.mark.parametrize(("name", "value"), sorted(MALFORMED.items()))
def test_a_malformed_value_is_refused_by_name(load: Any, name: str, value: str) -> None:
    for others in ({}, PUBLIC):  # also where it does not count
        with pytest.raises(ImproperlyConfigured, match=rf"^{name}\b"):
            load(**{**others, name: value})


def test_what_is_not_utf_8_is_refused_by_name(load: Any) -> None:
    for name in variables():
        with pytest.raises(ImproperlyConfigured, match=rf"^{name}\b"):
            load(**{name: os.fsdecode(b"\xff")})


@pytest.mark.parametrize("value", ["1_0", "٣", "inf", "1e3", "+5", "5s", "0x5", "-0.5", "."])
def test_what_is_no_duration(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", value)
    with pytest.raises(ImproperlyConfigured, match=r"^DRAIN_SECONDS="):
        env.seconds("DRAIN_SECONDS", 1.0, may_be_zero=True)


@pytest.mark.parametrize(("value", "expected"), [("0", 0.0), ("2.5", 2.5), (".5", 0.5), (" 20 ", 20.0), ("", 1.0)])
def test_durations(monkeypatch: pytest.MonkeyPatch, value: str, expected: float) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", value)
    assert env.seconds("DRAIN_SECONDS", 1.0, may_be_zero=True) == expected


def test_every_variable_is_among_these() -> None:
    assert set(MALFORMED) | FREE == variables()


def test_nothing_is_required_on_ones_own_machine(load: Any) -> None:
    settings = load()
    assert settings.ON_OWN_MACHINE
    assert not settings.REQUIRE_LOGIN
    assert not settings.DEBUG
    assert len(settings.SECRET_KEY) >= 50


@pytest.mark.parametrize("missing", ["SECRET_KEY", "FIELD_ENCRYPTION_KEYS"])
def test_a_public_server_needs_its_secrets(load: Any, missing: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{missing} is not set"):
        load(**{**PUBLIC, missing: ""})


def test_a_public_server_asks_for_login(load: Any) -> None:
    assert load(**PUBLIC).REQUIRE_LOGIN
    with pytest.raises(ImproperlyConfigured, match=r"^REQUIRE_LOGIN"):
        load(**PUBLIC, REQUIRE_LOGIN="false")


def test_a_public_server_insists_on_https(load: Any) -> None:
    """Django's own deployment checks cannot say so: they look for its middleware by name."""
    settings = load(**PUBLIC)
    assert settings.SECURE_SSL_REDIRECT
    assert settings.SECURE_HSTS_SECONDS >= 31_536_000
    assert settings.SESSION_COOKIE_SECURE
    assert settings.CSRF_COOKIE_SECURE
    assert settings.SESSION_COOKIE_NAME.startswith("__Host-")
    assert "chatproject.middleware.SecurityMiddleware" in settings.MIDDLEWARE
    assert "chatproject.middleware.SecurityMiddleware" in settings.API_MIDDLEWARE


def test_preloading_is_the_operator_s_decision(load: Any) -> None:
    assert not load(**PUBLIC).SECURE_HSTS_PRELOAD
    assert load(**PUBLIC, SECURE_HSTS_PRELOAD="true").SECURE_HSTS_PRELOAD


def test_logins_are_limited_as_the_environment_says(load: Any) -> None:
    settings = load(LOGIN_FAILURES="3", LOGIN_COOLOFF="60", TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8")
    assert settings.AXES_FAILURE_LIMIT == 3
    assert settings.AXES_COOLOFF_TIME.total_seconds() == 60
    assert settings.CONVERSATIONS["TRUSTED_PROXIES"] == ["127.0.0.1", "10.0.0.0/8"]


def test_a_secret_that_begins_with_a_dollar_is_no_reference(load: Any) -> None:
    assert load(LLM_API_KEY="$HOME").LLMPROVIDERS["API_KEY"] == "$HOME"


@pytest.mark.parametrize(
    ("url", "engine", "name"),
    [
        ("sqlite:////abs/x.db", "sqlite3", "/abs/x.db"),
        ("sqlite:///x.db", "sqlite3", "{base}/x.db"),
        ("sqlite:///./x.db", "sqlite3", "{base}/x.db"),
        ("postgres://u:p@h:5432/n", "postgresql", "n"),
        ("postgresql://u@h/n?sslmode=require", "postgresql", "n"),
        ("mysql+pymysql://u:p%40ss@h/n?charset=utf8mb4", "mysql", "n"),
    ],
)
def test_database_urls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, engine: str, name: str) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _path: True)
    monkeypatch.setenv("DATABASE_URL", url)
    config = env.database("DATABASE_URL", tmp_path, "")
    assert config["ENGINE"].endswith(engine)
    assert config["NAME"] == name.format(base=tmp_path)
    assert config["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize(
    ("url", "bounds"),
    [
        (
            "postgres://u:p@h/n",
            {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 10, "tcp_user_timeout": 60_000},
        ),
        ("mysql://u:p@h/n", {"connect_timeout": 30, "read_timeout": 60, "write_timeout": 60}),
    ],
)
def test_no_connection_waits_for_ever_for_a_silent_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, bounds: dict[str, int]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    options = env.database("DATABASE_URL", tmp_path, "")["OPTIONS"]
    assert {name for name, most in bounds.items() if not 0 < options[name] <= most} == set()


def test_the_database_password_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:p%40ss@h/n")
    assert env.database("DATABASE_URL", tmp_path, "")["PASSWORD"] == "p@ss"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://x.db",
        "sqlite:///",
        "sqlite://:memory:",
        "sqlite:///:memory:",
        "sqlite:///:memory:?timeout=5",
        "postgres://u:hun/ter2@h/n",
        "postgres://u:hunter2@h:port/n",
        "mysql://u:hunter2@h",
        "x",
    ],
)
def test_a_malformed_database_url_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL") as refused:
        env.database("DATABASE_URL", tmp_path, "")
    assert "hun" not in str(refused.value)
    assert "ter2" not in str(refused.value)


def test_a_missing_folder_of_the_database_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///missing/x.db")
    with pytest.raises(ImproperlyConfigured, match=f"{tmp_path}/missing does not exist"):
        env.database("DATABASE_URL", tmp_path, "")


def test_origins_are_written_as_browsers_write_them(load: Any) -> None:
    assert load(CORS_ALLOWED_ORIGINS="https://App.Example.com:8443").CORS_ALLOWED_ORIGINS == [
        "https://app.example.com:8443"
    ]
    assert load(CSRF_TRUSTED_ORIGINS="https://*.Example.com").CSRF_TRUSTED_ORIGINS == ["https://*.example.com"]
    with pytest.raises(ImproperlyConfigured, match=r"^CORS_ALLOWED_ORIGINS\b"):  # there it would match nothing
        load(CORS_ALLOWED_ORIGINS="https://*.example.com")


@pytest.mark.parametrize("value", ["redis://h:6379/0", "rediss://:pw@h", "unix:///run/redis.sock"])
def test_redis_urls(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("REDIS_URL", value)
    assert env.url("REDIS_URL", ("redis", "rediss", "unix")) == value


@pytest.mark.parametrize("value", ["--5", "5-", "1_0", "٣", "9" * 5000, "1.5"])
def test_what_is_no_whole_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PORT", value)
    with pytest.raises(ImproperlyConfigured, match=r"^PORT"):
        env.integer("PORT", 1, low=-9, high=9)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("chat.localhost", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("127.0.0.1.example.com", False),
        ("*", False),
        ("", False),
    ],
)
def test_which_hosts_mean_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_kept_secret_is_made_once_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "")
    path = tmp_path / "var" / "key"
    first = keys.secret_key(path, may_create=True)
    assert keys.secret_key(path, may_create=True) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\0\0\0", b"\xff\xfe"])
def test_a_file_that_holds_no_secret_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    for name, read in (("SECRET_KEY", keys.secret_key), ("FIELD_ENCRYPTION_KEYS", keys.encryption_keys)):
        monkeypatch.setenv(name, "")
        with pytest.raises(ImproperlyConfigured, match=rf"^{name} .*{path} holds none"):
            read(path, may_create=True)


def test_a_full_disk_leaves_no_draft_of_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ImproperlyConfigured, match=r"^SECRET_KEY .*No space left"):
        keys.secret_key(tmp_path / "key", may_create=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_the_program_says_it_in_one_line() -> None:
    ended = run("-m", "chatproject", PORT="http")
    assert ended.returncode == 1
    assert ended.stderr == "chatproject: PORT='http' is not a whole number from 1 to 65535.\n"
    assert ended.stdout == ""

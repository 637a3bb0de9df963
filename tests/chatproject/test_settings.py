"""The settings keep what is promised of them elsewhere."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string

from .processes import ROOT, variables


def test_env_example_describes_every_variable_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text()
    described = re.findall(r"^#([A-Z_]+)=", text, re.MULTILINE)
    assert sorted(described) == sorted(variables())
    for name in described:
        comment = re.search(rf"(^# .*\n)+#{name}=", text, re.MULTILINE)
        assert comment or re.search(rf"^#[A-Z_]+=.*\n#{name}=", text, re.MULTILINE), f"{name} has no comment"


def test_idle_sockets_are_not_cut_by_redis() -> None:
    """redis-py's own read timeout is 5 s."""
    source = (ROOT / "chatproject" / "settings.py").read_text()
    assert '"socket_timeout": None' in source


def test_sqlite_waits_for_its_turn_and_lets_readers_through() -> None:
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert database["CONN_MAX_AGE"] == 0
    assert not database.get("ATOMIC_REQUESTS")


@pytest.mark.django_db
def test_postgresql_does_not_wait_for_a_lock_for_ever() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("the others have a limit of their own")
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("20s",)


def test_every_middleware_can_be_async() -> None:
    for path in (*settings.MIDDLEWARE, *settings.API_MIDDLEWARE):
        assert import_string(path).async_capable, path

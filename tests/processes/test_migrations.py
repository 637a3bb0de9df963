"""Migrations run forward and back, on the database of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import databases

from .server import environment, manage

ADD = "from conversations.models import UserConfig as U; [U.objects.create(user_identifier=n) for n in ('kim', 'lee')]"
APPS = ("conversations", "llmproviders")


@pytest.mark.server
def test_migrations_run_forward_and_back_and_forward(tmp_path: Path) -> None:
    env = environment(tmp_path)
    manage(env, "migrate", "--verbosity=0")
    manage(env, "shell", "--verbosity=0", "--command", ADD)
    types = databases.rows(tmp_path, "SELECT type FROM llmproviders_preset ORDER BY type")
    assert types == ["codegeex", "glm4", "local"]

    for app in APPS:  # to the first one and back, with rows
        manage(env, "migrate", "--verbosity=0", app, "0001")
    manage(env, "migrate", "--verbosity=0")
    users = "SELECT user_identifier FROM conversations_userconfig ORDER BY user_identifier"
    assert databases.rows(tmp_path, users) == ["kim", "lee"]
    assert databases.rows(tmp_path, "SELECT type FROM llmproviders_preset ORDER BY type") == types

    for app in APPS:
        manage(env, "migrate", "--verbosity=0", app, "zero")
    manage(env, "migrate", "--verbosity=0")
    manage(env, "migrate", "--check")
    assert databases.rows(tmp_path, users) == []
    assert databases.rows(tmp_path, "SELECT type FROM llmproviders_preset ORDER BY type") == types

"""What DATABASE_ROUTERS may do with our models."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.db.models import Model
from django.test import override_settings


def _is_ours(model: type[Model]) -> bool:
    return model._meta.app_label == "conversations"


class Elsewhere:
    """Sends the app to another database."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return "other" if _is_ours(model) else None

    db_for_write = db_for_read


class Replica:
    """Reads from a copy."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return "replica" if _is_ours(model) else None


class Accounts:
    """Keeps accounts apart."""

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        return "accounts" if model._meta.app_label == "auth" else None


class NoTables:
    """Makes no tables for the app."""

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        return False if app_label == "conversations" else None


class Harmless:
    """Sends another app elsewhere, and ours where they would go anyway."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        return "default" if _is_ours(model) else "other" if model._meta.app_label == "sessions" else None

    db_for_write = db_for_read


def refused(*routers: type[object]) -> list[str]:
    with override_settings(DATABASE_ROUTERS=[f"{router.__module__}.{router.__qualname__}" for router in routers]):
        return [str(message.msg) for message in run_checks(databases=[]) if message.id == "conversations.E014"]


@pytest.mark.parametrize(
    ("router", "told"),
    [
        (Elsewhere, "DATABASE_ROUTERS sends conversations.Conversation to other."),
        (Replica, "DATABASE_ROUTERS sends conversations.Message to replica."),
        (Accounts, "DATABASE_ROUTERS sends auth.User to accounts."),
        (NoTables, "DATABASE_ROUTERS sends conversations.Generation to none."),
    ],
)
def test_a_router_that_sends_our_rows_away_is_refused(router: type[object], told: str) -> None:
    assert told in refused(router)


def test_the_first_router_that_says_something_counts() -> None:
    assert refused(Harmless, Elsewhere) == []
    assert refused(Elsewhere, Harmless)


def test_other_routers_are_none_of_our_business() -> None:
    assert refused() == refused(Harmless) == []

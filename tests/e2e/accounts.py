"""Accounts of servers, and how their owners log in."""

from __future__ import annotations

from collections.abc import Mapping

from playwright.sync_api import Page

from tests.processes.server import manage

PASSWORD = "a-password-of-no-interest"


def add_account(env: Mapping[str, str], name: str) -> None:
    """Make an account that may do everything, on the database of ``env``."""
    account = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD, "DJANGO_SUPERUSER_EMAIL": f"{name}@example.com"}
    manage({**env, **account}, "createsuperuser", "--no-input", "--username", name, "--verbosity=0")


def log_in(page: Page, name: str) -> None:
    """Fill in the login page, the project's or admin's."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

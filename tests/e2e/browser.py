"""The browser, and a visitor's window in it that notes what must not happen."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route, expect

WAIT_MS = 15_000
expect.set_options(timeout=WAIT_MS)
# What a page needs no host for.
INLINE = {"about", "blob", "data"}


def executable() -> str:
    """The path of Debian's Chromium, or of the one that CHROMIUM names. Without one the tests fail."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.fail("chromium is not installed (`make system-packages`)")
    return path


@dataclass
class Visitor:
    """A browser of somebody's own: `page` is its first window."""

    context: BrowserContext
    host: str
    left: list[str] = field(default_factory=list)  # requests to other hosts, none of which gets there
    faults: list[str] = field(default_factory=list)  # errors and refusals in consoles
    dialogs: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # parts of what the test itself brings about

    def __post_init__(self) -> None:
        self.context.set_default_timeout(WAIT_MS)
        self.context.route("**/*", self._judge)
        self.context.on("page", self._watch)
        self.page = self.context.new_page()

    def _watch(self, page: Page) -> None:
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._asked)

    def _judge(self, route: Route) -> None:
        where = urlsplit(route.request.url)
        if where.scheme in INLINE or where.netloc == self.host:
            route.continue_()
            return
        self.left.append(route.request.url)
        route.abort()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} or "Content Security Policy" in message.text:
            self.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _asked(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def check(self) -> None:
        """Fail where a request left the host, a dialog opened or a console complained."""
        faults = [fault for fault in self.faults if not any(part in fault for part in self.expected)]
        assert (self.left, self.dialogs, faults) == ([], [], [])


def visitor(browser: Browser, url: str, **options: Any) -> Visitor:
    """A new visitor of the server at ``url``."""
    context = browser.new_context(base_url=url, locale=options.pop("locale", "en-GB"), **options)
    return Visitor(context, urlsplit(url).netloc)

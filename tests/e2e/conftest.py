"""Fixtures of the browser tests. They run when they are asked for by their path only: `make test-e2e`."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, run_upstream_in_thread

from .browser import Visitor, executable, visitor
from .chat import Chat
from .harness_server import Handler

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these out of a run of everything: they need a browser."""
    asked = any(HERE.name in Path(argument.partition("::")[0]).parts for argument in config.args)
    return None if asked or HERE not in collection_path.parents else True


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable(), args=["--disable-gpu"])
        yield running
        running.close()


# MarkdownView alone -----------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def harness_url() -> Iterator[str]:
    """A server with a page that has MarkdownView and nothing else, under the project's own security headers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def open_harness(page: Page) -> None:
    """Load the harness anew."""
    page.goto("/")
    page.wait_for_function("() => window.harness")


@pytest.fixture(scope="module")
def harness_visitor(browser: Browser, harness_url: str) -> Iterator[Visitor]:
    guest = visitor(browser, harness_url)
    open_harness(guest.page)
    yield guest
    guest.context.close()


@pytest.fixture
def harness(harness_visitor: Visitor) -> Iterator[Visitor]:
    """A visitor of that page, whom nothing bad has happened to when the test ends."""
    yield harness_visitor
    harness_visitor.check()


@pytest.fixture
def view(harness: Visitor) -> Page:
    """The window of ``harness``."""
    return harness.page


# The chat page ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    """The model of the servers: it echoes, or does what a message's ``!script`` says."""
    with run_upstream_in_thread() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database that is up to date, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    manage(environment(folder) | {"DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}"}, "migrate", "--verbosity=0")
    return folder / "db.sqlite3"


@pytest.fixture(scope="session")
def new_server(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream, migrated: Path
) -> Callable[..., ServerProcess]:
    """Make servers, as `make run` starts them, each with a new SQLite database; none is started."""

    def make(**variables: str) -> ServerProcess:
        folder = tmp_path_factory.mktemp("server")
        shutil.copy(migrated, folder / "db.sqlite3")
        given = {"LLM_API_URL": upstream.url, "LLM_MODEL": "scripted", **variables}
        env = environment(folder, **given) | {"DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}"}
        return ServerProcess("uvicorn", env, folder / "server.log")

    return make


@pytest.fixture(scope="session")
def server(new_server: Callable[..., ServerProcess]) -> Iterator[ServerProcess]:
    """A server that all tests of a worker share: each makes conversations of its own."""
    with new_server() as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    """The API of ``server``."""
    with server.client() as http:
        yield http


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Make visitors of a server. When the test ends nothing bad has happened to any of them."""
    guests: list[Visitor] = []

    def make(url: str, **options: Any) -> Visitor:
        guests.append(visitor(browser, url, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.context.close()
    for guest in guests:
        guest.check()


@pytest.fixture
def guest(visit: Callable[..., Visitor], server: ServerProcess) -> Visitor:
    """A visitor of ``server``."""
    return visit(server.url)


@pytest.fixture
def chat(guest: Visitor) -> Chat:
    """The chat page, with a new conversation."""
    return Chat(guest.page).open()

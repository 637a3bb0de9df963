"""Fixtures that many tests share: a clean engine, a real server, clients for it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn
from django.apps import apps
from django.contrib.contenttypes.management import create_contenttypes
from django.core.management.color import no_style
from django.db import connections, transaction
from django.db.models import Model
from django.db.models.signals import post_migrate
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from conversations.database import db, outages
from conversations.engine import engines, prompts
from conversations.engine.supervisor import Supervisor
from conversations.limits import allowances, rates
from conversations.web import pace
from llmproviders.breaker import breaker
from tests import databases
from tests.reliability.sizes import is_full
from tests.turns import turn
from tests.upstream import ScriptedUpstream

pytest_plugins = ["tests.upstream.fixtures"]

# A shell that begins the tests in the background ignores Ctrl-C for them, and they would for what they start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that stands still for a moment is no failure; and what chance finds is for the full size, so that a run of
# what has passed passes.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=not is_full()
)
hypothesis_settings.load_profile("tests")

# What is ignored is inherited, and the server takes it for nohup; a handler is not, and ignores a hang-up as well.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """With several workers (`pytest -n`), a test that is marked ``alone`` waits for the others, and they for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_sessionfinish() -> None:
    databases.drop_all()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database. What the migrations put into it is put back each time it is emptied.

    It is emptied after each test with real transactions: what a test finds must not hang on those before it.
    """
    with django_db_blocker.unblock():
        models = apps.get_models(include_auto_created=True)
        migrated = [row for model in models for row in model._base_manager.all()]
    # Permissions and content types are among those rows. Django would work them out anew, in ten times the time.
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.disconnect(create_contenttypes)
    # Sent for each app; one is enough.
    post_migrate.connect(partial(_put_back, migrated), sender=apps.get_app_config("llmproviders"), weak=False)
    yield
    db.close()  # PostgreSQL drops no database that somebody is connected to


def _put_back(rows: Sequence[Model], using: str, **_signal: Any) -> None:
    with transaction.atomic(using), connections[using].constraint_checks_disabled():
        for model, of_model in groupby(rows, type):
            model._base_manager.using(using).bulk_create(of_model)
        # PostgreSQL gives the next key from a sequence that knows nothing of keys that were given.
        with connections[using].cursor() as cursor:
            for sql in connections[using].ops.sequence_reset_sql(no_style(), {type(row) for row in rows}):
                cursor.execute(sql)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What one test's upstream taught about tokens, and how often somebody called, is not for the next test."""
    yield
    prompts.forget()
    breaker.forget()
    allowances.forget()
    rates.forget()
    outages.database.forget()
    outages.channel_layer.forget()


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One address may ask as much as it likes, for tests that refuse by the hundred what `test_pace` holds back."""
    monkeypatch.setattr(pace, "AT_FIRST", 1_000_000)


@pytest.fixture
def presets(transactional_db: None) -> None:
    """Real transactions, on a database with the presets that ship."""


@pytest_asyncio.fixture
async def engine(presets: None) -> AsyncIterator[Supervisor]:
    """The engine of the test's own loop, on real threads and transactions; ended after the test."""
    yield engines.current()
    await engines.shutdown()
    await asyncio.to_thread(db.close)


class _PromptServer(uvicorn.Server):
    """Ends when told, where uvicorn looks every 0.1 s and then waits 0.1 s: hundreds of tests start one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the main thread

    async def main_loop(self) -> None:
        await self.ending.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)
        await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()


class Server:
    """The whole project behind uvicorn, in a thread of this process: tests see its database and settings."""

    def __init__(self) -> None:
        from chatproject.asgi import application
        from chatproject.protocol import Protocol
        from chatproject.sockets import SocketProtocol

        config = uvicorn.Config(
            application,
            host="127.0.0.1",
            port=0,
            http=Protocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            ws=SocketProtocol,
            ws_max_size=2 * 1_048_576,
            ws_per_message_deflate=False,
        )
        self._server = _PromptServer(config)
        self._thread = threading.Thread(target=self._server.run, name="server", daemon=True)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's event loop, which runs in another thread."""
        return self._server.servers[0].get_loop()

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws/chat"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._server.ending.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end"


@pytest.fixture
def server(presets: None, upstream_thread: ScriptedUpstream) -> Iterator[Server]:
    """A running server; ended after the test, its database threads too, before the upstream that it may be calling."""
    running = Server()
    running.start()
    yield running
    running.stop()
    db.close()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """An HTTP client of ``server``, over a real socket."""
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http:
        yield http


@pytest.fixture
def model(upstream_thread: ScriptedUpstream, settings: Any) -> ScriptedUpstream:
    """The scripted upstream as the model that answers (model type `default`)."""
    settings.LLMPROVIDERS = {
        **settings.LLMPROVIDERS,
        "API_URL": upstream_thread.url,
        "MODEL": "scripted",
        "API_KEY": "sk-scripted-0123456789",
    }
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}
    return upstream_thread

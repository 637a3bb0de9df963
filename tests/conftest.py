"""Fixtures that many tests share: a clean engine, a real server, clients for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn
from django.apps import apps

from conversations import context, db
from conversations.generation import supervisor
from tests.upstream import ScriptedUpstream

pytest_plugins = ["tests.upstream.fixtures"]


@pytest.fixture(autouse=True)
def _forget_corrections() -> Iterator[None]:
    """What one test's upstream taught about tokens is not for the next test."""
    yield
    context.forget()


@pytest.fixture
def presets(transactional_db: None) -> None:
    """The presets that ship: tests with real transactions begin with empty tables."""
    import_module("llmproviders.migrations.0002_seed_presets").create_presets(apps, None)


@pytest_asyncio.fixture
async def engine(presets: None) -> AsyncIterator[supervisor.Supervisor]:
    """The engine of the test's own loop, on real threads and transactions; ended after the test."""
    yield supervisor.current()
    await supervisor.shutdown()
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

        config = uvicorn.Config(
            application,
            host="127.0.0.1",
            port=0,
            lifespan="on",
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
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
def server(presets: None) -> Iterator[Server]:
    """A running server; ended after the test, its database threads too."""
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

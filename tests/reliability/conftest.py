"""Real server processes on one database, in front of a scripted upstream that outlives them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests import databases
from tests.entry import CONVERSATIONS, LOGIN, MAKE_KEYS, UPSTREAM_HOST, make_keys
from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, run_upstream_in_thread

from .redis_server import RedisServer


class Serve(Protocol):
    """Starts ``count`` server processes on one fresh database; all are ended after the test.

    ``conversations`` and ``providers`` change keys of the two apps' settings, ``pragmas`` is SQL for each new
    SQLite connection, ``lock_timeout`` what a job waits for a lock (seconds; else the project's own), and
    ``env`` variables of the environment. Called twice in a test, it serves the same database again.
    """

    def __call__(
        self,
        kind: str = "uvicorn",
        count: int = 1,
        redis: bool = False,
        *,
        conversations: Mapping[str, Any] | None = None,
        providers: Mapping[str, Any] | None = None,
        pragmas: str = "",
        lock_timeout: float | None = None,
        **env: str,
    ) -> list[ServerProcess]: ...


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a migrated database, made once."""
    folder = tmp_path_factory.mktemp("migrated")
    manage(environment(folder), "migrate", "--verbosity=0")
    if LOGIN:
        manage(environment(folder), "shell", "--command", MAKE_KEYS)
    return folder


@pytest.fixture(autouse=True)
def _login(request: pytest.FixtureRequest) -> None:
    """Where the tests log in, a server of this process asks for it too."""
    if LOGIN and "server" in request.fixturenames:
        request.getfixturevalue("transactional_db")
        settings = request.getfixturevalue("settings")
        settings.CONVERSATIONS = {**settings.CONVERSATIONS, **CONVERSATIONS}
        settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "ALLOWED_UPSTREAM_HOSTS": [UPSTREAM_HOST]}
        make_keys()


@pytest.fixture
def scripted() -> Iterator[ScriptedUpstream]:
    """The upstream of every server of the test, in a thread of the tests."""
    with run_upstream_in_thread() as upstream:
        yield upstream


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Iterator[Path]:
    """The folder of the database of the test's servers."""
    folder = tmp_path / "database"
    databases.copy(migrated, folder)
    yield folder
    databases.drop(folder)


@pytest.fixture
def serve(
    request: pytest.FixtureRequest, database: Path, scripted: ScriptedUpstream, tmp_path: Path
) -> Iterator[Serve]:
    with ExitStack() as running:

        def start(
            kind: str = "uvicorn",
            count: int = 1,
            redis: bool = False,
            *,
            conversations: Mapping[str, Any] | None = None,
            providers: Mapping[str, Any] | None = None,
            pragmas: str = "",
            lock_timeout: float | None = None,
            **env: str,
        ) -> list[ServerProcess]:
            overrides: dict[str, Any] = {
                "conversations": dict(conversations or {}),
                "providers": dict(providers or {}),
                "pragmas": pragmas,
            }
            if lock_timeout is not None:
                overrides["timeout"] = lock_timeout
            variables = {
                "DJANGO_SETTINGS_MODULE": "tests.reliability.settings",
                "OVERRIDES": json.dumps(overrides),
                "LLM_API_URL": scripted.url,
                "LLM_MODEL": "scripted",
                "LLM_API_KEY": "sk-scripted-0123456789",
                **env,
            }
            if redis:
                variables["REDIS_URL"] = request.getfixturevalue("redis_server").url
            settings = environment(database, **variables)
            servers = [ServerProcess(kind, settings, tmp_path / f"server-{index}.log") for index in range(count)]
            for server in servers:
                running.push(server)
            with ThreadPoolExecutor(count) as together:
                return list(together.map(ServerProcess.start, servers))

        yield start

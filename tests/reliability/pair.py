"""Two server processes that the tests of a module share, with the upstream in front of which they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import databases
from tests.entry import HEADERS
from tests.processes.server import ServerProcess, environment
from tests.upstream import Behaviour, Request, ScriptedUpstream, run_upstream_in_thread

from . import faults
from .redis_server import RedisServer

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


@dataclass(frozen=True)
class Pair:
    """``servers`` on one database, a client of each in ``clients``; ``folder`` holds database and logs."""

    servers: Sequence[ServerProcess]
    clients: Sequence[httpx.Client]
    upstream: ScriptedUpstream
    folder: Path


@contextmanager
def running_pair(
    migrated: Path,
    folder: Path,
    *,
    kinds: Sequence[str] = ("uvicorn", "uvicorn"),
    redis: bool = False,
    conversations: Mapping[str, Any] | None = None,
    providers: Mapping[str, Any] | None = None,
    default: Behaviour | Callable[[Request], Behaviour] | None = None,
    **env: str,
) -> Iterator[Pair]:
    """Run two servers of these ``kinds`` on a copy of the ``migrated`` database, until the block ends."""
    databases.copy(migrated, folder)
    with ExitStack() as running:
        running.callback(databases.drop, folder)
        upstream = running.enter_context(run_upstream_in_thread(default=default))
        if redis:
            env["REDIS_URL"] = running.enter_context(RedisServer()).url
        variables = {
            "DJANGO_SETTINGS_MODULE": "tests.reliability.settings",
            "OVERRIDES": json.dumps({"conversations": dict(conversations or {}), "providers": dict(providers or {})}),
            "LLM_API_URL": upstream.url,
            "LLM_MODEL": "scripted",
            **env,
        }
        settings = environment(folder, **variables)
        servers = [ServerProcess(kind, settings, folder / f"{index}.log") for index, kind in enumerate(kinds)]
        for server in servers:
            running.push(server)  # also what started although the other did not
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(ServerProcess.start, servers))
        clients = [
            running.enter_context(
                httpx.Client(base_url=server.url, headers=HEADERS, timeout=300, trust_env=False, limits=LIMITS)
            )
            for server in servers
        ]
        yield Pair(servers, clients, upstream, folder)


def running_faults(migrated: Path, folder: Path, *kinds: str) -> AbstractContextManager[Pair]:
    """Run servers of these ``kinds`` before an upstream that does each of ``faults.FAULTS`` when it is asked to."""
    return running_pair(
        migrated,
        folder,
        kinds=kinds,
        default=faults.behave,
        providers={"MAX_ANSWER_BYTES": faults.MAX_ANSWER},
        **faults.PATIENCE,
    )


def ended_log(server: ServerProcess) -> str:
    """Return what a server has logged, once it has ended as it should."""
    assert server.stop() == 0
    return server.log.read_text()

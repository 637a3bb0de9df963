"""A server in front of a scripted model, for other people's clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream


@contextmanager
def serving(upstream: ScriptedUpstream, folder: Path) -> Iterator[ServerProcess]:
    """A server on an empty database, for the length of a block."""
    env = environment(folder, LLM_API_URL=upstream.url, LLM_MODEL="scripted")
    manage(env, "migrate", "--verbosity=0")
    with ServerProcess("uvicorn", env, folder / "server.log") as server:
        yield server

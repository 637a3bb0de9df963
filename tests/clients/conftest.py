"""One real server process for other people's clients, in front of a scripted model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, run_upstream_in_thread

from .serving import serving


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[ServerProcess]:
    with serving(upstream, tmp_path_factory.mktemp("clients")) as running:
        yield running

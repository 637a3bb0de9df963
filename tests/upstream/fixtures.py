"""Fixtures, for ``pytest_plugins = ["tests.upstream.fixtures"]`` in the top conftest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from llmproviders.net.http import close_client

from .server import ScriptedUpstream
from .threaded import run_upstream_in_thread


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream in the test's own loop; the loop's HTTP client is closed after it."""
    async with ScriptedUpstream() as server:
        yield server
        await close_client()


@pytest.fixture
def upstream_thread() -> Iterator[ScriptedUpstream]:
    """A scripted upstream in a thread, for synchronous tests and for tests of whole servers."""
    with run_upstream_in_thread() as server:
        yield server

"""Promise 1: a user message that was acknowledged is stored, whatever becomes of the process then."""

from __future__ import annotations

import random
import time

import pytest

from tests.conversations.helpers import stream

from .conftest import Serve
from .readers import Reader, SocketReader, SseReader, script
from .sizes import size
from .truth import consistent

pytestmark = pytest.mark.server

LOOPS = size(3, 100)
# The process dies at a random moment up to so many seconds after the acknowledgement.
LATEST_KILL = 0.05


def test_p1_an_acknowledged_message_is_there_after_a_kill(serve: Serve) -> None:
    """Each loop: one message over HTTP and one over a socket, the kill a moment after one's acknowledgement."""
    [server] = serve()
    acknowledged: dict[str, tuple[str, str]] = {}
    for loop in range(LOOPS):
        readers: dict[str, Reader] = {}
        for kind in (SseReader, SocketReader):
            message = script(chunks=[f"answer to {kind.__name__} {loop}"], endless=True, delay=0.01)
            readers[message] = kind(server, message=message).start()
        random.choice(list(readers.values())).acknowledged()
        time.sleep(random.uniform(0, LATEST_KILL))
        server.kill()
        for message, reader in readers.items():
            if reader.join().ids:
                acknowledged[reader.ids["session_id"]] = reader.ids["generation_id"], message
        server.start()

    assert len(acknowledged) >= LOOPS
    with server.client() as client:
        for session_id, (generation_id, message) in acknowledged.items():
            consistent(client, stream(client, "GET", f"/generations/{generation_id}/stream"))
            history = client.get(f"/conversations/{session_id}/history").json()["messages"]
            assert [(item["role"], item["content"] == message) for item in history] == [
                ("user", True),
                ("assistant", False),
            ]
            assert history[1]["status"] == "interrupted"

"""Promise 2: text that a client has seen is there after `kill -9`."""

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

LOOPS = size(2, 100)
LATEST_KILL = 0.3
READERS = 3  # of each kind


def test_p2_seen_text_is_a_prefix_of_the_stored_after_a_kill(serve: Serve) -> None:
    [server] = serve()
    seen_characters = 0
    for loop in range(LOOPS):
        message = script(chunks=["你好 ", "text ", "🙂 "], reasoning=["why ", "so "], endless=True, delay=0.002)
        readers: list[Reader] = [
            kind(server, message=message).start() for kind in (SseReader, SocketReader) for _reader in range(READERS)
        ]
        for reader in readers:
            reader.seen(3)
        time.sleep(random.uniform(0, LATEST_KILL))
        server.kill()
        for reader in readers:
            reader.join()
        server.start()
        with server.client() as client:
            for reader in readers:
                stored = stream(client, "GET", f"/generations/{reader.ids['generation_id']}/stream")
                assert not reader.has_ended
                assert stored.text.startswith(reader.part.text), f"loop {loop} lost text"
                assert stored.reasoning == reader.part.reasoning == "why so "
                assert stored.done["status"] == "interrupted"
                consistent(client, stored)
                seen_characters += len(reader.part.text)
    assert seen_characters

"""A Redis of the test's own, which it may end and start again."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Self

from tests.ports import free_port
from tests.tools import program

START_SECONDS = 60.0


class RedisServer:
    """`redis-server` on a free port of loopback; it keeps nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        command = [
            program("redis-server"),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "redis-server did not start"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.01)
        raise TimeoutError("redis-server does not answer")

    def kill(self) -> None:
        """End it at once; `start` brings an empty one back at the same address."""
        if self._process:
            self._process.kill()
            self._process.wait(START_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_details: object) -> None:
        self.kill()

"""Ports for programs that must be told which one to take."""

from __future__ import annotations

import os
import socket
from itertools import cycle

# Below those that the system gives out itself, which another test's server or client may have at any moment.
FIRST, PER_WORKER, WORKERS = 14_000, 1_000, 16

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_start = os.getpid() % PER_WORKER
_ports = cycle(FIRST + _worker * PER_WORKER + (_start + step) % PER_WORKER for step in range(PER_WORKER))


def free_port() -> int:
    """Return a port of loopback that nothing listens on; workers side by side never return the same one."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")

"""A PgBouncer of one's own before a PostgreSQL server: few connections, given out a transaction at a time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.ports import free_port
from tests.tools import program

PATIENCE = 30.0
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 400
logfile = {folder}/log
"""


class PgBouncer:
    """In front of the server of ``url``; its own is ``self.url``."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self.port = free_port()
        self.url = server._replace(netloc=f"{server.username}@127.0.0.1:{self.port}").geturl()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        values = {"server_port": server.port, "port": self.port, "folder": self._folder}
        (self._folder / "users").write_text(f'"{server.username}" ""\n')
        (self._folder / "ini").write_text(
            CONFIGURATION.format(**values).replace("* = host", f"* = user={server.username} host")
        )
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [program("pgbouncer", "/usr/sbin"), "-q", str(self._folder / "ini")]
        self._process = subprocess.Popen(command, user=self._user, cwd=self._folder, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def __exit__(self, *_details: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        shutil.rmtree(self._folder)

"""Real proxies in front of servers under test: nginx and HAProxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.ports import free_port
from tests.tools import program

START_SECONDS = 60.0
MAIN = """
daemon off;
{user}
pid {folder}/pid;
error_log stderr info;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


class Proxy:
    """A program on a free port of loopback, for the length of a ``with`` block; ``url`` is where it answers."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _write(self) -> None:
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What it had to say so far."""
        return (self._folder / "log").read_text()

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="proxy-")
        self._folder = Path(self._temporary.name)
        self._write()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_details: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_SECONDS)
        self._temporary.cleanup()


class Nginx(Proxy):
    """nginx. ``http`` is what stands in its ``http`` block.

    ``{port}`` in it becomes the port that nginx shall listen on; other braces stay as they are.
    ``Nginx.of(locations)`` is one server with these locations.
    """

    def __init__(self, http: str) -> None:
        super().__init__()
        self._http = http

    @classmethod
    def of(cls, locations: str) -> Self:
        """One ``server`` block, which answers to any name, with these ``locations``."""
        return cls("server {\n listen 127.0.0.1:{port};\n" + locations + "\n}")

    def reload(self, http: str) -> None:
        """Take another configuration without closing what is open. nginx does so a moment after this returns."""
        assert self._process is not None
        self._http = http
        self._write()
        self._process.send_signal(signal.SIGHUP)

    def _command(self) -> list[str]:
        return [program("nginx", "/usr/sbin"), "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]

    def _write(self) -> None:
        # As root its workers would be somebody else, who may not go into the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        http = self._http.replace("{port}", str(self.port))
        (self._folder / "nginx.conf").write_text(MAIN.format(user=user, folder=self._folder, http=http))


class HAProxy(Proxy):
    """HAProxy, with the configuration that ``configuration`` returns for a port to listen on."""

    def __init__(self, configuration: Callable[[int], str]) -> None:
        super().__init__()
        self._configuration = configuration

    def _command(self) -> list[str]:
        return [program("haproxy", "/usr/sbin"), "-db", "-f", str(self._folder / "haproxy.cfg")]

    def _write(self) -> None:
        (self._folder / "haproxy.cfg").write_text(self._configuration(self.port))

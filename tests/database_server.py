"""A database server of one's own, which may be ended as a crash would and started again: PostgreSQL or MariaDB."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from glob import glob
from pathlib import Path
from typing import Any, Self

from django.db import ConnectionHandler, Error

from chatproject.environment import database
from tests.ports import free_port
from tests.tools import program

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
# Where Debian keeps those programs that are not on the path.
POSTGRESQL_PROGRAMS = "/usr/lib/postgresql/*/bin"


# Without these a server has every commit on the disk before it says so, which takes most of a run's time.
QUICK = {
    "postgresql": ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"],
    "mysql": ["--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite"],
}
CONNECTIONS = 400


def settings_of(url: str) -> dict[str, Any]:
    """Django's settings of a database."""
    return database("", ROOT, url)


class DatabaseServer:
    """A server of a kind, ``postgresql`` or ``mysql``, on a free port of loopback, with an empty database at ``url``.

    A ``quick`` one keeps what it said only as long as the machine runs.
    """

    def __init__(self, kind: str, *, quick: bool = False) -> None:
        self.port = free_port()
        # Not one of pytest's folders: as root, the server runs as somebody who may not go in there.
        self.folder = Path(tempfile.mkdtemp(prefix="database-"))
        self._user: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if kind == "postgresql":
            self._set_up_postgresql()
        else:
            self._set_up_mariadb()
        self._command += QUICK[kind] if quick else []

    def _set_up_postgresql(self) -> None:
        folders = sorted(glob(POSTGRESQL_PROGRAMS), reverse=True)
        self.url = f"postgres://chat@127.0.0.1:{self.port}/postgres"
        self._crash = signal.SIGQUIT  # ends it and its children at once; the next start recovers
        self._command = [program("postgres", *folders), "-D", str(self.folder / "data"), "-p", str(self.port)]
        self._command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]
        self._command += ["-c", f"max_connections={CONNECTIONS}"]
        self._ready = [program("pg_isready", *folders), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        self._owned_by("postgres")
        self._run(
            [program("initdb", *folders), "-D", str(self.folder / "data"), "-U", "chat", "-A", "trust", "-E", "UTF8"]
        )

    def _set_up_mariadb(self) -> None:
        self.url = f"mysql://root@127.0.0.1:{self.port}/chat"
        self._crash = signal.SIGKILL
        data = f"--datadir={self.folder / 'data'}"
        first = self.folder / "first.sql"
        first.write_text("CREATE DATABASE IF NOT EXISTS chat CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci;\n")
        self._command = [program("mariadbd", "/usr/sbin"), "--no-defaults", data, f"--port={self.port}"]
        self._command += [
            f"--max-connections={CONNECTIONS}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'socket'}",
            f"--init-file={first}",
            # A server that starts deletes what others have in a folder that they share.
            f"--tmpdir={self.folder}",
        ]
        self._ready = [program("mariadb-admin"), "--no-defaults", "-h127.0.0.1", f"-P{self.port}", "-uroot", "ping"]
        self._owned_by("mysql")
        install = [program("mariadb-install-db"), "--no-defaults", data, "--skip-test-db"]
        self._run([*install, "--auth-root-authentication-method=normal"])

    def _owned_by(self, account: str) -> None:
        """As root neither server runs: give the folder to the account that Debian's package makes."""
        if os.geteuid() == 0:
            pwd.getpwnam(account)
            shutil.chown(self.folder, account)
            self._user = account

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command, user=self._user, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> Self:
        """Start it, and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, user=self._user, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self._ready, capture_output=True, timeout=PATIENCE, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)
        return self

    def crash(self) -> None:
        """End it at once: what it had not committed is lost. `start` brings it back at the same address."""
        assert self._process is not None
        self._process.send_signal(self._crash)
        self._process.wait(PATIENCE)

    def url_of(self, account: str) -> str:
        """Where ``account`` reaches the database."""
        return re.sub(r"//\w+@", f"//{account}@", self.url)

    def admits(self, account: str) -> bool:
        """Whether ``account`` may connect now; being admitted counts as a connection of that account."""
        try:
            self._run_as(self.url_of(account))
        except Error:
            return False
        return True

    def do(self, *statements: str) -> None:
        """Run statements past the processes under test, as the server's owner."""
        self._run_as(self.url, *statements)

    def _run_as(self, url: str, *statements: str) -> None:
        wrapper = ConnectionHandler({"default": settings_of(url)})["default"]
        # Opened by hand: tests without a database may need it as well.
        with wrapper.wrap_database_errors:
            wrapper.connection = wrapper.get_new_connection(wrapper.get_connection_params())
        try:
            wrapper._set_autocommit(True)  # type: ignore[attr-defined]
            with closing(wrapper.connection.cursor()) as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            wrapper.connection.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_details: object) -> None:
        if self._process and self._process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder)

"""Real server processes on real sockets and a database of their own, for tests that kill and restart them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import httpx

from tests import databases
from tests.entry import ENVIRONMENT, HEADERS
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """Return a clean environment with the database of ``folder``; nothing else counts of what the machine says."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "DATABASE_URL": databases.url_of(folder),
        "ATTACHMENTS_DIR": str(folder / "attachments"),
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "TITLES": "first_words",
        "PYTHONUNBUFFERED": "1",
        "DRAIN_LISTEN_SECONDS": "0",  # no balancer is waited for
        **ENVIRONMENT,
        **extra,
    }


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run a management command and return what it printed; raises when it fails."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class ServerProcess:
    """One server process. ``kind`` is ``uvicorn`` (as `make run` starts it) or ``daphne``."""

    def __init__(self, kind: str, env: Mapping[str, str], log: Path, *, port: int | None = None) -> None:
        self.kind = kind
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws/chat"
        self.env = {**env, "PORT": str(self.port)}
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self._command(), cwd=ROOT, env=self.env, stdout=self._output, stderr=subprocess.STDOUT
        )
        self._wait_until_it_answers()
        return self

    def _command(self) -> list[str]:
        if self.kind == "uvicorn":
            return [sys.executable, "-m", "chatproject"]
        arguments = ["-b", "127.0.0.1", "-p", str(self.port), "chatproject.asgi:application"]
        return [sys.executable, "-m", "daphne", *arguments]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            try:
                httpx.get(f"{self.url}/api/health", timeout=5, trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.02)
        raise TimeoutError(self.log.read_text())

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=HEADERS, timeout=60, trust_env=False)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        assert self._process is not None
        code = self._process.wait(seconds)
        self._close()
        return code

    def _close(self) -> None:
        if self._output:
            self._output.close()
            self._output = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_details: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._close()

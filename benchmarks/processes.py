"""Servers as processes of their own, on one core. Each ends with the ``async with`` that began it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "var" / "bench"
START_SECONDS = 120.0
STOP_SECONDS = 40.0
TICKS = os.sysconf("SC_CLK_TCK")
# Whatever a program wants of other hosts ends at a port where nothing listens.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", ""),
    "HOME": str(WORK),
    "LANG": "C.UTF-8",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


class Server:
    """A server on loopback, at ``port`` once it has begun."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], *, core: int, folder: Path = ROOT
    ) -> None:
        self.port = 0
        self._folder = folder
        self._name = name
        self._command = ["taskset", "-c", str(core), *command]
        self._environment = {**ENVIRONMENT, **environment}
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Server:
        self.port = free_port()
        log = WORK / f"{self._name}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220  (nothing is measured meanwhile)
                [part.replace("{port}", str(self.port)) for part in self._command],
                cwd=self._folder,
                env={**self._environment, "PORT": str(self.port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await listens(self.port):
                    if self._process.poll() is not None:
                        raise RuntimeError(f"{self._name} ended with code {self._process.returncode}: see {log}")
                    await asyncio.sleep(0.1)
                await self._settled()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _settled(self) -> None:
        """Wait until it has loaded all that it loads, in each of its processes: it has nothing to do then."""
        before = -1.0
        while (now := self.seconds()) > before + 0.02:
            before = now
            await asyncio.sleep(1.0)

    async def __aexit__(self, *_exc: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def memory(self) -> int:
        """Return the bytes that the server's processes have in memory."""
        return sum(_status(pid) for pid in self._pids())

    def seconds(self) -> float:
        """Return the time that its processes had of their core."""
        return sum(_cpu_ticks(pid) for pid in self._pids()) / TICKS

    def _pids(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found


class Nobody:
    """Stands for a server where there is none: the load asks the model itself."""

    def __init__(self, port: int) -> None:
        self.port = port

    def seconds(self) -> float:
        return 0.0


def _status(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def listens(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def run(
    command: list[str],
    environment: Mapping[str, str],
    *,
    folder: Path = ROOT,
    given: str = "",
    seconds: float = 1800.0,
) -> str:
    """Run a program to its end and return what it printed; raises ``CalledProcessError``."""
    with (WORK / "setup.log").open("ab") as log:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**ENVIRONMENT, **environment},
            input=given,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
            timeout=seconds,
        )
    return done.stdout

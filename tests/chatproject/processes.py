"""The project as people start it: processes of its own, in an environment that says nothing else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def variables() -> set[str]:
    """The environment variables that the settings read."""
    sources = (ROOT / "chatproject" / "settings.py", ROOT / "chatproject" / "keys.py")
    return set().union(*(_names_given_to_calls(source, "env") for source in sources))


def _names_given_to_calls(source: Path, module: str) -> set[str]:
    readers = {
        "text",
        "boolean",
        "integer",
        "seconds",
        "words",
        "hosts",
        "hosts_and_ports",
        "choice",
        "url",
        "networks",
        "model_type",
        "rate",
        "root_path",
        "time_zone",
        "origins",
        "database",
    }
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.removeprefix(f"{module}.") in readers and called.startswith(module):
                found.add(str(node.args[0].value))
    return found


def environment(**given: str) -> dict[str, str]:
    """This process's environment with only ``given`` for the project: empty ones also win over a `.env`."""
    nothing = {**dict.fromkeys(variables(), ""), "DRAIN_LISTEN_SECONDS": "0"}  # no balancer is waited for
    return {**os.environ, **nothing, "DJANGO_SETTINGS_MODULE": "chatproject.settings", **given}


def run(*arguments: str, timeout: float = 60, **given: str) -> subprocess.CompletedProcess[str]:
    """Run ``python arguments`` to its end."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**given), capture_output=True, text=True, timeout=timeout, check=False
    )


class Process:
    """A started program whose output is read when it has ended."""

    def __init__(self, *arguments: str, log: Path, **given: str) -> None:
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=environment(**given), stdout=output, stderr=output
            )

    def end(self, number: int, timeout: float = 30) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def output(self) -> str:
        """What it wrote so far."""
        return self.log.read_text()


@contextmanager
def started(*arguments: str, log: Path, **given: str) -> Iterator[Process]:
    """A program for the length of a block."""
    process = Process(*arguments, log=log, **given)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


@contextmanager
def serving(
    log: Path, program: Sequence[str] = ("-m", "chatproject"), **given: str
) -> Iterator[tuple[Process, httpx.Client]]:
    """`python -m chatproject`, or another ``program`` that serves, once it answers, and a client of it."""
    port = free_port()
    with (
        started(*program, log=log, PORT=str(port), **given) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
    ):
        wait_until_it_answers(process, client)
        yield process, client


def wait_until_it_answers(process: Process, client: httpx.Client) -> None:
    """Wait for the first answer; the server listens before it is ready, so only the very start is refused."""
    while True:
        try:
            client.get("/api/health")
        except httpx.ConnectError:
            assert process.process.poll() is None, process.output()
        else:
            return

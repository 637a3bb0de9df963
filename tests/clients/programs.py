"""Other people's clients, installed by `make client-packages`: programs to run, and scripts that use them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools import program

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "var" / "clients"
PYTHON = INSTALLED / "python" / "bin"
NODE = INSTALLED / "node_modules" / ".bin"
RUN_SECONDS = 120


def need_clients() -> None:
    """Skip the test where the clients are not installed; in CI it fails."""
    if (INSTALLED / ".installed").exists():
        return
    reason = "the clients are not installed (`make client-packages`)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in which Node finds the installed packages; it is gone after the block."""
    need_clients()
    with tempfile.TemporaryDirectory(dir=INSTALLED) as name:
        yield Path(name)


def run(*command: str, cwd: Path, **variables: str) -> str:
    """Run a program to its end and return what it printed; raises with its output where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "NO_COLOR": "1",
            "REDOCLY_TELEMETRY": "off",
            "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_in(language: str, script: str, *arguments: str) -> str:
    """Run a script of ``python`` or ``js`` that talks with a server of this machine; return what it printed."""
    return run_python(script, *arguments, NO_PROXY="*") if language == "python" else run_node(script, *arguments)


def run_python(script: str, *arguments: str, **variables: str) -> str:
    """Run a script with the installed Python packages; return what it printed."""
    with folder() as cwd:
        (cwd / "script.py").write_text(script)
        return run(str(PYTHON / "python"), "script.py", *arguments, cwd=cwd, **variables)


def run_node(script: str, *arguments: str, **variables: str) -> str:
    """Run an ES module with the installed npm packages; return what it printed."""
    with folder() as cwd:
        (cwd / "script.mjs").write_text(script)
        return run(program("node"), "script.mjs", *arguments, cwd=cwd, **variables)

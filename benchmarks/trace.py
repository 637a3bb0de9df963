"""``make trace``: how many of the project's files and functions an answer passes, and how often it changes file.

The real application runs in this process, behind uvicorn on a real socket, on an empty SQLite database, where users
log in as in ``make bench``. Each way is gone once to warm up, and once traced, with its work in all threads until
nothing more is done. Another process of this project makes the answer that is resumed here.

A function counts at each call, not where a coroutine goes on. A change of file leads from one file of ours to another,
by a call, a return, or a coroutine that goes on or waits, whatever of other people's code lies between. What an event
loop or a thread calls first comes from nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from .processes import ENVIRONMENT, ROOT, free_port
from .tracer import SETTLE_SECONDS, Tracer
from .upstream import HEAD

START_SECONDS = 60.0


class Model(BaseHTTPRequestHandler):
    """A model that says one word; to a question with "wait" in it, it ends only once ``go_on`` is set."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()

    def do_POST(self) -> None:
        question = self.rfile.read(int(self.headers["Content-Length"]))
        word = _event({"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]})
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        end = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
        end += _part(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        begin = HEAD + word
        if b"wait" in question:
            self.wfile.write(begin)
            self.go_on.wait(START_SECONDS)
            begin = b""
        try:
            self.wfile.write(begin + end)
        except OSError:  # the answer was stopped
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def _event(value: Mapping[str, object]) -> bytes:
    common = {"id": "chatcmpl-trace", "object": "chat.completion.chunk", "created": 1, "model": "trace"}
    return _part(f"data: {json.dumps({**common, **value})}\n\n".encode())


def _part(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Place:
    """The server that is traced, the other one, and a client of each."""

    def __init__(self, tracer: Tracer, port: int, other_port: int, key: str) -> None:
        self.tracer = tracer
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"}
        self.client, self.other = (
            httpx.Client(base_url=f"http://127.0.0.1:{each}", headers=self.headers, timeout=30, trust_env=False)
            for each in (port, other_port)
        )

    def chat(self) -> None:
        """POST /chat, streamed."""
        with self.tracer.counting(), self.client.stream("POST", "/chat", json={"message": "one"}) as answer:
            answer.read()

    def stop(self) -> None:
        """POST /generations/{id}/stop, and the end of the stream that runs."""
        Model.go_on.clear()
        with self.client.stream("POST", "/chat", json={"message": "wait"}) as answer:
            lines = answer.iter_lines()
            _until_text(lines)
            time.sleep(SETTLE_SECONDS)
            with self.tracer.counting():
                self.client.post(f"/generations/{answer.headers['X-Generation-Id']}/stop").raise_for_status()
                list(lines)
        Model.go_on.set()

    def resume(self) -> None:
        """GET /generations/{id}/stream, of an answer that another process makes."""
        Model.go_on.clear()
        with self.other.stream("POST", "/chat", json={"message": "wait"}) as answer:
            _until_text(answer.iter_lines())
            time.sleep(SETTLE_SECONDS)
            with (
                self.tracer.counting(),
                self.client.stream("GET", f"/generations/{answer.headers['X-Generation-Id']}/stream") as rest,
            ):
                lines = rest.iter_lines()
                _until_text(lines)
                Model.go_on.set()
                list(lines)

    def socket(self) -> None:
        """A WebSocket: opened, one chat, closed."""
        from websockets.sync.client import connect

        with (
            self.tracer.counting(),
            connect(f"ws://127.0.0.1:{self.port}/ws/chat", additional_headers=self.headers, proxy=None) as socket,
        ):
            socket.send(json.dumps({"type": "chat", "id": "1", "message": "one"}))
            while not json.loads(socket.recv(30)).get("done"):
                pass


WAYS: dict[str, tuple[str, Callable[[Place], None]]] = {
    "chat": ("POST /chat, streamed", Place.chat),
    "stop": ("stop", Place.stop),
    "resume": ("resume in another process", Place.resume),
    "socket": ("WebSocket chat", Place.socket),
}


def _until_text(lines: Iterator[str]) -> None:
    for line in lines:
        if line.startswith('data: {"chunk"'):
            return
    raise RuntimeError("the answer has no text")


@contextmanager
def model() -> Iterator[str]:
    """Run the model; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        Model.go_on.set()
        server.shutdown()


def environment(folder: Path, upstream: str) -> dict[str, str]:
    return {
        **ENVIRONMENT,
        "HOME": str(folder),
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        "REDIS_URL": "",
        "LLM_API_URL": upstream,
        "LLM_MODEL": "trace",
        "LLM_API_KEY": "sk-upstream",
        "DEFAULT_MODEL_TYPE": "default",
        "HOST": "127.0.0.1",
        "TITLES": "first_words",
        "REQUIRE_LOGIN": "true",
        # Limits and a budget are on, and nobody comes near them.
        "RATE_LIMIT": "1000000/minute",
        "TOKENS_PER_DAY": "1000000000",
        "DRAIN_LISTEN_SECONDS": "0",
        "DRAIN_SECONDS": "1",
        "LOG_LEVEL": "WARNING",
    }


@contextmanager
def other_process(variables: Mapping[str, str], port: int) -> Iterator[None]:
    """Run a second server, as `make run` starts it."""
    command, env = [sys.executable, "-m", "chatproject"], {**variables, "PORT": str(port)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the other process does not answer")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def this_process(variables: Mapping[str, str]) -> Iterator[int]:
    """Run the server in a thread of this process; yield its port."""
    os.environ.update(variables)
    import uvicorn
    from django.conf import settings

    from chatproject.asgi import application  # sets Django up
    from chatproject.server import options
    from conversations.database import db

    # One beat at the start, and none into what is traced.
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "BEAT_INTERVAL": 3600.0}
    server = uvicorn.Server(uvicorn.Config(application, **{**options(), "host": "127.0.0.1", "port": 0}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.05)
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        db.close()


def traced(names: list[str]) -> Iterator[tuple[str, Counter[str], int]]:
    """Go each way; yield its title, the calls of each file, and the changes of file."""
    tracer = Tracer()
    tracer.install()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        variables = environment(folder, running.enter_context(model()))
        _run(["manage.py", "migrate", "--no-input", "--verbosity", "0"], variables)
        key = _run(["-m", "benchmarks.accounts", "1"], variables).strip()
        other_port = free_port()
        if "resume" in names:
            running.enter_context(other_process(variables, other_port))
        place = Place(tracer, running.enter_context(this_process(variables)), other_port, key)
        for name in names:
            title, go = WAYS[name]
            go(place)
            go(place)
            yield title, Counter(tracer.calls), tracer.changes


def _run(arguments: list[str], variables: Mapping[str, str]) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description="Count what an answer passes.")
    parser.add_argument("way", nargs="*", choices=[[], *WAYS], metavar=f"{{{','.join(WAYS)}}}", help="all without one")
    parser.add_argument("--files", action="store_true", help="list the files too, with their calls")
    given: Any = parser.parse_args()
    print("| | files | functions | changes of file |\n|---|---|---|---|", flush=True)
    listed = []
    for title, calls, changes in traced(given.way or list(WAYS)):
        print(f"| {title} | {len(calls)} | {calls.total()} | {changes} |", flush=True)
        listed.append((title, calls))
    if given.files:
        for title, calls in listed:
            print(f"\n{title}:", *(f"{count:6} {file}" for file, count in calls.most_common()), sep="\n")


if __name__ == "__main__":
    main()

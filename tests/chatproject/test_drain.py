"""Open connections of a process that was told to end: none is cut before its request is answered."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .processes import Process, serving

pytestmark = pytest.mark.server
LISTEN_SECONDS = 4.0


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[tuple[Process, int]]:
    """A process that listens on for a moment, and its port."""
    given = {"DRAIN_LISTEN_SECONDS": str(LISTEN_SECONDS), "KEEP_ALIVE_SECONDS": "60"}
    with serving(tmp_path / "log", DATABASE_URL=database_url, **given) as (process, client):
        assert client.base_url.port
        yield process, client.base_url.port


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Read one answer: status, headers, body."""
    with closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.load(answer)


def wait_until_nobody_listens(port: int) -> None:
    deadline = time.monotonic() + LISTEN_SECONDS + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline, "it listens on"
        time.sleep(0.02)


def wait_until_it_logs(process: Process, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in process.output():
        assert time.monotonic() < deadline, process.output()
        time.sleep(0.02)


def test_readiness_turns_at_once_and_everything_else_goes_on(server: tuple[Process, int]) -> None:
    process, port = server
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        process.process.send_signal(signal.SIGTERM)
        while (ready := client.get("/api/health/ready")).status_code == 200:
            pass
        assert ready.headers["retry-after"]
        made = client.post("/conversations", json={})
        assert (made.status_code, made.headers["connection"]) == (201, "close")
        assert (
            client.post("/chat", json={"message": "hi", "model_type": "nope"}).json()["code"] == "unknown_model_type"
        )


def test_an_idle_connection_is_closed_with_the_listener(server: tuple[Process, int]) -> None:
    process, port = server
    with connected(port) as idle:
        idle.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        status, headers, _body = answer_on(idle)
        assert (status, headers.get("connection")) == (200, None)
        process.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""


def test_a_request_on_its_way_when_the_listener_closes_is_answered(tmp_path: Path, database_url: str) -> None:
    """One that comes much later is told to come again, and where: not on this connection."""
    body = json.dumps({"message": "hello", "model_type": "default"}).encode()
    head = b"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    request = head % len(body) + body
    with ExitStack() as opened:
        model = {"LLM_API_URL": opened.enter_context(silent_model()), "LLM_MODEL": "silent", "DRAIN_SECONDS": "5"}
        given = {"DRAIN_LISTEN_SECONDS": str(LISTEN_SECONDS), **model}
        process, client = opened.enter_context(serving(tmp_path / "log", DATABASE_URL=database_url, **given))
        port = int(client.base_url.port or 0)
        running = opened.enter_context(client.stream("POST", "/chat", json={"message": "hello"}))  # holds the process
        assert running.status_code == 200
        fresh, half, late = (opened.enter_context(connected(port)) for _ in range(3))
        half.sendall(request[:20])
        process.process.send_signal(signal.SIGTERM)
        wait_until_nobody_listens(port)
        fresh.sendall(request)
        half.sendall(request[20:])
        for connection in (fresh, half):
            assert connection.recv(12) == b"HTTP/1.1 200"
        wait_until_it_logs(process, "answers may go on for")
        late.sendall(request)
        status, headers, problem = answer_on(late)
        assert (status, problem["code"]) == (503, "shutting_down")
        assert (headers["retry-after"], headers["connection"]) == ("5", "close")
        assert late.recv(1) == b""
        assert "interrupted" in running.read().decode()
        assert process.process.wait(20) == 0


@contextmanager
def silent_model() -> Iterator[str]:
    """A model server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_answers_now_and_tells_their_readers(
    first: signal.Signals, tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as opened:
        model = {"LLM_API_URL": opened.enter_context(silent_model()), "LLM_MODEL": "silent", "DRAIN_SECONDS": "60"}
        given = {"DATABASE_URL": database_url, "DRAIN_LISTEN_SECONDS": "0", **model}
        process, client = opened.enter_context(serving(tmp_path / "log", **given))
        running = opened.enter_context(client.stream("POST", "/chat", json={"message": "hello"}))
        process.process.send_signal(first)
        wait_until_it_logs(process, "answers may go on for 60 s; Ctrl-C again ends them now")
        process.process.send_signal(signal.SIGINT)
        assert "interrupted" in running.read().decode()
        assert process.process.wait(20) == 0
        assert process.output().count("may go on for") == 1
        assert "Traceback" not in process.output()
        assert "Cancel" not in process.output()


def test_ctrl_c_after_sigterm_does_not_wait_for_balancers(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url, DRAIN_LISTEN_SECONDS="60") as (process, client):
        process.process.send_signal(signal.SIGTERM)
        while client.get("/api/health/ready").status_code == 200:
            pass
        assert process.end(signal.SIGINT) == 0


def test_ctrl_c_does_not_wait_for_balancers(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url, DRAIN_LISTEN_SECONDS="60") as (process, _client):
        assert process.end(signal.SIGINT) == 0


def test_a_hang_up_ends_it_in_order(server: tuple[Process, int]) -> None:
    process, _port = server
    assert process.end(signal.SIGHUP) == 0
    assert "Traceback" not in process.output()


def test_a_hang_up_under_nohup_is_nothing(tmp_path: Path, database_url: str) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it, a child inherits it
    try:
        serving_with_nohup = serving(tmp_path / "log", DATABASE_URL=database_url)
        with serving_with_nohup as (process, client):
            process.process.send_signal(signal.SIGHUP)
            assert client.get("/api/health/ready").status_code == 200
            assert process.end(signal.SIGTERM) == 0
    finally:
        signal.signal(signal.SIGHUP, before)

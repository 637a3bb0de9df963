"""The install guide works as it stands, in a project that `startproject` makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from websockets.sync.client import connect

from tests.ports import free_port
from tests.upstream import run_upstream_in_thread

from .markdown import ROOT, blocks

LIMIT = 1_048_576
GUIDE = ROOT / "docs" / "install-in-your-project.md"


class Project:
    """A new project with the guide's four steps taken."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        # What `pip install` does for others.
        self.variables = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
        self.variables |= {"FIELD_ENCRYPTION_KEY": Fernet.generate_key().decode(), **variables}
        self.manage("-m", "django", "startproject", "mysite", ".", DJANGO_SETTINGS_MODULE="")
        settings, urls, asgi, *_others = blocks(GUIDE, "python")
        self._append("settings.py", f"\nimport os\n{settings.text}")
        self._append("urls.py", urls.text)
        (folder / "mysite" / "asgi.py").write_text(asgi.text)
        self.manage("manage.py", "migrate", "--verbosity", "0")

    def _append(self, name: str, text: str) -> None:
        with (self.folder / "mysite" / name).open("a") as file:
            file.write(text)

    def manage(self, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    @contextmanager
    def serving(self) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """Run the guide's server command; give `host:port` and the process."""
        port = free_port()
        command = ["-m", "uvicorn", "mysite.asgi:application", "--port", str(port), "--timeout-graceful-shutdown", "5"]
        assert " ".join(command[:3]) in blocks(GUIDE, "bash")[1].text
        env = self.variables
        with (self.folder / "log").open("w") as log:
            server = subprocess.Popen([sys.executable, *command], cwd=self.folder, env=env, stdout=log, stderr=log)
        try:
            transport = httpx.HTTPTransport(retries=10)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=transport, trust_env=False) as client:
                assert client.get("/api/health", timeout=30).json() == {"status": "ok"}
            yield f"127.0.0.1:{port}", server
        finally:
            server.terminate()
            try:
                assert server.wait(30) in (0, -15), (self.folder / "log").read_text()
            finally:
                server.kill()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with run_upstream_in_thread() as upstream:
        yield Project(tmp_path_factory.mktemp("host"), LLM_API_URL=upstream.url, LLM_MODEL="scripted")


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    """`host:port` of the guide's server command."""
    with project.serving() as (address, _process):
        yield address


def test_the_checks_find_nothing(project: Project) -> None:
    assert "no issues" in project.manage("manage.py", "check") or project.manage("manage.py", "check") == ""


@pytest.mark.server
def test_the_api_answers(address: str) -> None:
    with httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False) as client:
        reply = client.post("/chat", json={"message": "hi", "stream": False}).json()
        assert reply["assistant_reply"] == "You said: hi (0 earlier messages)"
        assert client.post("/chat", json={"message": " "}).json()["code"] == "invalid"
        history = client.get(f"/conversations/{reply['session_id']}/history").json()
        assert [message["role"] for message in history["messages"]] == ["user", "assistant"]
        streamed = client.post("/chat", json={"message": "hi"}).text
        assert '"status": "completed"' in streamed


@pytest.mark.server
@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_bounded_and_may_come_in_chunks(address: str, length: int, chunked: bool) -> None:
    body = json.dumps({"title": "Mine"}).encode().rjust(length)
    pieces = (body[start : start + 50_000] for start in range(0, length, 50_000))
    headers = {"Content-Type": "application/json", "X-Request-Id": "abc"}
    with httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False) as client:
        answer = client.post("/conversations", content=pieces if chunked else body, headers=headers)
        assert answer.headers["X-Request-Id"] == "abc"
        if length <= LIMIT:
            assert client.get(answer.headers["Location"]).json()["title"] == "Mine"
        else:
            assert answer.status_code == 413
            assert answer.json()["code"] == "body_too_large"
            assert answer.json()["request_id"] == "abc"


@pytest.mark.server
def test_a_signal_lets_a_running_answer_end(project: Project) -> None:
    """The server alone would cut it after the 5 s that its command says."""
    with project.serving() as (address, process):
        body = {"message": f"!script {json.dumps({'delay': 0.07, 'chunks': ['tick '] * 100})}"}
        with httpx.stream("POST", f"http://{address}/chat", json=body, timeout=60, trust_env=False) as answer:
            lines = answer.iter_lines()
            next(line for line in lines if "tick" in line)
            process.terminate()
            assert '"status": "completed"' in [line for line in lines if line.startswith("data")][-1]


@pytest.mark.server
def test_the_socket_answers(address: str) -> None:
    with connect(f"ws://{address}/ws/chat", proxy=None) as socket:
        socket.send(json.dumps({"type": "chat", "id": 1, "message": "hi"}))
        frames = [json.loads(socket.recv(timeout=10))]
        while "done" not in frames[-1]:
            frames.append(json.loads(socket.recv(timeout=10)))
    assert frames[0]["type"] == "accepted"
    assert frames[-1]["status"] == "completed"


def test_the_example_from_python_answers(project: Project) -> None:
    (*_steps, from_python) = blocks(GUIDE, "python")
    (project.folder / "mysite" / "ask.py").write_text(from_python.text)
    (project.folder / "try.py").write_text(
        "import asyncio, django; django.setup()\n"
        "from django.contrib.auth.models import User; from mysite.ask import ask\n"
        "from conversations.database import db; from conversations.engine import engines\n"
        "user = User.objects.create_user('anna')\n"
        "async def main():\n"
        "    answer = await ask(user, 'hi'); await engines.shutdown(); await asyncio.to_thread(db.close)\n"
        "    return answer\n"
        "assert asyncio.run(main()) == 'You said: hi (0 earlier messages)'\n"
    )
    project.manage("try.py")

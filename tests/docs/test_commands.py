"""Every command of the README is run as it stands, one after the other, against a running server.

The Chinese one has the same commands: test_readme.py compares.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator

from llmproviders import ChatMessage, CompletionFinished, CompletionRequest, ContentDelta, Endpoint
from tests import databases
from tests.chatproject.processes import environment, run, serving
from tests.tools import program
from tests.upstream import run_upstream_in_thread

from .markdown import READMES, ROOT, Block, blocks

# What belongs to another machine, or starts and installs things: test_readme.py looks at these.
ELSEWHERE = re.compile(r"make |ssh |sudo |\.venv/bin/python -m tests\.upstream")
IN_THE_README = "127.0.0.1:8000"
# What people type where a command asks.
TYPED = {"manage.py chat": "Hello!\n"}
PASSWORD = {
    "DJANGO_SUPERUSER_USERNAME": "anna",
    "DJANGO_SUPERUSER_EMAIL": "anna@example.com",
    "DJANGO_SUPERUSER_PASSWORD": "a-password-of-anna",
}
OLD_TABLES = """
CREATE TABLE conversations (id INTEGER PRIMARY KEY, session_id VARCHAR(64), title VARCHAR(255), created_at DATETIME,
    updated_at DATETIME);
CREATE TABLE messages (id INTEGER PRIMARY KEY, conversation_id INTEGER, role VARCHAR(16), content TEXT,
    created_at DATETIME);
CREATE TABLE user_configs (id INTEGER PRIMARY KEY, user_id VARCHAR(64), current_model_type VARCHAR(32),
    max_tokens INTEGER, custom_api_url VARCHAR(255), custom_model VARCHAR(255), custom_api_key VARCHAR(255));
INSERT INTO conversations VALUES (1, 'a6a52ef5-33b5-4c5e-8a53-6c4b4c36a4b1', 'Old', '2024-05-01', '2024-05-01');
INSERT INTO messages VALUES (1, 1, 'user', 'Hello', '2024-05-01'), (2, 1, 'assistant', 'Hi', '2024-05-01');
"""


class Reader:
    """Somebody who copies one command after the other into a shell, in the project's folder."""

    def __init__(self, folder: Path, server: str, given: Mapping[str, str]) -> None:
        self._folder = folder / "project"
        self._server = server
        self._variables = environment(PYTHONPATH=str(ROOT), **given)
        self._folder.mkdir()
        (self._folder / ".venv").symlink_to(sys.prefix)
        for name in ("manage.py", ".env.example", "docs"):
            (self._folder / name).symlink_to(ROOT / name)
        old = folder / "old-service"
        old.mkdir()
        with sqlite3.connect(old / "chat.db") as database:
            database.executescript(OLD_TABLES)
        database.close()

    def save(self, name: str, text: str) -> None:
        (self._folder / name).write_text(self._here(text))

    def run(self, block: Block) -> str:
        """Run a block; return its output. Variables that it sets stay for the next."""
        kept = self._folder / "variables"
        command = self._here(block.text).replace("createsuperuser", "createsuperuser --no-input")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"set -a\n{command}\nenv -0 > {kept}"],
            cwd=self._folder,
            env=self._variables,
            input=next((text for part, text in TYPED.items() if part in command), ""),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        self._variables = dict(entry.split("=", 1) for entry in kept.read_text().split("\0") if entry)
        return done.stdout

    def _here(self, text: str) -> str:
        return text.replace(IN_THE_README, self._server)


@pytest.fixture(params=READMES)
def readme(request: pytest.FixtureRequest) -> Path:
    return READMES[request.param]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A server with one model, the scripted one, and somebody who tries the README on it."""
    with run_upstream_in_thread() as upstream:
        given: dict[str, Any] = {
            "DATABASE_URL": databases.url_of(tmp_path),
            "LLM_API_URL": upstream.url,
            "LLM_MODEL": "scripted",
            "ATTACHMENTS_DIR": str(tmp_path / "attachments"),
            **PASSWORD,
        }
        # The presets that ship are elsewhere, or slow to start.
        presets = "from llmproviders.models import Preset; p = Preset.objects; p.exclude(type='glm4').delete()"
        for arguments in (
            ["migrate", "--no-input"],
            ["shell", "-c", f"{presets}; p.update(api_url='{upstream.url}')"],
        ):
            done = run("manage.py", *arguments, **given)
            assert done.returncode == 0, done.stderr
        with serving(tmp_path / "log", **given) as (_process, client):
            yield Reader(tmp_path, f"{client.base_url.host}:{client.base_url.port}", given)


@pytest.mark.server
def test_every_command_of_the_readme_works(reader: Reader) -> None:
    program("curl")
    found = blocks(READMES["en"])
    ran = 0
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "python" and (name := re.search(r"`(\w+\.py)`", block.before)):
            reader.save(name[1], block.text)
        if block.language == "bash" and not ELSEWHERE.match(block.text):
            judge(block, reader.run(block), following)
            ran += 1
    assert ran > 25


def judge(block: Block, output: str, following: Block | None) -> None:
    """See that the output is what the text says: a whole stream, or JSON like the example that follows."""
    if "/v1/chat/completions -H" in block.text:
        *chunks, end = [line[6:] for line in output.splitlines() if line.startswith("data: ")]
        assert end == "[DONE]", block
        assert json.loads(chunks[-1])["choices"][0]["finish_reason"] in ("stop", "length"), block
    elif "/api/chat" in block.text:
        *parts, end = [line[6:] for line in output.splitlines() if line.startswith("data: ")]
        assert end == "[DONE]", block
        assert json.loads(parts[-1])["type"] == "finish", block
    elif "/api/agui" in block.text:
        events = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("data: ")]
        assert (events[0]["type"], events[-1]["type"]) == ("RUN_STARTED", "RUN_FINISHED"), block
    elif "curl -N" in block.text:
        data = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("data: ")]
        assert data[-1]["done"], block
        assert data[-1]["status"] == "completed", block
    elif output.startswith("{") and "\n" not in output.strip():
        answer = json.loads(output)
        is_example_of_an_error = '"message": " "' in block.text
        assert (answer.get("status") == 400) == is_example_of_an_error, output
        if following and following.language == "json":
            assert_alike(json.loads(following.text), answer, str(block))
    elif "socket_chat.py" in block.text:
        assert "'status': 'completed'" in output


def assert_alike(example: Any, real: Any, where: str) -> None:
    """The same keys, and values of the same kinds."""
    assert type(example) is type(real), f"{where}: {example!r} is like no {real!r}"
    if isinstance(example, dict):
        assert list(example) == list(real) or set(example) == set(real), where
        for key in example:
            assert_alike(example[key], real[key], f"{where} [{key}]")
    elif isinstance(example, list) and example and real:
        for item in example:
            assert_alike(item, real[example.index(item)], where)


@pytest.mark.server
def test_the_python_example_of_the_socket_page_stops_its_answer(reader: Reader) -> None:
    (example,) = blocks(ROOT / "docs" / "websocket.md", "python")
    endless = json.dumps('!script {"chunks": ["ab "], "endless": true, "delay": 0.01}')
    reader.save("example.py", example.text.replace('"Tell me a story."', endless))
    assert reader.run(Block("bash", ".venv/bin/python example.py", "", 0)).endswith("-- stopped\n")


# The examples of "Extend it" ----------------------------------------------------------------------------------


def example(readme: Path, containing: str) -> types.ModuleType:
    """Import the README's block of Python that contains a word."""
    (block,) = (block for block in blocks(readme, "python") if containing in block.text)
    module = types.ModuleType("example_of_the_readme")
    exec(compile(block.text, str(readme), "exec"), module.__dict__)
    return module


async def test_the_example_of_a_backend_streams(readme: Path) -> None:
    parrot = example(readme, "Parrot").Parrot(Endpoint("parrot", "Parrot", "", "parrot"))
    request = CompletionRequest(messages=(ChatMessage("user", "say it"),))
    deltas = [delta async for delta in parrot.stream(request)]
    assert deltas == [ContentDelta("say "), ContentDelta("it "), CompletionFinished("stop")]


@pytest.mark.django_db
def test_the_example_of_an_endpoint_answers(readme: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from conversations.models import Conversation

    module = example(readme, "WordCountView")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ROOT_URLCONF = module.__name__
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 0, "REQUIRE_LOGIN": False}
    conversation = Conversation.objects.create()
    conversation.messages.create(role="user", content="three words here")
    assert Client().get(f"/conversations/{conversation.session_id}/words").json() == {"words": 3}
    GENERATOR_STATS.reset()
    generator: Any = SchemaGenerator
    schema = generator(urlconf=module.__name__).get_schema(request=None, public=True)
    assert "/conversations/{session_id}/words" in schema["paths"]
    assert not [found for found in GENERATOR_STATS._warn_cache if "authenticator" not in found]
    assert not GENERATOR_STATS._error_cache

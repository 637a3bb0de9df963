"""What is compared: how each server is set up and started, and what a call to it looks like."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from .client import request
from .processes import ROOT, WORK, Server, run

CALLERS = 300
UVICORN = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"]
UVICORN += ["--no-access-log", "--log-level", "warning", "--backlog", "4096"]


@dataclass
class Side:
    """A server to measure. ``keys`` are its callers' keys, ``folder`` is where its files are."""

    name: str
    title: str
    command: list[str]
    environment: dict[str, str]
    path: str = "/chat"
    # What a door of OpenAI's form is asked for.
    model: str = "bench"
    keys: list[str] = field(default_factory=list, repr=False)
    # How many streams it may well hold: where the search begins.
    guess: int = 200
    # Whether it has sockets, and answers that can be resumed.
    resumes: bool = False

    def server(self, core: int) -> Server:
        return Server(self.name, self.command, self.environment, core=core)

    def headers(self, caller: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[caller % len(self.keys)]}"} if self.keys else {}

    def chat(self, caller: int, question: str) -> bytes:
        """Return the request that asks ``question`` for a stream, in a new conversation."""
        if self.path == "/chat":
            body: dict[str, object] = {"message": question}
        else:
            body = {"model": self.model, "stream": True, "messages": [{"role": "user", "content": question}]}
        return request("POST", self.path, self.headers(caller), body)


def direct() -> Side:
    """The scripted model itself, with nothing between: the load's own ceiling."""
    return Side("direct", "the load alone", [], {}, path="/v1/chat/completions", guess=2000)


def limit(upstream: str) -> Side:
    return Side(
        "limit",
        "the limit",
        [_python("limit"), *UVICORN, "benchmarks.servers.limit:app"],
        {"UPSTREAM": upstream},
        guess=1000,
    )


def reference(upstream: str) -> Side:
    folder = empty_folder("reference-data")
    environment = {"UPSTREAM": upstream, "DATABASE": f"sqlite:///{folder}/db.sqlite3"}
    keys = [secrets.token_urlsafe(32) for _ in range(CALLERS)]
    run([_python("reference"), "-m", "benchmarks.servers.reference"], environment, given="\n".join(keys))
    command = [_python("reference"), *UVICORN, "benchmarks.servers.reference:app"]
    return Side("reference", "reference", command, environment, keys=keys, guess=100)


def litellm(upstream: str) -> Side:
    program = str(WORK / "litellm" / "bin" / "litellm")
    config = str(ROOT / "benchmarks" / "servers" / "litellm.yaml")
    command = [program, "--config", config, "--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"]
    environment = {
        "UPSTREAM_BASE": upstream.removesuffix("/chat/completions"),
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        # It reports to nobody, and takes its price list from its package.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "DO_NOT_TRACK": "1",
    }
    return Side("litellm", "LiteLLM", command, environment, path="/v1/chat/completions", keys=["sk-bench"], guess=50)


def project(upstream: str, name: str, title: str, database: str) -> Side:
    """This project as `make run` starts it, where users log in, on a database that is empty or seeded."""
    environment = {
        "DATABASE_URL": database,
        "REDIS_URL": "",
        "LLM_API_URL": upstream,
        "LLM_MODEL": "bench",
        "LLM_API_KEY": "sk-upstream",
        "DEFAULT_MODEL_TYPE": "default",
        "HOST": "127.0.0.1",
        "TITLES": "first_words",
        "REQUIRE_LOGIN": "true",
        # Limits and a budget are on, and nobody comes near them.
        "RATE_LIMIT": "100000000/minute",
        "TOKENS_PER_DAY": "1000000000000",
        "MAX_ANSWERS_PER_CALLER": "1000",
        "MAX_ANSWERS_PER_PROCESS": "100000",
    }
    run([sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"], environment)
    keys = run([sys.executable, "-m", "benchmarks.accounts", str(CALLERS)], environment).split()
    return Side(name, title, [sys.executable, "-m", "chatproject"], environment, keys=keys, guess=300, resumes=True)


def on_sqlite(upstream: str) -> Side:
    folder = empty_folder("sqlite-data")
    return project(upstream, "sqlite", "this project, SQLite", f"sqlite:///{folder}/db.sqlite3")


def relay(upstream: str) -> Side:
    """The project on SQLite, asked for what it passes on and does not store."""
    folder = empty_folder("relay-data")
    side = project(upstream, "relay", "its /v1, SQLite", f"sqlite:///{folder}/db.sqlite3")
    return replace(side, path="/v1/chat/completions", model="default", resumes=False)


@contextmanager
def on_postgres(upstream: str, url: str) -> Iterator[Side]:
    """Yield the project on a database of its own in the server at ``url``; it is dropped afterwards."""
    name = f"chatproject_bench_{secrets.token_hex(4)}"
    database = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    _execute(url, f"CREATE DATABASE {name}")
    try:
        yield project(upstream, "postgres", "this project, PostgreSQL", database)
    finally:
        _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def postgres_answers(url: str) -> bool:
    import psycopg

    try:
        _execute(url, "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _execute(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement.encode())


def seeded(upstream: str, conversations: int, messages: int) -> Side:
    """The project on SQLite with so many messages of its first caller. Made once; kept for later runs."""
    folder = WORK / f"seeded-{messages}"
    database = folder / "db.sqlite3"
    side = None
    if not (folder / "complete").exists():
        side = project(upstream, "seeded", "", f"sqlite:///{empty_folder(folder.name)}/db.sqlite3")
        counts = ["--conversations", str(conversations), "--messages", str(messages)]
        run([sys.executable, "manage.py", "seed_demo", "--user", "bench-0", *counts], side.environment)
        (folder / "complete").touch()
    return side or project(upstream, "seeded", "", f"sqlite:///{database}")


def empty_folder(name: str) -> Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _python(name: str) -> str:
    return str(WORK / name / "bin" / "python")

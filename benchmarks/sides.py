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

from .client import Connection, Stream, request
from .processes import ROOT, WORK, Server, run
from .sockets import Socket, SocketStream, call

CALLERS = 300
# What the two accounts have that are there beside the callers: as many conversations as pruning leaves, and one long.
MANY = 500
LONG = 1000
UVICORN = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"]
UVICORN += ["--no-access-log", "--log-level", "warning", "--backlog", "4096"]


@dataclass
class Side:
    """A server to measure, and how it is asked. ``keys`` are its callers' keys."""

    name: str
    title: str
    command: list[str]
    environment: dict[str, str]
    path: str = "/chat"
    # What a door of OpenAI's form is asked for.
    model: str = "bench"
    keys: list[str] = field(default_factory=list, repr=False)
    # How many streams it may well hold: where the search begins, and no more are paced.
    guess: int = 200
    # The side whose server answers, where it is not this side's own.
    at: str = ""
    # Whether it is this project, with a server of one process: it has sockets, and answers that can be resumed.
    is_whole: bool = False
    # Of this project: the keys of the accounts with many conversations and with the long one.
    many: str = field(default="", repr=False)
    long: str = field(default="", repr=False)
    # The conversation that is gone on with, instead of a new one for each question.
    session: str = ""
    # Where its program is.
    folder: Path = ROOT

    def server(self, core: int) -> Server:
        return Server(self.name, self.command, self.environment, core=core, folder=self.folder)

    def headers(self, caller: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[caller % len(self.keys)]}"} if self.keys else {}

    def connection(self, port: int, caller: int) -> Connection:
        """Return a connection for ``caller``, which is opened with the first question."""
        return Connection(port)

    def stream(self, delays: list[int] | None = None) -> Stream:
        return Stream(delays)

    def chat(self, caller: int, question: str) -> bytes:
        """Return the request that asks ``question`` for a stream."""
        if self.path == "/chat":
            body: dict[str, object] = {"message": question, **({"session_id": self.session} if self.session else {})}
        else:
            body = {"model": self.model, "stream": True, "messages": [{"role": "user", "content": question}]}
        return request("POST", self.path, self.headers(caller), body)

    def alone(self, key: str, session: str = "") -> Side:
        """Return the same side with one caller."""
        return replace(self, keys=[key], session=session)


class SocketSide(Side):
    """A side that is asked over WebSockets."""

    def connection(self, port: int, caller: int) -> Connection:
        return Socket(port, self.headers(caller))

    def stream(self, delays: list[int] | None = None) -> Stream:
        return SocketStream(delays)

    def chat(self, caller: int, question: str) -> bytes:
        return call({"message": question})


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


def project(
    upstream: str, name: str, title: str, database: str, *, callers: int = CALLERS, folder: Path = ROOT
) -> Side:
    """This project as `make run` starts it, where users log in; no account has conversations.

    ``folder`` is a checkout of it that has what `make run` installs.
    """
    python = sys.executable if folder == ROOT else str(folder / ".venv" / "bin" / "python")
    environment = {
        "DATABASE_URL": database,
        "REDIS_URL": "",
        "LLM_API_URL": upstream,
        "LLM_MODEL": "bench",
        "LLM_API_KEY": "sk-upstream",
        # The long conversation goes to the model as a whole.
        "LLM_CONTEXT_WINDOW": "1000000",
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
    run([python, "manage.py", "migrate", "--no-input", "--verbosity", "0"], environment, folder=folder)
    keys = run([python, "-m", "benchmarks.accounts", str(callers)], environment, folder=folder).split()
    return Side(name, title, [python, "-m", "chatproject"], environment, keys=keys, guess=300, folder=folder)


def lived_in(upstream: str, name: str, title: str, database: str, folder: Path = ROOT) -> Side:
    """This project with the callers' accounts, and two more that have conversations."""
    side = project(upstream, name, title, database, callers=CALLERS + 2, folder=folder)
    *keys, many, long = side.keys
    seed(side, CALLERS, MANY, 2 * MANY)
    seed(side, CALLERS + 1, 1, LONG)
    return replace(side, keys=keys, many=many, long=long, is_whole=True)


def seed(side: Side, account: int, conversations: int, messages: int) -> None:
    counts = ["--conversations", str(conversations), "--messages", str(messages)]
    command = [side.command[0], "manage.py", "seed_demo", "--user", f"bench-{account}", *counts]
    run(command, side.environment, folder=side.folder)


def on_sqlite(upstream: str) -> Side:
    return lived_in(upstream, "sqlite", "this project, SQLite", f"sqlite:///{empty_folder('sqlite-data')}/db.sqlite3")


def before(upstream: str, folder: Path) -> Side:
    """Another checkout of this project, on SQLite."""
    database = f"sqlite:///{empty_folder('before-data')}/db.sqlite3"
    return lived_in(upstream, "before", "before, SQLite", database, folder)


def relay(stored: Side) -> Side:
    """The same server, asked for what it passes on and does not store."""
    path = "/v1/chat/completions"
    return replace(stored, name="relay", title="its /v1", path=path, model="default", at=stored.name, is_whole=False)


def socket(stored: Side) -> Side:
    """The same server, asked over WebSockets."""
    return SocketSide(**vars(replace(stored, name="socket", title="its socket", at=stored.name, is_whole=False)))


def workers(stored: Side) -> Side:
    """The same database behind two processes, which share the core."""
    environment = {**stored.environment, "WORKERS": "2"}
    return replace(stored, name="workers", title="two workers, PostgreSQL", environment=environment, is_whole=False)


@contextmanager
def on_postgres(upstream: str, url: str) -> Iterator[Side]:
    """Yield the project on a database of its own in the server at ``url``; it is dropped afterwards."""
    name = f"chatproject_bench_{secrets.token_hex(4)}"
    database = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    _execute(url, f"CREATE DATABASE {name}")
    try:
        yield lived_in(upstream, "postgres", "this project, PostgreSQL", database)
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
        seed(side, 0, conversations, messages)
        (folder / "complete").touch()
    return side or project(upstream, "seeded", "", f"sqlite:///{database}")


def empty_folder(name: str) -> Path:
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _python(name: str) -> str:
    return str(WORK / name / "bin" / "python")

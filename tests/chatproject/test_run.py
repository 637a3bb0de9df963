"""`python -m chatproject`: what it says, how it ends, what its pages ask for."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from django.db import connection

from chatproject.__main__ import without_password
from chatproject.greeting import base_url
from tests.ports import free_port

from .processes import run, serving, started

pytestmark = pytest.mark.server


def test_a_taken_port_is_told_in_one_line(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("-m", "chatproject", PORT=str(port), DATABASE_URL=database_url)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"chatproject: 127.0.0.1:{port} is taken by another program; "
        f"choose another port: `make run PORT={port + 1}`.\n"
    )
    assert ended.stdout == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "no..host"])
def test_an_address_that_is_not_here_is_told_in_one_line(host: str) -> None:
    ended = run("-m", "chatproject", HOST=host, PORT="8000")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on {host}:8000" in line
    assert "HOST and PORT" in line


def test_help_tells_of_arguments_and_exit_codes_whatever_the_settings_are() -> None:
    ended = run("-m", "chatproject", "--help", PORT="wrong")
    assert ended.returncode == 0
    for part in ("--host", "--port", "--migrate", "Exit codes"):
        assert part in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--prot", "9000"], "unrecognized arguments: --prot 9000"),
        (["--threads", "2"], "unrecognized arguments"),
        (["9000"], "unrecognized arguments: 9000"),
        (["--por", "9000"], "unrecognized arguments"),
        (["--port"], "expected one argument"),
        (["--port", ""], "--port"),
        (["--port", "http"], "PORT='http' is not a whole number from 1 to 65535."),
        (["--port=0"], "PORT='0' is not"),
    ],
)
def test_arguments_that_are_wrong_are_told_in_one_line(arguments: list[str], part: str) -> None:
    ended = run("-m", "chatproject", *arguments)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("chatproject: ")
    assert part in line


def test_host_and_port_are_taken_before_those_of_the_environment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("-m", "chatproject", "--host", "127.0.0.1", f"--port={port}", HOST="192.0.2.1", PORT="1")
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} is taken" in ended.stderr


@pytest.mark.parametrize("given", [{"LLM_API_URL": "http://127.0.0.1:9/v1"}, {"DRAIN_SECONDS": "x"}, {"PORT": "x"}])
def test_wrong_settings_are_told_before_a_migration(tmp_path: Path, given: dict[str, str]) -> None:
    url = f"sqlite:///{tmp_path}/db.sqlite3"
    ended = run("-m", "chatproject", "--migrate", **{"PORT": str(free_port()), "DATABASE_URL": url, **given})
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("chatproject: ")
    assert not (tmp_path / "db.sqlite3").exists()


def test_a_database_that_cannot_be_migrated_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_text("this is no database, but long enough to look like one" * 50)
    url = f"sqlite:///{tmp_path}/db.sqlite3"
    ended = run("-m", "chatproject", "--migrate", PORT=str(free_port()), DATABASE_URL=url)
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "DATABASE_URL" in line


@pytest.mark.parametrize("arguments", [(), ("--migrate",)])
def test_an_option_of_the_url_that_no_driver_takes_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = tmp_path / "odd.sqlite3"
    path.touch()
    ended = run("-m", "chatproject", *arguments, PORT=str(free_port()), DATABASE_URL=f"sqlite:///{path}?timeout=soon")
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "the database cannot be used" in line
    assert "DATABASE_URL" in line


def test_it_migrates_where_it_is_asked_to_and_names_a_default_model_that_is_none(tmp_path: Path) -> None:
    given = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "DEFAULT_MODEL_TYPE": "nope"}
    with serving(tmp_path / "log", ("-m", "chatproject", "--migrate"), **given) as (process, client):
        assert client.get("/api/health/ready").status_code == 200
        assert "DEFAULT_MODEL_TYPE='nope' is not offered" in process.output()
        assert process.end(signal.SIGTERM) == 0


def test_a_key_that_no_encryption_key_opens_is_told_at_the_start(tmp_path: Path) -> None:
    given = {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    assert run("manage.py", "migrate", **given).returncode == 0
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database, database:
        database.execute("UPDATE llmproviders_preset SET api_key = 'no token', is_enabled = 1 WHERE type = 'glm4'")
    with serving(tmp_path / "log", ("-m", "chatproject"), **given) as (process, _client):
        assert "preset glm4 is left out" in process.output()
        assert process.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("password", "told"),
    [("e", "password of kim: e"), ("abc", "password of kim: abc"), ("secret", "password of kim: ***")],
)
def test_a_password_is_blotted_out_and_no_word_with_it(password: str, told: str) -> None:
    """One of a letter or two stands in every message: what is left could not be read, and would tell the password."""
    with patch.dict(connection.settings_dict, {"PASSWORD": password}):
        assert without_password(Exception(f"password of kim: {password}")) == told


def test_a_missing_database_is_told_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    ended = run("-m", "chatproject", PORT=str(free_port()), DATABASE_URL=f"sqlite:///{path}")
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert f"{path} does not exist" in line
    assert "make migrate" in line
    assert not path.exists()


def test_a_database_that_is_not_migrated_is_told(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").touch()
    ended = run("-m", "chatproject", PORT=str(free_port()), DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "python manage.py migrate" in line


def test_a_database_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_text("this is no database, but long enough to look like one" * 50)
    ended = run("-m", "chatproject", PORT=str(free_port()), DATABASE_URL=f"sqlite:///{tmp_path}/db.sqlite3")
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "DATABASE_URL" in line


def test_a_database_out_of_reach_is_told_without_its_password() -> None:
    pytest.importorskip("psycopg")
    url = f"postgres://user:hunter2@127.0.0.1:{free_port()}/chat"
    ended = run("-m", "chatproject", PORT=str(free_port()), DATABASE_URL=url)
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "DATABASE_URL" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, database_url: str, number: int) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url) as (process, _client):
        assert process.end(number) == 0
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_cleanly(tmp_path: Path, database_url: str, number: int, workers: str) -> None:
    """It listens before it has loaded everything."""
    port = free_port()
    given = {"PORT": str(port), "DATABASE_URL": database_url, "WORKERS": workers}
    with started("-m", "chatproject", log=tmp_path / "log", **given) as process:
        while not is_taken(port):
            assert process.process.poll() is None, process.output()
            time.sleep(0.02)
        assert process.end(number) == 0
        assert "Traceback" not in process.output()


IN_A_CALLBACK = """
import signal, weakref
from chatproject import __main__ as program

def signalled():
    thing = set()
    reference = weakref.ref(thing, lambda _reference: signal.raise_signal(signal.SIGTERM))
    del thing
    print("went on", flush=True)

program.check_settings = signalled
program.main()
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_that_came_where_python_drops_what_is_raised_counts(
    tmp_path: Path, database_url: str, workers: str
) -> None:
    given = {"PORT": str(free_port()), "DATABASE_URL": database_url, "WORKERS": workers}
    with started("-c", IN_A_CALLBACK, log=tmp_path / "log", **given) as process:
        assert process.process.wait(30) == 0
        assert "went on" in process.output()
        assert "Traceback" not in process.output()


def is_taken(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def test_it_prints_where_things_are_and_a_line_to_try(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url) as (process, client):
        server = f"127.0.0.1:{client.base_url.port}"
        for url in (f"http://{server}/docs", f"http://{server}/admin/", f"ws://{server}/ws/chat", "curl -N"):
            assert url in process.output()


@pytest.mark.parametrize("login", ["false", "true"])
def test_it_says_who_gets_in_and_the_line_to_try_gets_in(tmp_path: Path, database_url: str, login: str) -> None:
    given = {"DATABASE_URL": database_url, "REQUIRE_LOGIN": login}
    with serving(tmp_path / "log", **given) as (process, client):
        said = process.output()
        for warning in ("open to whatever reaches its port, a proxy", "REQUIRE_LOGIN=true before one stands in front"):
            assert (warning in said) is (login == "false")
        assert ("`manage.py create_api_key USER --name NAME`" in said) is (login == "true")
        assert (f"{client.base_url.copy_with(path='/accounts')}." in said) is (login == "true")
        line = next(line for line in said.splitlines() if line.strip().startswith("curl"))
        if login == "true":
            made = run(
                "manage.py", "createsuperuser", "--no-input", "--username=kim", "--email=k@example.com", **given
            )
            assert made.returncode == 0, made.stderr
            key = run("manage.py", "create_api_key", "kim", "--name=n", **given).stdout.strip()
            line = line.replace("chatkey_…", key)
        _curl, _n, url, *rest = shlex.split(line)
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        headers = dict(value.split(": ", 1) for name, value in zip(rest[::2], rest[1::2], strict=True) if name == "-H")
        with client.stream("POST", url, headers=headers, content=options["-d"]) as answer:
            assert answer.status_code == 200


@pytest.mark.parametrize(
    ("hosts", "redirect", "expected"),
    [
        (["localhost", "127.0.0.1"], False, "http://127.0.0.1:8000"),
        (["*"], False, "http://127.0.0.1:8000"),
        (["chat.example.com"], True, "https://chat.example.com"),
        (["localhost", ".example.com"], True, "https://example.com"),
        (["chat.lan", "127.0.0.1"], False, "http://127.0.0.1:8000"),
        ([".chat.lan"], False, "http://chat.lan:8000"),
        (["[2001:db8::7]"], False, "http://[2001:db8::7]:8000"),
    ],
)
def test_the_greeting_names_the_server_as_it_answers(
    settings: Any, hosts: list[str], redirect: bool, expected: str
) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = hosts, redirect
    assert base_url("0.0.0.0", 8000) == expected


def test_one_json_line_a_request(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url, LOG_FORMAT="json") as (process, client):
        client.get("/conversations", headers={"X-Request-Id": "mine"})
        client.get("/nothing?key=secret", headers={"X-Request-Id": "mine"})
        process.end(signal.SIGTERM)
        entries = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
        mine = [entry for entry in entries if entry["request_id"] == "mine"]
        assert [(entry["path"], entry["status"]) for entry in mine] == [("/conversations", 200), ("/nothing", 404)]
        assert "secret" not in process.output()


# Pages ------------------------------------------------------------------------------------------------------


def test_the_server_keeps_its_name_to_itself(project: httpx.Client) -> None:
    assert "server" not in project.get("/api/health").headers


@pytest.mark.parametrize("path", ["/", "/docs", "/admin/login/", "/static/nothing"])
def test_a_page_needs_no_other_host_and_nothing_inline(project: httpx.Client, path: str) -> None:
    page = project.get(path).text
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*?\b(?:src|href)=\"([^\"]*)\"", page)
    assert loaded
    for url in loaded:
        assert url.startswith("data:") or (url.startswith("/") and not url.startswith("//")), url
        if url.startswith("/"):
            assert project.get(url.replace("&amp;", "&")).status_code == 200, url
    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", page)
    assert not re.search(r"\son[a-z]+=", page)


def test_the_documentation_asks_nobody_whether_the_schema_is_valid(project: httpx.Client) -> None:
    script = re.search(r'<script src="(/docs[^"]*)"', project.get("/docs").text)
    assert script
    code = project.get(script.group(1)).text
    assert '"validatorUrl": null' in code
    assert not re.search(r"https?://", code)


def test_the_schema_is_openapi_in_yaml_or_json(project: httpx.Client) -> None:
    assert project.get("/schema").text.startswith("openapi: 3.")
    answer = project.get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    paths = answer.json()["paths"]
    assert "/chat" in paths
    assert not [path for path in paths if path != "/" and path.endswith("/")]


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json", "application/yaml"])
def test_the_schema_is_where_the_old_service_had_it(project: httpx.Client, accept: str) -> None:
    answer = project.get("/openapi.json", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    as_ever = project.get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"}).json()
    assert document == as_ever
    assert not {"/openapi.json", "/redoc"} & document["paths"].keys()


def test_redoc_leads_to_the_documentation(project: httpx.Client) -> None:
    answer = project.get("/redoc")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs")
    assert project.get("/redoc", follow_redirects=True).status_code == 200


def test_the_chat_page_leads_to_the_other_pages(project: httpx.Client) -> None:
    page = project.get("/").text
    for link in ("/docs", "/schema", "/admin/", "/api/health"):
        assert f'href="{link}"' in page


def test_the_admin_is_found_without_its_slash(project: httpx.Client) -> None:
    assert project.get("/admin").headers["Location"] == "/admin/"

"""`python -m chatproject`: what it says, how it ends, what its pages ask for."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

from .processes import run, serving

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


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_here_is_told_in_one_line(host: str) -> None:
    ended = run("-m", "chatproject", HOST=host, PORT="8000")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"cannot listen on {host}:8000" in line
    assert "HOST and PORT" in line


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


def test_it_prints_where_things_are_and_a_line_to_try(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url) as (process, client):
        server = f"127.0.0.1:{client.base_url.port}"
        for url in (f"http://{server}/docs", f"http://{server}/admin/", f"ws://{server}/ws/chat", "curl -N"):
            assert url in process.output()


def test_one_json_line_a_request(tmp_path: Path, database_url: str) -> None:
    with serving(tmp_path / "log", DATABASE_URL=database_url, LOG_FORMAT="json") as (process, client):
        client.get("/api/health", headers={"X-Request-Id": "mine"})
        client.get("/nothing?key=secret", headers={"X-Request-Id": "mine"})
        process.end(signal.SIGTERM)
        entries = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
        mine = [entry for entry in entries if entry["request_id"] == "mine"]
        assert [(entry["path"], entry["status"]) for entry in mine] == [("/api/health", 200), ("/nothing", 404)]
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


def test_the_welcome_page_shows_a_line_to_copy(project: httpx.Client) -> None:
    page = project.get("/").text
    assert f"curl -N {project.base_url.copy_with(path='/chat')}" in page
    for link in ("/docs", "/schema", "/admin/", "/api/health"):
        assert f'href="{link}"' in page


def test_the_admin_is_found_without_its_slash(project: httpx.Client) -> None:
    assert project.get("/admin").headers["Location"] == "/admin/"

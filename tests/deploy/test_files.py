"""What lies in deploy/ is taken by the programs that it is for, and says what the project says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatproject import settings
from tests.chatproject.processes import variables
from tests.tools import program

from .dockerfile import context_files, instructions
from .files import DEPLOY

ROOT = DEPLOY.parent
UNIT = (DEPLOY / "chatproject@.service").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
# How long a process may take to end: it listens on, then comes the grace period, then the readers' last events.
END_SECONDS = settings.CONVERSATIONS["DRAIN_LISTEN_SECONDS"] + settings.CONVERSATIONS["DRAIN_SECONDS"] + 10


def checked(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def web(name: str) -> dict[str, Any]:
    service: dict[str, Any] = COMPOSE["services"][name]
    return service


def test_nginx_takes_its_files(tmp_path: Path) -> None:
    included = "".join(f"include {DEPLOY}/nginx/{name};\n" for name in ("processes.conf", "chatproject.conf"))
    (tmp_path / "nginx.conf").write_text(f"events {{}}\npid {tmp_path}/pid;\nhttp {{\n{included}}}\n")
    checked(program("nginx", "/usr/sbin"), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))


def test_haproxy_takes_its_file() -> None:
    assert "WARNING" not in checked(program("haproxy", "/usr/sbin"), "-c", "-f", str(DEPLOY / "haproxy.cfg"))


def test_systemd_takes_the_unit_with_the_paths_of_this_machine(tmp_path: Path) -> None:
    unit = tmp_path / "chatproject@8001.service"
    # systemd-analyze asks for programs that exist.
    unit.write_text(UNIT.replace("/srv/chatproject/.venv/bin/python", program("python3")))
    assert checked(program("systemd-analyze"), "verify", "--man=no", str(unit)).strip() == ""


def test_the_unit_starts_what_make_run_starts_and_waits_for_the_drain() -> None:
    [command] = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    assert command.endswith("/.venv/bin/python -m chatproject")
    assert command.split()[-1] in (ROOT / "Makefile").read_text()
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) >= END_SECONDS


def test_compose_gives_the_processes_variables_that_exist_and_none_in_clear() -> None:
    environment = web("web1")["environment"]
    assert environment == web("web2")["environment"] == web("migrate")["environment"]
    assert environment.keys() <= variables()
    assert environment["REQUIRE_LOGIN"] == "true"
    for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS"):
        assert environment[name].startswith(f"${{{name}:?")
    assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]


def test_compose_waits_for_the_drain_and_shows_only_nginx() -> None:
    grace = int(web("web1")["stop_grace_period"].removesuffix("s"))
    assert grace >= END_SECONDS
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["nginx"]


def test_composes_nginx_has_the_addresses_of_its_containers() -> None:
    addresses = {name: web(name)["networks"]["inner"]["ipv4_address"] for name in ("web1", "web2", "nginx")}
    upstream = (DEPLOY / "nginx" / "containers.conf").read_text()
    assert set(re.findall(r"server ([\d.]+):8000 ", upstream)) == {addresses["web1"], addresses["web2"]}
    assert web("web1")["environment"]["TRUSTED_PROXIES"] == addresses["nginx"]
    for volume in web("nginx")["volumes"]:
        source = volume.partition(":")[0]
        assert (DEPLOY / source).is_file()


def test_both_upstreams_of_nginx_are_alike_but_for_the_addresses() -> None:
    bodies = []
    for name in ("processes.conf", "containers.conf"):
        text = (DEPLOY / "nginx" / name).read_text()
        bodies.append(re.sub(r"server [\d.:]+", "server", text.partition("\n")[2]))
    assert bodies[0] == bodies[1]


def test_the_image_has_what_the_project_imports_and_no_secret() -> None:
    steps = instructions((DEPLOY / "Dockerfile").read_text())
    copied = {word.rstrip("/") for name, rest in steps if name == "COPY" for word in rest.split()[:-1]}
    assert {"manage.py", "chatproject", "conversations", "llmproviders", "templates"} <= copied
    sent = context_files()
    assert "manage.py" in sent
    unwanted = (".", "tests/", "docs/", "var/")
    assert not [path for path in sent if path.startswith(unwanted) or path.endswith(".sqlite3")]


def test_the_image_runs_as_nobody_and_ends_by_the_signal_that_drains() -> None:
    steps = list(instructions((DEPLOY / "Dockerfile").read_text()))
    assert ("STOPSIGNAL", "SIGTERM") in steps
    assert json.loads(dict(steps)["CMD"]) == [".venv/bin/python", "-m", "chatproject"]
    [user] = [rest for name, rest in steps if name == "USER"]
    assert int(user) > 0
    assert all("chown" not in rest or f"chown {user} " in rest for _name, rest in steps)


@pytest.mark.parametrize("name", ["nginx/chatproject.conf", "haproxy.cfg", "Caddyfile", "compose.yaml", "Dockerfile"])
def test_every_file_is_named_in_the_deployment_page(name: str) -> None:
    assert name.rpartition("/")[2] in (ROOT / "docs" / "deployment.md").read_text()

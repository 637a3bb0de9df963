"""Which process lives, where that can be seen; in doubt nothing is said, and the counter decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations.engine import local_processes, workers
from conversations.engine.workers import Heartbeat
from conversations.models import Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows this")

Process = subprocess.Popen[bytes]


@pytest.fixture
def process() -> Iterator[Process]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.kill()


def zombie(process: Process) -> None:
    """It ends, and nobody asks how."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_a_running_process_lives(process: Process) -> None:
    assert local_processes.SPACE
    assert local_processes.lives(local_processes.SPACE, process.pid, local_processes.start_of(process.pid)) is True


def test_one_that_stands_still_lives(process: Process) -> None:
    start = local_processes.start_of(process.pid)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert local_processes.lives(local_processes.SPACE, process.pid, start) is True


def test_one_that_ended_does_not(process: Process) -> None:
    start = local_processes.start_of(process.pid)
    zombie(process)
    assert local_processes.lives(local_processes.SPACE, process.pid, start) is False, "as a zombie"
    process.wait()
    assert local_processes.lives(local_processes.SPACE, process.pid, start) is False


def test_another_that_has_its_id_now_is_not_it(process: Process) -> None:
    assert (
        local_processes.lives(local_processes.SPACE, process.pid, local_processes.start_of(process.pid) - 1) is False
    )


@pytest.mark.parametrize("known", ["host", "start"])
def test_in_doubt_nothing_is_said(known: str, process: Process) -> None:
    """Of another machine, or of one whose start nobody wrote down."""
    start = local_processes.start_of(process.pid)
    host, start = (local_processes.SPACE, 0) if known == "host" else (f"{local_processes.SPACE[:-1]}?", start)
    assert local_processes.lives(host, process.pid, start) is None


def test_a_name_with_spaces_and_brackets_hides_nothing(tmp_path: Path) -> None:
    program = tmp_path / "a ) b ( Z 1"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as running:
        start = local_processes.start_of(running.pid)
        assert start >= local_processes.start_of(os.getpid())
        assert local_processes.lives(local_processes.SPACE, running.pid, start) is True
        running.kill()


def test_another_boot_is_another_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two machines of one image: all else is the same there."""
    assert local_processes._host() == local_processes.SPACE
    other = tmp_path / "boot_id"
    other.write_text("00000000-0000-0000-0000-000000000000\n")
    monkeypatch.setattr(local_processes, "BOOT_ID", other)
    assert local_processes._host() != local_processes.SPACE


@pytest.mark.parametrize(
    ("path", "target", "is_known"), [("/proc/self/ns/pid", "pid:[1]", True), ("/proc/self", "1", False)]
)
def test_a_container_is_another_host(path: str, target: str, is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One has ids of its own; where /proc shows ids of another space, none says anything."""
    original = os.readlink
    monkeypatch.setattr(os, "readlink", lambda link, **rest: target if link == path else original(link, **rest))
    assert local_processes._host() != local_processes.SPACE
    assert bool(local_processes._host()) == is_known


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["another start", "another boot"])
def test_who_is_given_up_at_once(where: str, process: Process) -> None:
    """The process id alone ends nobody's answers, and saves nobody's."""
    values: dict[str, Any] = {
        "host": local_processes.SPACE,
        "process_start": local_processes.start_of(process.pid) - 1,
    }
    if where == "another boot":
        values = {"host": f"{local_processes.SPACE}-other", "process_start": local_processes.start_of(process.pid)}
        zombie(process)
    worker = Worker.objects.create(pid=process.pid, **values)
    dead = workers.beat(Heartbeat())
    assert dead == ([worker.pk] if where == "another start" else [])

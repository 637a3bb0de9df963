"""`manage.py recover_generations`: by hand what every server process does by itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from conversations.engine import local_processes
from conversations.management.commands import recover_generations
from conversations.models import Generation, Worker

from .log_rows import chunk, running

pytestmark = pytest.mark.django_db


class Clock:
    """Sleeps in no time: each sleep is one beat of the workers that live."""

    def __init__(self) -> None:
        self.living: list[Worker] = []
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        for worker in self.living:
            worker.counter += 1
            worker.save(update_fields=["counter"])


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recover_generations, "time", SimpleNamespace(sleep=clock.sleep))
    return clock


def left_by(worker: Worker) -> Generation:
    generation = running(worker=worker)
    for position, kind, text in ((3, "reasoning", "hm "), (7, "content", "half"), (10, "content", " an")):
        chunk(generation, position, text, kind)
    return generation


def recover(*options: str) -> str:
    out = io.StringIO()
    call_command("recover_generations", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def assert_ended_with_its_text(generation: Generation) -> None:
    generation = Generation.objects.select_related("message").get(pk=generation.pk)
    assert (generation.status, generation.active_for_id) == ("interrupted", None)
    assert (generation.message.reasoning, generation.message.content) == ("hm ", "half an")
    assert not generation.chunks.exists()


def test_without_running_answers_it_waits_for_nothing(clock: Clock) -> None:
    assert recover() == "0 running"
    assert clock.slept == 0


def test_the_answers_of_a_dead_worker_end_with_their_text_and_those_of_a_living_one_go_on(clock: Clock) -> None:
    dead, living = (Worker.objects.create(host="elsewhere", pid=1, counter=7) for _worker in range(2))
    clock.living.append(living)
    abandoned, alive = left_by(dead), left_by(living)
    assert recover() == "1 ended, 1 running"
    assert_ended_with_its_text(abandoned)
    alive.refresh_from_db()
    assert alive.is_running
    assert alive.chunks.count() == 3
    assert list(Worker.objects.all()) == [living], "the command leaves no worker of its own behind"


def test_a_process_of_this_host_that_is_gone_is_not_waited_for(clock: Clock, settings: Any) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    generation = left_by(Worker.objects.create(host=local_processes.HOST, pid=gone.pid))
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "BEATS_TO_GIVE_UP": 0}
    assert recover() == "1 ended, 0 running"
    assert_ended_with_its_text(generation)
    assert clock.slept == 0


def test_an_answer_without_a_worker_is_ended() -> None:
    generation = left_by(worker := Worker.objects.create(host="elsewhere", pid=1))
    worker.delete()
    assert recover() == "1 ended, 0 running"
    assert_ended_with_its_text(generation)


def test_all_ends_every_answer_without_looking(clock: Clock) -> None:
    generation = left_by(Worker.objects.create(host=local_processes.HOST, pid=os.getpid()))
    assert recover("--all") == "1 ended, 0 running"
    assert_ended_with_its_text(generation)
    assert clock.slept == 0


def test_a_dry_run_only_counts(clock: Clock) -> None:
    generation = left_by(Worker.objects.create(host="elsewhere", pid=1))
    assert recover("--dry-run", "--all") == "1 running"
    generation.refresh_from_db()
    assert generation.is_running
    assert clock.slept == 0


def test_to_run_it_again_changes_nothing() -> None:
    generation = left_by(Worker.objects.create(host="elsewhere", pid=1))
    assert recover() == "1 ended, 0 running"
    generation.refresh_from_db()
    ended_at = generation.ended_at
    assert recover("--all") == "0 running"
    generation.refresh_from_db()
    assert generation.ended_at == ended_at

"""What the other tests rest on: each finds the database as it was migrated, and some run alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection

from llmproviders.models import Preset
from tests import turns

# The database -------------------------------------------------------------------------------------------------


def rows() -> dict[str, list[int]]:
    """The keys of all rows, by table."""
    models = apps.get_models(include_auto_created=True)
    return {model._meta.db_table: sorted(model._base_manager.values_list("pk", flat=True)) for model in models}


@pytest.mark.django_db(transaction=True)
def test_an_emptied_database_is_as_it_was_migrated() -> None:
    before = rows()
    Group.objects.create(name="of this test").permissions.set(Permission.objects.all()[:3])
    Preset.objects.filter(type="glm4").delete()
    call_command("flush", interactive=False, verbosity=0)
    assert rows() == before
    assert Preset.objects.get(type="glm4").api_key == "glm432b"
    Preset.objects.create(type="new", name="New")  # the sequence of the keys goes on after those put back


@pytest.mark.django_db
def test_each_worker_has_a_database_of_its_own() -> None:
    name = str(connection.settings_dict["NAME"])
    assert name.endswith(os.environ.get("PYTEST_XDIST_WORKER", ""))
    assert str(os.getpid()) in name


# Turns --------------------------------------------------------------------------------------------------------


class Visitor:
    """A thread that takes a turn and stays until it is told to leave."""

    def __init__(self, threads: ThreadPoolExecutor, *, alone: bool = False) -> None:
        self.is_in, self._leave = threading.Event(), threading.Event()
        self._visit = threads.submit(self._stay, alone)

    def _stay(self, alone: bool) -> None:
        with turns.turn(alone=alone):
            self.is_in.set()
            assert self._leave.wait(10)

    def leave(self) -> None:
        self._leave.set()
        self._visit.result(10)


@pytest.fixture
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """Threads for visitors. Their locks are not those of the run, which this test itself may hold."""
    for name in ("DOOR", "ROOM"):
        (tmp_path / name).touch()
        monkeypatch.setattr(turns, name, tmp_path / name)
    with ThreadPoolExecutor() as pool:
        yield pool


def test_tests_run_beside_one_another(threads: ThreadPoolExecutor) -> None:
    one, other = Visitor(threads), Visitor(threads)
    assert one.is_in.wait(10)
    assert other.is_in.wait(10)
    one.leave()
    other.leave()


def test_nobody_is_beside_who_wants_to_be_alone_nor_goes_before(threads: ThreadPoolExecutor) -> None:
    first = Visitor(threads)
    assert first.is_in.wait(10)
    alone = Visitor(threads, alone=True)
    assert not alone.is_in.wait(0.1)
    later = Visitor(threads)
    assert not later.is_in.wait(0.1)
    first.leave()
    assert alone.is_in.wait(10)
    assert not later.is_in.wait(0.1)
    alone.leave()
    assert later.is_in.wait(10)
    later.leave()

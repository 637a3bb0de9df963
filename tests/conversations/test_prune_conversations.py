"""``manage.py prune_conversations``: the count on standard output, who lost how many on standard error."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from conversations.models import Conversation

pytestmark = pytest.mark.django_db


def prune(*arguments: str) -> tuple[str, str]:
    """What the command writes: standard output, standard error."""
    out, err = StringIO(), StringIO()
    call_command("prune_conversations", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _conversations() -> None:
    """Five of kim, three of alex, one of nobody; one of each is old."""
    for owner, count in (("kim", 5), ("alex", 3), ("", 1)):
        for number in range(count):
            days = 100 if number == 0 else 1
            Conversation.objects.create(user_identifier=owner, updated_at=timezone.now() - timedelta(days=days))


def count(owner: str) -> int:
    return Conversation.objects.filter(user_identifier=owner).count()


def test_each_owner_keeps_so_many() -> None:
    out, err = prune("--keep", "2")
    assert out == "4\n"
    assert sorted(err.splitlines()) == ["alex: 1", "kim: 3"]
    assert (count("kim"), count("alex"), count("")) == (2, 2, 1)


def test_the_setting_says_how_many_where_nobody_does(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "KEEP_LATEST": 4}
    assert prune() == ("1\n", "kim: 1\n")


def test_old_ones_go_too() -> None:
    out, err = prune("--older-than", "30")
    assert out == "3\n"
    assert sorted(err.splitlines()) == ["(nobody): 1", "alex: 1", "kim: 1"]


@pytest.mark.parametrize(("user", "left"), [("kim", (0, 3, 1)), ("", (5, 3, 0)), ("nobody such", (5, 3, 1))])
def test_one_owner_alone(user: str, left: tuple[int, int, int]) -> None:
    prune("--keep", "0", "--user", user)
    assert (count("kim"), count("alex"), count("")) == left


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    out, err = prune("--keep", "1", "--dry-run")
    assert out == "6\n"
    assert "nothing was deleted" in err
    assert Conversation.objects.count() == 9
    assert prune("--keep", "1")[0] == out


def test_days_before_all_time_are_no_error() -> None:
    assert prune("--older-than", "1000000") == ("0\n", "")


@pytest.mark.parametrize("arguments", [["--keep", "-1"], ["--keep", "many"], ["--older-than", "1.5"]])
def test_bad_numbers_are_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="is not a whole number"):
        prune(*arguments)
    assert Conversation.objects.count() == 9

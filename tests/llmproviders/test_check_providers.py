"""``manage.py check_providers`` against the scripted upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer, status

pytestmark = pytest.mark.django_db
KEY = "sk-scripted-0123456789"


@pytest.fixture(autouse=True)
def only(upstream_thread: ScriptedUpstream, limits: Callable[..., None], no_retries: None) -> None:
    """One preset, at the scripted upstream."""
    limits(API_URL="", MODEL="", API_KEY="")
    Preset.objects.all().delete()
    Preset.objects.create(type="scripted", name="S", api_url=upstream_thread.url, model="tiny", api_key=KEY)


def run(*arguments: str) -> tuple[str, CommandError | None]:
    """Standard output, and the error that the command ended with."""
    out = StringIO()
    try:
        call_command("check_providers", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), error
    return out.getvalue(), None


def reports(output: str) -> list[dict[str, Any]]:
    document = json.loads(output)
    assert isinstance(document, list)
    return document


def test_a_model_that_answers_is_ok(upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.default = answer("Hello", "!")

    output, error = run()

    assert error is None
    head, row = output.splitlines()
    assert head.split() == ["type", "model", "host", "result", "first", "token", "ms", "total", "ms"]
    assert row.split()[:4] == ["scripted", "tiny", "127.0.0.1", "ok"]
    assert upstream_thread.completions[0].body["max_tokens"] <= 8


def test_json_has_an_object_for_each_model(upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.default = answer("Hello")

    [report] = reports(run("--json")[0])

    assert report.pop("total_ms") >= report.pop("first_token_ms") >= 0
    assert report == {
        "type": "scripted",
        "model": "tiny",
        "host": "127.0.0.1",
        "ok": True,
        "code": "",
        "reason": "",
    }


def test_a_failure_is_named_and_fails_the_command(upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.default = status(401, {"error": {"message": f"wrong key {KEY}"}})

    output, error = run()

    assert "scripted" in str(error)
    assert "upstream_authentication" in output
    assert "wrong key" in output
    assert KEY not in output


def test_one_failure_does_not_hide_the_others(upstream_thread: ScriptedUpstream) -> None:
    Preset.objects.create(type="dead", name="D", api_url="http://127.0.0.1:9/v1", model="m", order=1)

    output, error = run("--json")

    assert str(error) == "No answer from: dead."
    assert [(report["type"], report["ok"]) for report in reports(output)] == [("dead", False), ("scripted", True)]


def test_named_models_only(upstream_thread: ScriptedUpstream) -> None:
    Preset.objects.create(type="dead", name="D", api_url="http://127.0.0.1:9/v1", model="m")

    output, error = run("scripted", "--json")

    assert error is None
    assert [report["type"] for report in reports(output)] == ["scripted"]


def test_an_unknown_name_asks_nobody(upstream_thread: ScriptedUpstream) -> None:
    output, error = run("scripted", "nope")

    assert "nope" in str(error)
    assert output == ""
    assert upstream_thread.calls == 0


def test_nothing_to_ask_is_a_failure() -> None:
    Preset.objects.all().delete()

    assert "no enabled model" in str(run()[1])


def test_a_stalled_model_is_given_up_in_time(upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.default = answer("never", stall="headers")

    output, error = run("--timeout", "0.3", "--json")

    assert error is not None
    assert reports(output)[0]["code"] == "upstream_timeout"
    assert "0.3 s" in reports(output)[0]["reason"]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_timeout_is_a_positive_number(seconds: str) -> None:
    assert "--timeout" in str(run("--timeout", seconds)[1])

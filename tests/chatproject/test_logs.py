"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from chatproject.logs import JsonFormatter, TextFormatter, UnexpectedOnly, logging_config
from conversations.problems import request_id


@pytest.fixture
def in_request() -> Iterator[None]:
    token = request_id.set("abc.1")
    yield
    request_id.reset(token)


def record(
    message: str, *args: object, level: int = logging.INFO, error: bool = False, **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord(
        "conversations.test", level, __file__, 1, message, args, sys.exc_info() if error else None
    )
    vars(made).update(extra)
    return made


def failed(**extra: object) -> logging.LogRecord:
    try:
        raise ValueError("bad value")
    except ValueError:
        return record("it failed", level=logging.ERROR, error=True, **extra)


@pytest.mark.usefixtures("in_request")
def test_a_text_line_names_the_request() -> None:
    line = TextFormatter().format(record("generation %s ended", 7))
    assert line.endswith(" INFO conversations.test [abc.1] generation 7 ended")


def test_a_text_line_outside_of_requests() -> None:
    assert TextFormatter().format(record("hello")).endswith(" INFO conversations.test [-] hello")


def test_a_message_cannot_begin_a_line_of_its_own_or_steer_a_terminal() -> None:
    line = TextFormatter().format(record("path %s", "/a\r\n2026-01-01 ERROR forged\x1b[2J\u2028"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert "/a\\x0d\\x0a2026-01-01" in line


def test_a_traceback_follows_the_text_line() -> None:
    lines = TextFormatter().format(failed()).splitlines()
    assert lines[0].endswith("it failed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: bad value"


@pytest.mark.usefixtures("in_request")
def test_a_json_line_is_one_object_with_the_fields_given() -> None:
    line = JsonFormatter().format(record("你好\n%s", "x", fields={"status": 200, "ms": 1.5}))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "INFO",
        "logger": "conversations.test",
        "message": "你好\nx",
        "request_id": "abc.1",
        "status": 200,
        "ms": 1.5,
    }


def test_a_json_line_holds_the_traceback() -> None:
    line = JsonFormatter().format(failed())
    assert "\n" not in line
    assert json.loads(line)["exc_info"].endswith("ValueError: bad value")
    assert json.loads(line)["request_id"] is None


def test_a_record_may_bring_its_own_request_id() -> None:
    assert "[other]" in TextFormatter().format(record("x", request_id="other"))


def test_only_unexpected_errors_repeat_a_request() -> None:
    only = UnexpectedOnly()
    assert only.filter(failed())
    assert not only.filter(record("Bad Gateway: /chat", level=logging.ERROR))
    assert not only.filter(record("Not Found: /x", level=logging.WARNING))


@pytest.mark.parametrize(("level", "others"), [("DEBUG", "WARNING"), ("INFO", "WARNING"), ("ERROR", "ERROR")])
def test_other_libraries_speak_from_warning_on(level: str, others: str) -> None:
    """httpx logs whole URLs at INFO, keys included."""
    config = logging_config(format="json", level=level)
    assert config["root"]["level"] == others
    assert config["loggers"]["conversations"]["level"] == level
    assert config["handlers"]["console"]["formatter"] == "json"

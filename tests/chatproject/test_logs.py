"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator

import pytest

from chatproject.logs import JsonFormatter, TextFormatter, UnexpectedOnly, logging_config
from conversations.exceptions import request_id


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
    return raised("bad value", "it failed", **extra)


def raised(reason: str, message: str, *args: object, **extra: object) -> logging.LogRecord:
    try:
        raise ValueError(reason)
    except ValueError:
        return record(message, *args, level=logging.ERROR, error=True, **extra)


def test_formats_of_others_find_all_that_a_record_has(caplog: pytest.LogCaptureFixture) -> None:
    """Such as gunicorn's, ``%(process)d``: a record without it made every line a traceback."""
    logging_config(format="text", level="INFO")
    with caplog.at_level(logging.INFO, logger="conversations.test"):
        logging.getLogger("conversations.test").info("hello")
    everything = "%(process)d %(processName)s %(thread)d %(threadName)s %(filename)s:%(lineno)d %(funcName)s"
    line = logging.Formatter(everything).format(caplog.records[-1])
    assert line.startswith(f"{os.getpid()} MainProcess ")
    assert " MainThread test_logs.py:" in line
    assert line.endswith("test_formats_of_others_find_all_that_a_record_has")


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
    assert lines[1].strip() == "Traceback (most recent call last):"
    assert lines[-1].strip() == "ValueError: bad value"


# Every character that Python or a terminal takes for the end of a line, and some that steer a terminal or its order.
STEERING = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x200F, 0x202E, 0x2066, 0xDC80)]


@pytest.mark.parametrize("character", STEERING, ids=ascii)
def test_no_character_in_a_message_or_an_error_begins_a_line_or_steers(character: str) -> None:
    forged = f"bad{character}2026-01-01 00:00:00.000 INFO conversations.audit [-] forged"
    text = TextFormatter().format(raised(forged, "said %s", forged))
    head, *trace = text.splitlines()
    assert all(line.startswith("    ") for line in trace)
    assert all(character not in line for line in (head, *trace))
    line = JsonFormatter().format(raised(forged, "said %s", forged, fields={"path": forged}))
    assert character not in line
    assert len(line.splitlines()) == 1
    entry = json.loads(line)
    assert entry["message"] == f"said {forged}"
    assert entry["path"] == forged
    assert forged in entry["exc_info"]


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

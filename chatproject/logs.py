"""Log records on the console: one line each, as text or JSON, each with the id of the request it belongs to."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

# What ends a line somewhere, steers a terminal, or turns the order in which a line is read.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Such a line is of a traceback, and no record of its own.
INDENT = "    "


def logging_config(*, format: str, level: str) -> dict[str, Any]:
    """Return Django's ``LOGGING``; ``format`` is ``text`` or ``json``, ``level`` counts for the project's own loggers.

    Other libraries speak from WARNING on: httpx logs whole URLs, keys included, at INFO.
    """
    others = max(level, "WARNING", key=lambda name: logging.getLevelNamesMapping()[name])
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"text": {"()": TextFormatter}, "json": {"()": JsonFormatter}},
        "filters": {"unexpected": {"()": UnexpectedOnly}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": format}},
        "root": {"handlers": ["console"], "level": others},
        "loggers": {
            "chatproject": {"level": level},
            "conversations": {"level": level},
            "llmproviders": {"level": level},
            # Django's defaults write to the console themselves: every line would appear twice.
            "django": {"handlers": [], "level": others},
            "django.server": {"handlers": [], "level": others, "propagate": True},
            # A refused request has its access line already.
            "django.request": {"filters": ["unexpected"]},
            "django.channels.server": {"level": "ERROR"},
            # Failed logins are told once, by conversations.audit.
            "axes": {"level": "ERROR"},
        },
    }


class UnexpectedOnly(logging.Filter):
    """Lets errors with a traceback pass, not the lines that only repeat a 4xx or 5xx status."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR and bool(record.exc_info)


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.000 INFO chatproject.access [request id] GET /chat 200 12 ms``, then any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        time = f"{_second(int(record.created))}.{int(record.msecs):03d}"
        head = f"{time} {record.levelname} {record.name} [{_request_id(record) or '-'}]"
        trace = [INDENT + one_line(line) for part in _trace(self, record) for line in part.split("\n")]
        return "\n".join([f"{head} {one_line(record.getMessage())}", *trace])


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a record's ``fields`` (``extra={"fields": {...}}``) become keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": _request_id(record) or None,
            **getattr(record, "fields", {}),
        }
        if trace := _trace(self, record):
            entry["exc_info"] = "\n".join(trace)
        # `json` leaves all but the first of them as they are.
        line = json.dumps(entry, default=str, ensure_ascii=False)
        return CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


def one_line(message: str) -> str:
    """Escape control characters: what a client sends must not begin a line of its own, or steer a terminal."""
    return CONTROL_CHARACTERS.sub(_escaped, message)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@lru_cache(maxsize=8)
def _second(timestamp: int) -> str:
    """Return a second as this machine's clocks show it: a busy server writes many lines in each."""
    return datetime.fromtimestamp(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _request_id(record: logging.LogRecord) -> str:
    # Late: the settings import this module, and an app must not be imported before them.
    from conversations.exceptions import request_id

    return str(getattr(record, "request_id", None) or request_id.get())


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    trace = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return trace + ([formatter.formatStack(record.stack_info)] if record.stack_info else [])

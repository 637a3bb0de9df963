"""What is wrong with the environment is said without quoting it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproject import environment as env

CANARY = "nobody-may-see-this"


@pytest.mark.parametrize("line", ["LLM_API_KEY='{}", "LLM API KEY={}", "LLM_API_KEY: {}", "{}"])
def test_a_malformed_line_of_dotenv_ends_the_start_and_is_not_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(line.format(CANARY))
    with pytest.raises(ImproperlyConfigured, match=r"\.env, line 1: ") as refused:
        env.read_dotenv(tmp_path / ".env")
    assert CANARY not in "".join(traceback.format_exception(refused.value))


def test_a_dotenv_of_another_encoding_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LLM_API_KEY=" + CANARY.encode() + b"\xff\n")
    with pytest.raises(ImproperlyConfigured, match="not UTF-8") as refused:
        env.read_dotenv(tmp_path / ".env")
    assert CANARY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("url", [f"postgres://u:{CANARY}/x@host/db", f"postgres://u:1:{CANARY}@host:{CANARY}/db"])
def test_a_database_password_is_not_in_the_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured) as refused:
        env.database("DATABASE_URL", tmp_path, "sqlite:///x")
    assert CANARY not in "".join(traceback.format_exception(refused.value)).replace(repr(url), "")

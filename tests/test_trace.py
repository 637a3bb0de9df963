"""``make trace`` runs, and counts."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.test_imports import ROOT


@pytest.mark.server
def test_one_chat_is_counted() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "benchmarks.trace", "chat", "--files"]
    printed = subprocess.run(
        command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout
    row = re.search(r"^\| POST /chat, streamed \| (\d+) \| (\d+) \| (\d+) \|$", printed, re.MULTILINE)
    assert row
    files, functions, changes = map(int, row.groups())
    listed = re.findall(r"^ *(\d+) (\w+)/\S+\.py$", printed, re.MULTILINE)
    assert {package for _calls, package in listed} == {"chatproject", "conversations", "llmproviders"}
    assert (files, functions) == (len(listed), sum(int(calls) for calls, _package in listed))
    assert changes > files > 10

"""What the Makefile hands to the program, and which drivers it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .processes import ROOT

SHOW = """
show:
\t@printenv DATABASE_URL LLM_API_KEY; echo $(strip drivers: $(DRIVERS))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile, and one more that shows what it makes of the environment."""
    (tmp_path / "chatproject").mkdir()
    for name in ("Makefile", "chatproject/dotenv.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "show.mk").write_text(SHOW)
    return tmp_path


def show(folder: Path, *arguments: str, **given: str) -> list[str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = ["make", "--silent", "-f", "Makefile", "-f", "show.mk", "show", *arguments]
    return subprocess.check_output(command, cwd=folder, env={**clean, **given}, text=True).splitlines()


SECRETS = ["p$x", "p$$x$", "$(id)`id`", "${HOME}", "p#x%y", 'it\'s "p" \\n']


@pytest.mark.parametrize("secret", SECRETS)
def test_a_value_reaches_the_program_as_it_was_given(folder: Path, secret: str) -> None:
    url = f"postgres://u:{secret}@h/n"
    expected = [url, secret, "drivers: postgres"]
    assert show(folder, f"DATABASE_URL={url}", f"LLM_API_KEY={secret}") == expected
    assert show(folder, DATABASE_URL=url, LLM_API_KEY=secret) == expected


@pytest.mark.parametrize(
    "line", ["DATABASE_URL = {}", "  export DATABASE_URL={}", "\ufeffDATABASE_URL='{}' # ours", 'DATABASE_URL="{}"\r']
)
def test_the_driver_is_that_of_dotenv(folder: Path, line: str) -> None:
    (folder / ".env").write_text(line.format("mysql://u:$x@h/n") + "\nREDIS_URL=redis://h\n")
    assert show(folder) == ["drivers: mysql redis"]


def test_what_the_environment_says_wins_over_dotenv_for_make_too(folder: Path) -> None:
    (folder / ".env").write_text("DATABASE_URL=mysql://u@h/n\n")
    assert show(folder, "DATABASE_URL=postgres://h/n")[-1] == "drivers: postgres"
    assert show(folder, DATABASE_URL="")[-1] == "drivers:"

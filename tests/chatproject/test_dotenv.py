"""`.env`: what python-dotenv 1.2 takes is taken, with the same values; the rest is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatproject import dotenv, environment
from chatproject.__main__ import check_settings

from .processes import ROOT

CANARY = "nobody-may-see-this"

# Each value is what python-dotenv 1.2.4 gives without interpolation.
TAKEN = {
    "A=b": {"A": "b"},
    "A = b": {"A": "b"},
    "A\t=\tb": {"A": "b"},
    "  A=b": {"A": "b"},
    "\tA=b  ": {"A": "b"},
    "\ufeffA=b": {"A": "b"},
    "export A=b": {"A": "b"},
    "  export\tA = b": {"A": "b"},
    "exportA=b": {"exportA": "b"},
    "A='b c'": {"A": "b c"},
    'A="b c"': {"A": "b c"},
    "A= 'b' ": {"A": "b"},
    "'A'=b": {"A": "b"},
    "A=b # comment": {"A": "b"},
    "A=b\t# comment # more": {"A": "b"},
    "A='b' # comment": {"A": "b"},
    "A='b'# comment": {"A": "b"},
    'A="b # c" # comment': {"A": "b # c"},
    "A=b#c": {"A": "b#c"},
    "A=#c": {"A": "#c"},
    "A= # comment": {"A": ""},
    "A=": {"A": ""},
    "A=\nB=c": {"A": "", "B": "c"},
    "A=b\r\nB=c\r\n": {"A": "b", "B": "c"},
    "A=b\rB=c": {"A": "b", "B": "c"},
    "# comment\n\n   # another\nA=b\n#C=d\n": {"A": "b"},
    "A='b\\'c\\\\d\\n'": {"A": "b'c\\d\\n"},
    'A="b\\"c\\\\d\\ne\\tf\\z"': {"A": 'b"c\\d\ne\tf\\z'},
    "A=b\\nc": {"A": "b\\nc"},
    'A="b\nc\n"\nD=e': {"A": "b\nc\n", "D": "e"},
    "A='b\r\nc'\r\nD=e": {"A": "b\r\nc", "D": "e"},
    "A=b c": {"A": "b c"},
    'A=b "c" d': {"A": 'b "c" d'},
    "A=it's": {"A": "it's"},
    "A=b=c==": {"A": "b=c=="},
    "A=b\nA=c": {"A": "c"},
    "A=é😀": {"A": "é😀"},
    "A=b\u2028c": {"A": "b\u2028c"},
    "a.b-c=d": {"a.b-c": "d"},
    "": {},
    "\n \t\n": {},
    # A secret may hold any of these: nothing is expanded.
    "A=$HOME": {"A": "$HOME"},
    "A=${HOME}x$$": {"A": "${HOME}x$$"},
    'A="$(id)`id`"': {"A": "$(id)`id`"},
}
REFUSED = {
    "DATABASE_URL: {}": r"line 1: this is not NAME=value",
    "A=b\n\nDATABASE_URL {}": r"line 3: DATABASE_URL is not NAME=value",
    "DATABASE_URL": r"line 1: DATABASE_URL is not NAME=value",
    "{}": r"line 1: this is not NAME=value",
    "# c\r\nLLM_API_KEY='{}": r"line 2: LLM_API_KEY has a quote that does not end",
    'A="b\nc"\nLLM_API_KEY="{}\nB=c': r"line 3: LLM_API_KEY has a quote that does not end",
    "LLM_API_KEY='{}'x": r"line 1: LLM_API_KEY has something after the quoted value",
    "export SECRET_KEY='a' '{}'": r"line 1: SECRET_KEY has something after the quoted value",
    "SECRET_KEY='{}\\": r"line 1: SECRET_KEY has a quote that does not end",
    "LLM_API_KEY={}\0": r"line 1: LLM_API_KEY holds a NUL",
    "={}": r"line 1: this is not NAME=value",
    '"LLM_API_KEY"={}': r"line 1: this is not NAME=value",
    "export {}": r"line 1: this is not NAME=value",
    "LLM API KEY={}": r"line 1: LLM is not NAME=value",
}


@pytest.mark.parametrize(("text", "expected"), TAKEN.items())
def test_what_python_dotenv_takes_is_taken(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    path = tmp_path / ".env"
    path.write_bytes(text.encode())
    assert dotenv.read(path) == expected


@pytest.mark.parametrize(("text", "problem"), REFUSED.items())
def test_what_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(text.format(CANARY).encode())
    with pytest.raises(dotenv.DotenvError, match=problem) as refused:
        dotenv.read(path)
    assert str(path) in str(refused.value)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("content", ["A=b\n".encode("utf-16"), b"A=b\nC=\xff\n"])
def test_another_encoding_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".env"
    path.write_bytes(content)
    with pytest.raises(dotenv.DotenvError, match=r"line [12]: cannot be read: it is not UTF-8"):
        dotenv.read(path)


def test_a_folder_or_a_broken_link_in_its_place_is_told(tmp_path: Path) -> None:
    """A container's volume whose source is missing becomes an empty folder: the server would start open."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("folder", "link"):
        with pytest.raises(dotenv.DotenvError, match=f"{name} cannot be read"):
            dotenv.read(tmp_path / name)


def test_no_file_and_a_virtual_environment_of_that_name_are_no_error(tmp_path: Path) -> None:
    assert dotenv.read(tmp_path / ".env") == {}
    (tmp_path / ".env").mkdir()
    (tmp_path / ".env" / "pyvenv.cfg").touch()
    assert dotenv.read(tmp_path / ".env") == {}


def test_the_process_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\nC=file\n")
    environment = {"A": "process", "B": ""}
    dotenv.load(tmp_path / ".env", environment)
    assert environment == {"A": "process", "B": "", "C": "file"}


def test_make_reads_it_before_anything_is_installed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("export DATABASE_URL = 'postgres://u:$x@h/n' # ours\n")
    command = [sys.executable, "-I", "-S", str(ROOT / "chatproject" / "dotenv.py"), "DATABASE_URL"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "postgres://u:$x@h/n\n"


def test_a_name_that_is_nearly_a_variable_is_named_at_the_start(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"LLM_API_KEY", "ALLOWED_HOSTS", "PORT", "REQUIRE_LOGIN"}
    monkeypatch.setattr(environment, "known", names)
    wrong = {
        "LLM_APIKEY": "LLM_API_KEY",
        "port": "PORT",
        "ALLOWED-HOST": "ALLOWED_HOSTS",
        "REQUIRE_LOGN": "REQUIRE_LOGIN",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={CANARY}\n" for name in [*wrong, *names, "POSTGRES_PASSWORD"]))
    settings.BASE_DIR = tmp_path
    check_settings()
    told = [line for line in capsys.readouterr().err.splitlines() if ".env" in line]
    assert told == [
        f"chatproject: .env: nothing reads {name}; is {meant} meant?" for name, meant in sorted(wrong.items())
    ]
    assert CANARY not in "".join(told)

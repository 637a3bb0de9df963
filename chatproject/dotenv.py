"""Reads `.env` as python-dotenv does, but that nothing in it is expanded, and what cannot be read is an error.

Django's settings and the Makefile both read with this. It needs nothing but Python, because make asks before
anything is installed: ``python -m chatproject.dotenv NAME`` prints a value of the `.env` of the current folder.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

BLANKS = re.compile(r"[^\S\r\n]*")
BETWEEN = re.compile(r"(?:\s|#[^\r\n]*)*")
EXPORT = re.compile(r"export[^\S\r\n]+")
NAME = re.compile(r"'([^'=\r\n]+)'|([^=#\s'\"`]+)")
QUOTED = {"'": re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL), '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)}
ESCAPES = {"'": re.compile(r"\\[\\']"), '"': re.compile(r"\\[\\'\"abfnrtv]")}
UNQUOTED = re.compile(r"[^\r\n]*")
COMMENT = re.compile(r"\s+#.*")
REST = re.compile(r"[^\S\r\n]*(?:#[^\r\n]*)?(?=[\r\n]|\Z)")
LINE_END = re.compile(r"\r\n|\n|\r")


class DotenvError(ValueError):
    """Says which line of which file, and which variable; never quotes a value, which may be a secret."""


def load(path: Path, into: MutableMapping[str, str]) -> None:
    """Add the variables of ``path``, if there is such a file, to ``into``; what is in there already wins.

    Raises ``DotenvError``.
    """
    for name, value in read(path).items():
        into.setdefault(name, value)


def read(path: Path) -> dict[str, str]:
    """Return the variables of ``path``, of several of one name the last; none if there is no such file.

    Raises ``DotenvError``.
    """
    if is_missing(path):
        return {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DotenvError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        # Not chained: the error holds the whole file.
        raise DotenvError(f"{path}, line {line}: cannot be read: it is not UTF-8.") from None
    try:
        return dict(parse(text))
    except DotenvError as error:
        raise DotenvError(f"{path}, {error}") from None


def is_missing(path: Path) -> bool:
    """Whether there is no such file. A broken link counts as one; a virtual environment of that name does not."""
    return not (path.exists() or path.is_symlink()) or (path / "pyvenv.cfg").exists()


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Yield each variable of ``text`` and its value. Raises ``DotenvError`` for what is neither that nor a comment."""
    position = _end(BETWEEN, text, 0)
    while position < len(text):
        start = position
        position = _end(EXPORT, text, position)
        found = NAME.match(text, position)
        equals = _end(BLANKS, text, found.end()) if found else position
        if not found or text[equals : equals + 1] != "=":
            raise DotenvError(f"{_place(text, start, found)} is not NAME=value.")
        value, position = _value(text, equals + 1, _place(text, start, found))
        yield found[1] or found[2], value
        position = _end(BETWEEN, text, position)


def _value(text: str, after_equals: int, place: str) -> tuple[str, int]:
    """Return the value that begins there, and where its line ends."""
    start = _end(BLANKS, text, after_equals)
    quote = text[start : start + 1]
    if quote in QUOTED:
        found = QUOTED[quote].match(text, start)
        if not found:
            raise DotenvError(f"{place} has a quote that does not end.")
        value, end = (
            ESCAPES[quote].sub(lambda escape: codecs.decode(escape[0], "unicode-escape"), found[1]),
            found.end(),
        )
        rest = REST.match(text, end)
        if not rest:
            raise DotenvError(f"{place} has something after the quoted value.")
        end = rest.end()
    else:
        end = _end(UNQUOTED, text, after_equals)
        value = COMMENT.sub("", text[after_equals:end]).strip()
    if "\0" in value:
        raise DotenvError(f"{place} holds a NUL.")
    return value, end


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position


def _place(text: str, position: int, name: re.Match[str] | None) -> str:
    """Say where a line is, and which variable it is about, if what stands there can be a name and no value."""
    line = f"line {len(LINE_END.findall(text, 0, position)) + 1}"
    found = name[1] or name[2] if name else ""
    return f"{line}: {found}" if re.fullmatch(r"[A-Z][A-Z0-9_]*", found) else f"{line}: this"


def main() -> None:
    """Print a value of `.env`, nothing where there is none; what is wrong with the file is told at the start."""
    try:
        print(read(Path(".env")).get(sys.argv[1], ""))
    except DotenvError as error:
        sys.exit(f"chatproject: {error}")


if __name__ == "__main__":
    main()

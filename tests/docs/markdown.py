"""What the documents hold, as plain values: blocks of code, tables, links, headings."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READMES = {"en": ROOT / "README.md", "zh-hans": ROOT / "README.zh-hans.md"}
DOCUMENTS = [*READMES.values(), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code. ``before`` is the paragraph above it, ``line`` where it begins."""

    language: str
    text: str
    before: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.text.strip()}"


def blocks(path: Path, *languages: str) -> list[Block]:
    """The blocks of a document, of these languages only where some are named."""
    text = path.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        above = text[: match.start()]
        before = above.rstrip().rpartition("\n\n")[2]
        found.append(Block(match[2], textwrap.dedent(match[3]), before, above.count("\n") + 1))
    return [block for block in found if not languages or block.language in languages]


def prose(path: Path) -> str:
    """The document without its blocks of code."""
    return _BLOCK.sub("", path.read_text())


def rows(text: str) -> list[list[str]]:
    """The cells of every table's rows, without the lines of dashes."""
    lines = [line.strip()[1:-1] for line in text.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines if not re.fullmatch(r"[-| ]+", line)]


def code_words(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def links(path: Path) -> list[str]:
    return _LINK.findall(prose(path))


def headings(path: Path) -> list[tuple[int, str]]:
    """``(level, text)`` of each heading."""
    return [(len(marks), text) for marks, text in _HEADING.findall(prose(path))]


def anchors(path: Path) -> set[str]:
    """What can follow the ``#`` of a link to this document, as GitHub makes it of headings."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _level, text in headings(path)}

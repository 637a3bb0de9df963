"""Documents name files and rooms that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .markdown import DOCUMENTS, ROOT, code_words, prose

PATH = re.compile(r"(?:[\w-]+/)+(?:[\w-]+\.py)?|[\w-]+\.py")
# Where a document means a file from; and files that readers make, or a host project has.
FOLDERS = (ROOT, ROOT / "conversations", ROOT / "chatproject")
NOT_OURS = {"socket_chat.py", "asgi.py", "settings.py", "urls.py", "var/", "main.py", "staticfiles/"}
# Folders without rooms' signs: what Django keeps there is named by it.
DJANGOS = {"migrations", "locale", "templates", "static"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    named = {word for word in code_words(prose(document)) if PATH.fullmatch(word)} - NOT_OURS
    assert [word for word in sorted(named) if not exists(word)] == []


def exists(word: str) -> bool:
    if word.startswith("test_"):
        return any((ROOT / "tests").rglob(word))
    return any((folder / word).exists() for folder in FOLDERS)


@pytest.mark.parametrize("package", ["conversations", "llmproviders"])
def test_every_room_is_in_the_tree(package: str) -> None:
    tree = re.search(rf"^{package}/.*\n((?:  .*\n)+)", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert tree
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")} - DJANGOS - {"management"}
    assert rooms <= set(re.findall(r"^  (\w+)/", tree[1], re.MULTILINE))

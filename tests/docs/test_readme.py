"""The documents say what is so: settings, codes, links, both languages alike."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations import exceptions as refusals
from conversations.engine import answer_errors
from llmproviders import exceptions as upstream
from tests.chatproject.processes import variables
from tests.test_public_names import NOT_OF_THE_API

from .markdown import DOCUMENTS, READMES, ROOT, anchors, blocks, code_words, headings, links, prose, rows

README = READMES["en"]
ERRORS = ROOT / "docs" / "errors.md"
both_languages = pytest.mark.parametrize("readme", READMES.values(), ids=READMES)
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)

# Settings -----------------------------------------------------------------------------------------------------


def settings_table(readme: Path) -> dict[str, str]:
    """Variable -> its default as the README tells it, in the README's order."""
    table = [row for row in rows(prose(readme)) if re.fullmatch(r"`[A-Z][A-Z_]+`", row[0])]
    return {row[0].strip("`"): row[-1] for row in table}


def defaults_in_code() -> dict[str, str]:
    """Variable -> its default, where the settings give it as a constant."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse((ROOT / "chatproject" / "settings.py").read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("env.") and node.args:
            constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if len(constants) == 2:
                found[str(constants[0])] = written(constants[1])
            elif ast.unparse(node.func) == "env.database":
                found[str(constants[0])] = str(constants[-1])
    return found


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@both_languages
def test_the_settings_table_is_that_of_env_example(readme: Path) -> None:
    described = re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert list(settings_table(readme)) == described
    assert set(described) == variables()


@both_languages
def test_the_settings_table_tells_the_defaults_of_the_code(readme: Path) -> None:
    table, known = settings_table(readme), defaults_in_code()
    assert len(known) > 15
    assert {name: code_words(table[name])[:1] for name in known} == {name: [value] for name, value in known.items()}


# Codes --------------------------------------------------------------------------------------------------------


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


def codes_in_calls() -> set[str]:
    """The codes that are given where an answer or a refusal is made."""
    found = set()
    for package in ("chatproject", "conversations"):
        for source in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.keyword) and node.arg in ("code", "error_code"):
                    found |= words_in(node.value)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "_error":
                    found |= words_in(*node.args[1:3])
    return found


def words_in(*nodes: ast.AST) -> set[str]:
    constants = [part.value for node in nodes for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return {value for value in constants if isinstance(value, str) and value}


def codes() -> set[str]:
    classes = {*subclasses(refusals.ChatError), *subclasses(upstream.ProviderError)}
    return {
        *(str(kind.__dict__.get("code", "")) or str(getattr(kind, "code", "")) for kind in classes),
        upstream.ProviderError.code,
        upstream.UnknownModelType.code,
        upstream.InvalidEndpoint.code,
        *answer_errors.ANSWER_ERRORS,
        *codes_in_calls(),
    }


def test_every_code_is_explained() -> None:
    text = ERRORS.read_text()
    assert {code for code in codes() - NOT_OF_THE_API if f"`{code}`" not in text} == set()


def test_no_code_is_explained_that_does_not_exist() -> None:
    explained = {row[0].strip("`") for row in rows(prose(ERRORS)) if re.fullmatch(r"`[a-z_]+`", row[0])}
    assert len(explained) > 25
    assert explained - codes() == set()


def test_the_statuses_are_those_of_the_code() -> None:
    told = {(row[0].strip("`"), int(row[1])) for row in rows(prose(ERRORS)) if re.fullmatch(r"\d{3}", row[1])}
    refused = {(str(kind.code), kind.status) for kind in subclasses(refusals.ChatError)}
    assert refused | set(answer_errors.ANSWER_STATUS.items()) <= told


# Both languages, links, commands ------------------------------------------------------------------------------


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def test_both_languages_give_the_same_commands() -> None:
    english, chinese = ([(b.language, without_comments(b.text)) for b in blocks(path)] for path in READMES.values())
    assert chinese == english


def test_both_languages_have_the_same_structure() -> None:
    english, chinese = READMES.values()
    assert [level for level, _text in headings(chinese)] == [level for level, _text in headings(english)]
    assert [len(row) for row in rows(prose(chinese))] == [len(row) for row in rows(prose(english))]
    relative = [[link for link in links(path) if not link.startswith("#")] for path in (english, chinese)]
    assert [link.replace("zh-hans.md", "md") for link in relative[1][1:]] == relative[0][1:]


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        if link.startswith(("http://", "https://")):
            continue
        path, _hash, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_document
def test_every_make_target_and_variable_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [line for block in blocks(document, "bash") for line in block.text.splitlines()]
    commands += code_words(prose(document))
    for command in commands:
        if command.startswith("make "):
            words = re.sub(r"'[^']*'", "quoted", command).split()[1:]
            given = {word.partition("=")[0] for word in words if "=" in word}
            assert {word for word in words if "=" not in word} <= targets, command
            assert given <= variables() | {"PYTHON", "PYTEST_ARGS", "TRACE_ARGS", "UPGRADE"}, command


@every_document
def test_every_file_of_the_project_that_is_named_exists(document: Path) -> None:
    folders = "|".join(("chatproject", "conversations", "llmproviders", "requirements", "tests"))
    named = re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w(?:/)?", document.read_text())
    # Templates go by the name under which Django finds them.
    places = (ROOT, ROOT / "conversations" / "templates")
    assert [path for path in named if not any((place / path).exists() for place in places)] == []

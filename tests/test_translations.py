"""Simplified Chinese is complete: the catalogs, and what clients and operators get to read."""

from __future__ import annotations

import ast
import gettext
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.utils import translation

from conversations.engine.answer_errors import ANSWER_ERRORS, describe
from conversations.exceptions import ChatError
from conversations.models import Generation
from llmproviders.failures import PLAIN
from llmproviders.net.guard import InvalidEndpoint, validate_key, validate_model_name, validate_url

ROOT = Path(__file__).parent.parent
CHINESE = "zh-hans"
CATALOGS = {
    name: ROOT / name / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
    for name in ("chatproject", "conversations", "llmproviders")
}
ENTRY = re.compile(r'^(?P<comments>(?:#.*\n)*)msgid (?P<id>(?:".*"\n)+)msgstr (?P<text>(?:".*"\n)+)', re.MULTILINE)
PLACEHOLDER = re.compile(r"%\(\w+\)[-#0 +]*[0-9.]*[a-zA-Z]|`[^`]+`|%%|\{\w*\}")
# Such as names of formats, which are the same in every language.
UNTRANSLATABLE = {"URL", "API URL"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One text of a catalog."""

    text: str
    translated: str
    is_fuzzy: bool


def joined(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in lines.splitlines())


def entries(catalog: Path) -> Iterator[Entry]:
    """Yield the texts of a .po file, without its header."""
    source = catalog.read_text(encoding="utf-8")
    assert not re.search(r"^(msgid_plural|msgctxt|#~)", source, re.MULTILINE), "this reader does not know such entries"
    found = [
        Entry(joined(match["id"]), joined(match["text"]), ", fuzzy" in match["comments"])
        for match in ENTRY.finditer(f"{source}\n")
    ]
    assert len(found) == len(re.findall(r"^msgid ", source, re.MULTILINE))
    assert found[0].text == ""
    assert not found[0].is_fuzzy
    yield from found[1:]


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def in_both(text: Any) -> tuple[str, str]:
    """Return a lazy text in English and in Chinese."""
    with translation.override("en"):
        english = str(text)
    with translation.override(CHINESE):
        return english, str(text)


# The catalogs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGS)
def test_every_text_is_translated(name: str) -> None:
    left = [entry.text for entry in entries(CATALOGS[name]) if entry.is_fuzzy or not entry.translated]
    assert not left
    latin = {entry.text for entry in entries(CATALOGS[name]) if not is_chinese(entry.translated)}
    with_words = {text for text in latin if re.search("[A-Za-z]", PLACEHOLDER.sub("", text))}
    assert with_words <= UNTRANSLATABLE


@pytest.mark.parametrize("name", CATALOGS)
def test_placeholders_and_commands_are_those_of_the_original(name: str) -> None:
    for entry in entries(CATALOGS[name]):
        wanted, found = (sorted(PLACEHOLDER.findall(text)) for text in (entry.text, entry.translated))
        assert found == wanted, entry.text
        assert entry.text.count("\n") == entry.translated.count("\n"), entry.text


@pytest.mark.parametrize("name", CATALOGS)
def test_the_compiled_catalog_is_current(name: str) -> None:
    with CATALOGS[name].with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    stale = [entry.text for entry in entries(CATALOGS[name]) if compiled.gettext(entry.text) != entry.translated]
    assert not stale


def test_one_text_has_one_translation() -> None:
    """Django merges the catalogs, and only one of them would win."""
    known: dict[str, str] = {}
    for catalog in CATALOGS.values():
        for entry in entries(catalog):
            assert known.setdefault(entry.text, entry.translated) == entry.translated, entry.text


@pytest.mark.parametrize("name", CATALOGS)
def test_no_date_makes_a_change_of_every_run(name: str) -> None:
    assert "POT-Creation-Date" not in CATALOGS[name].read_text(encoding="utf-8")


# What is read -------------------------------------------------------------------------------------------------


def refusals(kind: type[ChatError] = ChatError) -> Iterator[type[ChatError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from refusals(narrower)


@pytest.mark.parametrize("kind", list(refusals()), ids=lambda kind: kind.__name__)
def test_every_refusal_speaks_chinese(kind: type[ChatError]) -> None:
    english, chinese = in_both(kind().detail)
    assert english != chinese
    assert is_chinese(chinese)


@pytest.mark.parametrize("code", ANSWER_ERRORS)
def test_every_error_of_an_answer_speaks_chinese(code: str) -> None:
    english, chinese = in_both(ANSWER_ERRORS[code])
    assert english != chinese
    assert is_chinese(chinese)


@pytest.mark.parametrize("reason", list(PLAIN.values()))
def test_our_own_reason_for_a_failure_is_translated_when_it_is_shown(reason: str) -> None:
    with translation.override(CHINESE):
        shown = describe("upstream_error", reason)
    assert is_chinese(shown)
    assert not re.search("[a-z]{3}", shown)


def test_an_upstreams_own_words_stay_as_they_are() -> None:
    with translation.override(CHINESE):
        assert describe("upstream_error", "No such model: gpt-9 100%").endswith("（No such model: gpt-9 100%）")


@pytest.mark.parametrize("language", ["en", CHINESE])
def test_a_reason_that_only_repeats_the_sentence_is_left_out(language: str) -> None:
    with translation.override(language):
        sentence = str(ANSWER_ERRORS["upstream_unavailable"])
        assert describe("upstream_unavailable", "The model's server cannot be reached.") == sentence
        assert describe("upstream_unavailable") == sentence


REFUSED_VALUES = [
    *((validate_url, url) for url in ("ftp://a/", "http://a b/", "http://a/#b", "http://u:p@a/", "http://a:0/")),
    *(
        (validate_url, url)
        for url in ("http://a:b/", "http:///x", "http://169.254.169.254/", "http://a/" + "x" * 2000)
    ),
    *((validate_key, key) for key in ("", "env:1")),
    (validate_model_name, ""),
]


@pytest.mark.parametrize(("validate", "value"), REFUSED_VALUES)
def test_a_refused_url_key_or_model_name_says_why_in_chinese(validate: Any, value: str) -> None:
    with translation.override(CHINESE), pytest.raises(InvalidEndpoint) as caught:
        validate(value)
    assert is_chinese(caught.value.message)


@pytest.mark.parametrize("label", ["conversations", "llmproviders"])
def test_apps_and_models_have_chinese_names(label: str) -> None:
    config = apps.get_app_config(label)
    models = [model._meta for model in config.get_models()]
    names = [config.verbose_name, *(text for meta in models for text in (meta.verbose_name, meta.verbose_name_plural))]
    for name in names:
        assert is_chinese(in_both(name)[1]), name
    assert all(is_chinese(in_both(text)[1]) for text in Generation.Status.labels)


# Over HTTP ----------------------------------------------------------------------------------------------------

ASKING_FOR_CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}


def test_success_speaks_the_clients_language(client: httpx.Client) -> None:
    created = client.post("/conversations", headers=ASKING_FOR_CHINESE)
    assert created.json()["message"] == "对话已创建。"
    path = f"/conversations/{created.json()['session_id']}"
    deleted = client.delete(path, headers=ASKING_FOR_CHINESE)
    assert deleted.json()["message"] == "对话已删除。"
    assert deleted.headers["content-language"] == CHINESE


def test_without_a_header_the_default_language_is_spoken(client: httpx.Client, settings: Any) -> None:
    assert client.post("/conversations").json()["message"] == "Conversation created."
    settings.LANGUAGE_CODE = CHINESE
    assert client.post("/conversations").json()["message"] == "对话已创建。"
    english = client.post("/conversations", headers={"Accept-Language": "en"})
    assert english.json()["message"] == "Conversation created."


def test_errors_by_field_are_chinese_also_where_the_framework_wrote_them(client: httpx.Client) -> None:
    body = {"temperature": 9, "nope": 1}
    errors = client.post("/chat", json=body, headers=ASKING_FOR_CHINESE).json()["errors"]
    assert is_chinese(errors["nope"][0])
    errors = client.post("/chat", json={"temperature": 9}, headers=ASKING_FOR_CHINESE).json()["errors"]
    assert errors.keys() == {"message", "temperature"}
    assert all(is_chinese(texts[0]) for texts in errors.values())


def test_a_refused_address_is_told_in_chinese(client: httpx.Client) -> None:
    body = {"user_id": "u", "model_type": "custom", "custom_api_url": "ftp://a/", "custom_model": "m"}
    errors = client.post("/api/config", json=body, headers=ASKING_FOR_CHINESE).json()["errors"]
    assert errors["custom_api_url"] == ["URL 必须以 http:// 或 https:// 开头。"]


def test_the_pages_are_chinese(client: httpx.Client) -> None:
    html = {"Accept": "text/html"} | ASKING_FOR_CHINESE
    chat_page = client.get("/", headers=html).text
    assert '<html lang="zh-hans">' in chat_page
    assert "试用并查阅 API" in chat_page
    assert "返回首页" in client.get("/nothing-here", headers=html).text


# On the command line ------------------------------------------------------------------------------------------


def test_commands_speak_the_default_language() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "import_legacy", "no-such-file"],
        cwd=ROOT,
        env={**os.environ, "LANGUAGE_CODE": CHINESE, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 1
    assert "no-such-file 不是文件。" in done.stderr

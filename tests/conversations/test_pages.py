"""The chat page as the server gives it: who sees it, its language, what it loads; what it does is in tests/e2e."""

from __future__ import annotations

import gettext
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders

from conversations.pages.texts import TEXTS
from conversations.pages.views import MODULES, RENDERING

from .test_accounts import log_in

STATIC = Path(__file__).resolve().parents[2] / "conversations" / "static" / "conversations" / "page"
ROOT = STATIC.parent
SHOWN = re.compile(r"""\bt\(\s*"((?:[^"\\]|\\.)*)\"""")


class Page(HTMLParser):
    """The tags of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self._block: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._block = str(dict(attrs).get("id")) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._block is not None and data.strip():
            self.blocks[self._block] = data
            self._block = None

    def value(self, name: str) -> Any:
        return json.loads(self.blocks[name])


def require_login(settings: Any, required: bool = True) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "REQUIRE_LOGIN": required}


@pytest.fixture
def kim(transactional_db: None) -> User:
    return User.objects.create_user("kim", password="analytical engine 1843")


def test_on_an_open_server_everybody_gets_the_page(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    config = Page(answer.text).value("chat-config")
    assert (config["api"], config["page"], config["login"], config["user"]) == ("/", "/", "", "")


def test_where_login_is_required_a_stranger_is_sent_to_log_in_and_comes_back(
    client: httpx.Client, kim: User, settings: Any
) -> None:
    require_login(settings)
    answer = client.get("/?c=b9cf1cb0-0fd9-4c5a-a17b-70e8a3f3a6a5")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/accounts/login?next=/%3Fc%3Db9cf1cb0-0fd9-4c5a-a17b-70e8a3f3a6a5"
    log_in(client)
    config = Page(client.get("/").text).value("chat-config")
    assert (config["login"], config["user"]) == ("/accounts/login", "kim")


def test_the_session_and_its_token_let_the_page_call_the_api(client: httpx.Client, kim: User, settings: Any) -> None:
    require_login(settings)
    log_in(client)
    client.get("/")
    assert client.post("/conversations").json()["code"] == "csrf_failed"
    made = client.post("/conversations", headers={"X-CSRFToken": client.cookies["csrftoken"]})
    assert made.status_code == 201


def test_nothing_in_the_page_is_inline_or_from_elsewhere(client: httpx.Client) -> None:
    page = Page(client.get("/").text)
    for tag, attributes in page.tags:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes.get("src") or attributes["type"] == "application/json"
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")


def test_all_that_the_page_loads_is_there(client: httpx.Client) -> None:
    urls = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in Page(client.get("/").text).tags
        if tag == "script" or (tag == "link" and attributes.get("rel") != "icon")
    ]
    for url in filter(None, urls):
        assert client.get(url).status_code == 200, url
    # A client that leaves as soon as it has a file's last byte may leave the file to the collector. The next call on
    # the connection is answered when the one before is over.
    assert client.get("/api/health").status_code == 200


# Loaded as those are opened.
OF_THE_SETTINGS = ("settings", "apikeys", "usage")


COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IMPORT = re.compile(r"""^(?:import|export)\b[^;()]*?["'](\.[^"']+)["']""", re.MULTILINE)


def loaded_with(module: str) -> set[str]:
    """A module, as the template names it, and all that it cannot run without."""
    found, left = {module}, [module]
    while left:
        path = ROOT / f"{left.pop()}.js"
        named = IMPORT.findall(COMMENT.sub("", path.read_text(encoding="utf-8")))
        new = {(path.parent / name).resolve().relative_to(ROOT).with_suffix("").as_posix() for name in named} - found
        found |= new
        left += new
    return found


def test_what_is_preloaded_is_what_the_scripts_import() -> None:
    """One that is not would be asked for when the one before it is there; one too many, for nothing."""
    at_once = loaded_with("page/main")
    assert at_once == {f"page/{module}" for module in MODULES}
    assert loaded_with("page/markdown") - at_once == set(RENDERING)
    assert loaded_with("page/settings") - at_once == {f"page/{module}" for module in OF_THE_SETTINGS}


def test_the_page_preloads_every_module(client: httpx.Client) -> None:
    found = {path.relative_to(STATIC).with_suffix("").as_posix() for path in STATIC.rglob("*.js")}
    rendering = {path.removeprefix("page/") for path in RENDERING if path.startswith("page/")}
    assert found == {*MODULES, *rendering, "theme", *OF_THE_SETTINGS}
    preloaded = [
        attributes for _tag, attributes in Page(client.get("/").text).tags if attributes.get("rel") == "modulepreload"
    ]
    assert len(preloaded) == len(MODULES) + len(RENDERING)
    urgent = [attributes["href"] for attributes in preloaded if "fetchpriority" not in attributes]
    assert urgent == [f"/static/conversations/page/{module}.js" for module in MODULES]


def test_every_style_sheet_is_linked_or_imported(client: httpx.Client) -> None:
    tags = Page(client.get("/").text).tags
    linked = {Path(str(attributes["href"])).name for _tag, attributes in tags if attributes.get("rel") == "stylesheet"}
    sheets = {path.name: path.read_text(encoding="utf-8") for path in STATIC.rglob("*.css")}
    imported = {name for text in sheets.values() for name in re.findall(r"@import[^;]*?([\w-]+\.css)", text)}
    assert set(sheets) == linked | imported


def test_the_page_is_compressed(client: httpx.Client) -> None:
    answer = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert int(answer.headers["Content-Length"]) < len(answer.content) / 2
    assert "Content-Encoding" not in client.get("/", headers={"Accept-Encoding": "identity"}).headers


@pytest.mark.parametrize("module", sorted(STATIC.glob("*.js")), ids=lambda path: path.stem)
def test_what_the_scripts_show_is_among_the_texts(module: Path) -> None:
    assert set(SHOWN.findall(module.read_text(encoding="utf-8"))) <= set(TEXTS)


def test_no_text_is_left_over() -> None:
    shown = {text for module in STATIC.rglob("*.js") for text in SHOWN.findall(module.read_text(encoding="utf-8"))}
    assert set(TEXTS) <= shown


def test_no_script_reads_html() -> None:
    """But for what the sanitiser makes."""
    for module in STATIC.glob("*.js"):
        text = module.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), module


def test_the_language_cookie_counts_before_what_the_browser_accepts(client: httpx.Client) -> None:
    assert Page(client.get("/", headers={"Accept-Language": "zh-CN"}).text).value("chat-texts")["Send"] == "发送"
    client.cookies.set("django_language", "zh-hans")
    answer = client.get("/", headers={"Accept-Language": "en"})
    page = Page(answer.text)
    assert ("html", {"lang": "zh-hans"}) in page.tags
    assert page.value("chat-config")["language"] == "zh-hans"
    assert {str(attributes.get("aria-label")) for _tag, attributes in page.tags} >= {"消息", "发送", "停止", "对话"}


def test_no_other_app_translates_the_texts_in_its_own_way(client: httpx.Client) -> None:
    """Django merges the catalogs of all apps: a word that another one has, too, may mean something else there."""
    shown = Page(client.get("/", headers={"Accept-Language": "zh-CN"}).text).value("chat-texts")
    with (STATIC.parents[2] / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.mo").open("rb") as file:
        ours = gettext.GNUTranslations(file)
    assert shown == {text: ours.gettext(text) for text in TEXTS if ours.gettext(text) != text}


def test_the_names_by_which_tools_find_things(client: httpx.Client) -> None:
    tags = [(tag, attributes.get("aria-label")) for tag, attributes in Page(client.get("/").text).tags]
    for expected in (
        ("textarea", "Message"),
        ("button", "Send"),
        ("button", "Stop"),
        ("div", "Conversation"),
        ("ul", "Conversations"),
    ):
        assert expected in tags


def test_a_project_of_its_own_gets_the_page_by_one_include_and_changes_blocks(tmp_path: Path) -> None:
    """Below a path, without the middleware of this project, with a template of its own."""
    (tmp_path / "conversations").mkdir()
    (tmp_path / "conversations" / "chat.html").write_text(
        '{% extends "conversations/chat.html" %}{% block brand %}Our chat{% endblock %}'
    )
    run = subprocess.run(
        [sys.executable, "-c", HOST_PROJECT, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    status, api, brand = json.loads(run.stdout)
    assert (status, api, brand) == (200, "/talk/", True)


HOST_PROJECT = """
import asyncio, json, re, sys
import django
from django.conf import settings
from django.urls import include, path
settings.configure(
    SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], STATIC_URL="/static/", USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "llmproviders",
                    "conversations"],
    CONVERSATIONS={"REQUIRE_LOGIN": False},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [sys.argv[1]],
                "APP_DIRS": True}],
)
django.setup()
urlpatterns = [path("talk/", include("conversations.urls")), path("talk/", include("conversations.pages.urls"))]
from django.test import AsyncClient
answer = asyncio.run(AsyncClient().get("/talk/"))
text = answer.content.decode()
config = json.loads(re.search('id="chat-config" type="application/json">(.*?)</script>', text)[1])
print(json.dumps([answer.status_code, config["api"], "Our chat" in text]))
"""


def test_the_scripts_are_static_files_of_the_app() -> None:
    assert finders.find("conversations/page/main.js")

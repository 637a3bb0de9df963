"""Hostile words in every place of the page where somebody's words are shown."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer, status

from .browser import Visitor
from .chat import Chat, directive, say_by_api
from .payloads import PAYLOADS

# What no API takes: it refuses these characters before they are stored.
WRITABLE = [payload for payload in PAYLOADS if "\x00" not in payload]
GROUP = 13
GROUPS = [WRITABLE[start : start + GROUP] for start in range(0, len(WRITABLE), GROUP)]
# Nothing of the page has these, so what has is somebody's words that became more than text.
STRANGE = """() => [...document.querySelectorAll("*")].filter((e) =>
    [...e.attributes].some(({ name, value }) => /^on|^srcdoc$|^ping$/.test(name) || /^\\s*\\w*script:/i.test(value))
    || e.matches("iframe, object, embed, base, marquee, animate, video, audio, svg script, math style")
    || (e.matches("form") && e.id !== "composer")
).map((e) => e.outerHTML)"""
# Scroll the list until it has a title.
REACH = """(title) => {
    document.querySelector("#list-end").scrollIntoView();
    return [...document.querySelectorAll("#conversations a")].some((link) => link.textContent === title);
}"""


@pytest.fixture
def target(guest: Visitor) -> Chat:
    """The page, in a window that tells when somebody's script runs."""
    guest.page.add_init_script("window.hits = []; window.hit = () => window.hits.push(1)")
    return Chat(guest.page)


def is_unhurt(chat: Chat) -> None:
    """Nothing ran and nothing strange is there. Requests, dialogs and consoles are looked at when the test ends."""
    assert chat.page.evaluate("window.hits") == []
    assert chat.page.evaluate(STRANGE) == []


def test_there_are_many() -> None:
    assert len(set(PAYLOADS)) >= 40


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_words_of_users_and_of_models_stay_words(target: Chat, number: int) -> None:
    target.open()
    text = "\n\n".join(GROUPS[number])
    target.ask(text)  # the model says it again, word by word
    expect(target.questions.last).to_contain_text(GROUPS[number][0].split()[0])
    is_unhurt(target)
    target.page.reload()
    expect(target.answers).to_have_count(1)
    target.wait_until_idle()
    is_unhurt(target)
    target.questions.last.hover()
    target.questions.last.get_by_role("button", name="Edit").click()
    expect(target.page.get_by_role("textbox", name="Edit the message")).to_be_visible()
    is_unhurt(target)


def test_so_do_thoughts(target: Chat) -> None:
    target.open()
    target.ask(directive("x", reasoning=WRITABLE))
    target.answers.last.locator("summary").click()
    expect(target.answers.last.locator("details")).to_contain_text("hit()")
    is_unhurt(target)


def test_so_do_titles_and_what_is_found(target: Chat, client: httpx.Client) -> None:
    for payload in WRITABLE:
        made = client.post("/conversations", json={"title": payload[:200]})
        assert made.status_code == 201, made.text
    last = say_by_api(client, "Title of hits")["session_id"]
    title = "<img src=x onerror=hit()><script>hit()</script>"
    assert client.patch(f"/conversations/{last}", json={"title": title}).status_code == 200
    target.open(last)
    expect(target.page.get_by_role("heading", level=1)).to_have_text(title)
    field = target.page.get_by_role("searchbox", name="Search conversations")
    field.fill("hit")
    expect(target.list.locator("mark").first).to_be_visible()
    is_unhurt(target)
    field.press("Escape")
    target.page.wait_for_function(REACH, arg=WRITABLE[0])
    is_unhurt(target)
    target.actions_for(title).get_by_role("menuitem", name="Delete").click()
    expect(target.page.get_by_role("button", name="Undo")).to_be_visible()
    is_unhurt(target)


def test_so_do_errors(target: Chat, upstream: ScriptedUpstream) -> None:
    target.open()
    for code, payload in ((400, WRITABLE[0]), (404, WRITABLE[2]), (500, WRITABLE[4])):
        behaviour = {"status": code, "body": {"error": {"message": payload, "code": payload}}}
        target.ask(f"!script {json.dumps(behaviour)}")
        expect(target.answers.last.locator(".trouble")).to_be_visible()
        is_unhurt(target)
    upstream.script.append(status(400, WRITABLE[1]))
    target.ask("once more")
    is_unhurt(target)


def test_so_do_names_of_models(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess], upstream: ScriptedUpstream
) -> None:
    name = '"></option></select><img src=x onerror=hit()><script>hit()</script>'
    with new_server(LLM_MODEL=name) as server:
        guest = visit(server.url)
        guest.page.add_init_script("window.hits = []; window.hit = () => window.hits.push(1)")
        chat = Chat(guest.page).open()
        upstream.script.append(answer("said", model=name))
        chat.ask("who are you")
        expect(chat.answers.last).to_contain_text(name)
        chat.answers.last.get_by_role("button", name="Regenerate").click()
        expect(chat.page.get_by_role("menu")).to_be_visible()
        is_unhurt(chat)
        guest.context.close()

"""Ways to use the page: languages, themes, keyboards, input methods, phones, the embedded model."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.processes.server import ServerProcess

from .browser import Visitor
from .chat import ANSWER_MS, Chat, directive, say_by_api, stored

PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}


@pytest.mark.local_model
def test_a_first_chat_on_the_embedded_model(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess]
) -> None:
    with new_server(LLM_API_URL="", LLM_MODEL="") as server, server.client() as client:
        guest = visit(server.url)
        chat = Chat(guest.page).open()
        expect(chat.page.get_by_text("small demo model")).to_be_visible()
        chat.page.get_by_role("button", name="How it answers").click()
        chat.page.get_by_label("Tokens at most").fill("16")  # a slow machine's time
        chat.say("Say hello in one short sentence.")
        expect(chat.text()).to_have_text(re.compile(r"\w"), timeout=2 * ANSWER_MS)
        expect(chat.log).to_have_attribute("aria-busy", "false", timeout=2 * ANSWER_MS)
        shown = chat.text().inner_text()
        assert stored(client, chat.conversation)[-1]["status"] == "completed"
        chat.page.reload()
        expect(chat.text()).to_have_text(re.compile(r"\w"))
        assert chat.text().inner_text() == shown
        guest.context.close()


# Languages and themes ---------------------------------------------------------------------------------------
def test_the_language_is_that_of_the_browser(visit: Callable[..., Visitor], server: ServerProcess) -> None:
    page = visit(server.url, locale="zh-CN").page
    page.goto("/")
    expect(page.get_by_role("button", name="新对话", exact=True)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-hans"


def test_buttons_of_code_speak_it_too(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    turn = say_by_api(client, directive("```\nx = 1\n```"))
    page = visit(server.url, locale="zh-CN").page
    page.goto(f"/?c={turn['session_id']}")
    expect(page.locator(".md-code").get_by_role("button")).to_have_text("复制")


def test_a_language_that_was_chosen_is_kept(chat: Chat) -> None:
    page = chat.page
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("menuitem", name="Settings").click()
    page.get_by_label("Language").select_option(label="简体中文")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_theme_that_was_chosen_is_kept(chat: Chat) -> None:
    page = chat.page
    light = background(page)
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("menuitemradio", name="Dark").click()
    dark = background(page)
    assert dark != light
    page.reload()
    expect(chat.box).to_be_visible()
    assert background(page) == dark


def test_the_theme_is_the_systems_before_one_is_chosen(visit: Callable[..., Visitor], server: ServerProcess) -> None:
    light, dark = (visit(server.url, color_scheme=scheme).page for scheme in ("light", "dark"))
    for page in (light, dark):
        page.goto("/")
    assert background(light) != background(dark)


# Keys -------------------------------------------------------------------------------------------------------
def test_enter_of_an_input_method_sends_nothing(chat: Chat, client: httpx.Client) -> None:
    chat.box.fill("你好")
    composing = """area => {
        area.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
        const enter = { key: "Enter", code: "Enter", bubbles: true, cancelable: true, isComposing: true };
        return area.dispatchEvent(new KeyboardEvent("keydown", enter));
    }"""
    assert chat.box.evaluate(composing), "the page kept the key from the input method"
    safari = (
        "area => area.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, cancelable: true }))"
    )
    assert chat.box.evaluate(safari)
    expect(chat.box).to_have_value("你好")
    expect(chat.questions).to_have_count(0)
    chat.box.evaluate("area => area.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true }))")
    chat.box.press("Enter")
    expect(chat.text()).to_contain_text("你好")


def test_shift_and_enter_break_the_line(chat: Chat, client: httpx.Client) -> None:
    chat.box.type("one")
    chat.box.press("Shift+Enter")
    chat.box.type("two")
    height = chat.box.bounding_box()
    assert height
    chat.box.press("Enter")
    chat.wait_until_idle()
    assert stored(client, chat.conversation)[0]["content"] == "one\ntwo"


def focused_name(page: Page) -> str:
    script = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
    return str(page.evaluate(script))


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press Tab until the thing of that name has the focus."""
    seen = []
    for _ in range(400):  # the list that all tests share may have forty rows and more, two stops each
        page.keyboard.press(key)
        seen.append(focused_name(page))
        if seen[-1] == name:
            return
    raise AssertionError(f"{name} is not reached: {seen}")


def test_everything_works_with_the_keyboard_alone(chat: Chat, client: httpx.Client) -> None:
    page = chat.page
    expect(chat.box).to_be_focused()
    page.keyboard.type("Keyboard capybara")
    page.keyboard.press("Enter")
    expect(chat.text()).to_contain_text("capybara")
    chat.wait_until_idle()
    expect(chat.box).to_be_focused()
    tab_to(page, "Regenerate", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Try again")).to_be_focused()
    page.keyboard.press("Enter")
    expect(chat.answers.last.get_by_role("group", name="Versions")).to_contain_text("2/2")
    chat.wait_until_idle()
    tab_to(page, "Edit", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Edit the message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Edit the message")).to_have_count(0)
    tab_to(page, "Actions for Keyboard capybara", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    page.keyboard.press("Escape")
    assert focused_name(page) == "Actions for Keyboard capybara"


def test_keys_lead_to_search_and_to_their_list(chat: Chat) -> None:
    page = chat.page
    chat.box.blur()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search conversations")).to_be_focused()
    page.get_by_role("searchbox").blur()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


# Sizes ------------------------------------------------------------------------------------------------------
WIDE = "\n".join(
    [
        "```",
        "x" * 500,
        "```",
        "",
        "|a|b|",
        "|-|-|",
        f"|{'y' * 300}|{'z' * 300}|",
        "",
        "w" * 400,
        "",
        f"$${'+'.join('abc' * 60)}$$",
    ]
)


@pytest.mark.parametrize(
    "options",
    [PHONE, {"viewport": {"width": 1280, "height": 800}}, {"viewport": {"width": 3840, "height": 2160}}],
    ids=["phone", "desktop", "4K"],
)
def test_nothing_is_wider_than_the_window(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client, options: dict[str, object]
) -> None:
    turn = say_by_api(client, directive(WIDE))
    chat = Chat(visit(server.url, **options).page)
    for conversation in ("", turn["session_id"]):
        chat.open(conversation)
        assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = chat.box.bounding_box()
        size = chat.page.viewport_size
        assert box
        assert size
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
        assert box["y"] + box["height"] <= size["height"]


def test_a_phone_shows_the_list_when_it_is_asked_for(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    say_by_api(client, "Pocket hedgehog")
    chat = Chat(visit(server.url, **PHONE).page).open()
    expect(chat.list.get_by_role("link", name="Pocket hedgehog")).not_to_be_in_viewport()
    chat.page.get_by_role("button", name="Open the side bar").tap()
    link = chat.list.get_by_role("link", name="Pocket hedgehog").first
    expect(link).to_be_in_viewport()
    link.tap()
    expect(chat.text()).to_contain_text("hedgehog")
    expect(link).not_to_be_in_viewport()

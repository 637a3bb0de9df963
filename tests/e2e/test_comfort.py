"""What nobody notices when it is right: room for fingers, notices out of the way, nothing written that is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.conversations.pictures import picture
from tests.processes.server import ServerProcess
from tests.upstream import call

from .browser import Visitor
from .chat import Chat, directive, say_by_api
from .test_images import Composer, file
from .test_ways import PHONE

LEAST_TARGET = 40
# Where a finger has to be to meet something: what is under the points around its middle counts, not how it is drawn.
TARGETS = "button, select, summary, input:not([type=file]), .conversation > a"
SMALL = """([targets, least]) => [...document.querySelectorAll(targets)]
    .filter((target) => target.checkVisibility({ visibilityProperty: true }) && !target.closest(".visually-hidden"))
    .map((target) => [target, target.getBoundingClientRect()])
    .filter(([, box]) => box.right > 0 && box.left < innerWidth && box.top >= 0 && box.bottom <= innerHeight)
    .filter(([target, box]) => {
        const after = getComputedStyle(target, "::after");
        const more = after.content === "none" ? 0 : parseFloat(after.width);
        return Math.min(Math.max(box.width, more), Math.max(box.height, more)) < least;
    })
    .map(([target, box]) => `${target.getAttribute("aria-label") ?? target.textContent} ${box.width}x${box.height}`)"""


ROOM_AROUND_BUTTONS = """message => {
    const edges = message.getBoundingClientRect();
    const boxes = [...message.querySelectorAll(".tools button")].map((button) => button.getBoundingClientRect());
    const beside = boxes.flatMap((box) => [box.left - edges.left, edges.right - box.right]);
    return Math.min(...beside, ...boxes.map((box) => edges.bottom - box.bottom));
}"""


def box_of(element: Locator) -> dict[str, float]:
    box = element.bounding_box()
    assert box
    return {**box, "right": box["x"] + box["width"], "bottom": box["y"] + box["height"]}


# Fingers, and what lies over what ---------------------------------------------------------------------------
def test_a_finger_meets_what_it_aims_at(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    turn = say_by_api(client, directive("```js\n1\n```", reasoning=["hm"]))
    chat = Chat(visit(server.url, **PHONE | {"viewport": {"width": 390, "height": 844}}).page)
    chat.open(turn["session_id"])
    page = chat.page
    Composer(chat).added(file("one.png"))
    page.wait_for_function("() => document.querySelector('#log .md-copy')")
    assert page.evaluate(SMALL, [TARGETS, LEAST_TARGET]) == []
    page.get_by_role("button", name="Regenerate").tap()
    assert page.evaluate(SMALL, [TARGETS, LEAST_TARGET]) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="How it answers").tap()
    assert page.evaluate(SMALL, [TARGETS, LEAST_TARGET]) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open the side bar").tap()
    expect(chat.list.get_by_role("link").first).to_be_in_viewport(ratio=1)
    assert page.evaluate(SMALL, [TARGETS, LEAST_TARGET]) == []


@pytest.mark.parametrize("options", [PHONE, {}], ids=["phone", "desktop"])
def test_a_notice_lies_above_the_composer_however_high_that_is(
    visit: Callable[..., Visitor], server: ServerProcess, options: dict[str, Any]
) -> None:
    chat = Chat(visit(server.url, **options).page).open()
    composer = Composer(chat)
    composer.added(*[file(f"{number}.png") for number in range(10)])
    composer.add(file("eleven.png"))
    toast = chat.page.locator(".toast")
    expect(toast).to_be_visible()
    assert box_of(toast)["bottom"] <= box_of(chat.page.locator("#composer"))["y"]


def test_more_rows_of_images_can_be_scrolled_by_a_bar(visit: Callable[..., Visitor], server: ServerProcess) -> None:
    chat = Chat(visit(server.url, **PHONE).page).open()
    Composer(chat).added(*[file(f"{number}.png") for number in range(10)])
    tray = chat.page.locator("#images")
    assert tray.evaluate("tray => tray.scrollHeight > tray.clientHeight")
    assert tray.evaluate("tray => getComputedStyle(tray, '::-webkit-scrollbar').width") == "9.6px"


def test_the_ring_of_the_focus_is_whole(chat: Chat) -> None:
    """What is contained is cut at its message's edges: the ring ends within."""
    chat.ask("A word")
    for message in (chat.questions.first, chat.answers.first):
        least = message.evaluate(ROOM_AROUND_BUTTONS)
        assert least >= 4, least  # two pixels of ring, two away


# Nothing written is lost ------------------------------------------------------------------------------------
def edit_of(chat: Chat, number: int = 0) -> Locator:
    chat.questions.nth(number).get_by_role("button", name="Edit").click()
    return chat.page.get_by_role("textbox", name="Edit the message")


@pytest.mark.parametrize("way", ["escape", "another conversation", "reload"])
def test_an_edit_that_is_left_is_there_when_one_comes_back(chat: Chat, way: str) -> None:
    chat.ask("The first words")
    conversation = chat.conversation
    edit_of(chat).fill("The changed words")
    if way == "escape":
        chat.page.keyboard.press("Escape")
        expect(chat.questions.first).to_contain_text("A change is kept.")
        expect(chat.page.locator("#announcer")).to_have_text("A change is kept.")
    elif way == "another conversation":
        chat.page.get_by_role("button", name="New chat").click()
        expect(chat.examples).to_be_visible()
        chat.page.go_back()
    else:
        chat.page.goto(f"/?c={conversation}")
    expect(chat.questions.first.locator(".bubble")).to_have_text("The first words")
    area = edit_of(chat)
    expect(area).to_have_value("The changed words")
    chat.page.get_by_role("button", name="Send anew").click()
    chat.wait_until_idle()
    expect(chat.text()).to_contain_text("The changed words")
    chat.questions.first.get_by_role("button", name="Previous version").click()
    expect(chat.questions.first.locator(".bubble")).to_have_text("The first words")
    chat.wait_until_idle()
    expect(edit_of(chat)).to_have_value("The first words")


def test_an_edit_that_is_cancelled_is_forgotten(chat: Chat) -> None:
    chat.ask("The first words")
    edit_of(chat).fill("The changed words")
    chat.page.get_by_role("button", name="Cancel").click()
    expect(chat.questions.first).not_to_contain_text("A change is kept.")
    expect(chat.page.locator("#announcer")).not_to_have_text("A change is kept.")
    expect(edit_of(chat)).to_have_value("The first words")


# Who may answer ---------------------------------------------------------------------------------------------
def tell_of_models(page: Page, **abilities: dict[str, bool]) -> None:
    """Have the server offer models beside its own, each with what it takes."""

    def tell(route: Route) -> None:
        config = route.fetch().json()
        own = config["preset_models"][0]
        config["preset_models"] += [{**own, "type": name, "name": name, **able} for name, able in abilities.items()]
        route.fulfill(json=config)

    page.route("**/api/config", tell)


def offered(chat: Chat, number: int = -1) -> dict[str, bool]:
    """The models with which an answer can be made anew, and whether each can be chosen."""
    chat.answers.nth(number).get_by_role("button", name="Regenerate").click()
    items = chat.page.get_by_role("menu").get_by_role("menuitem").all()
    found = {item.inner_text().replace("\n", " "): item.is_enabled() for item in items}
    chat.page.keyboard.press("Escape")
    return found


def test_a_model_that_takes_no_images_is_not_asked_where_there_are_some(guest: Visitor, chat: Chat) -> None:
    tell_of_models(guest.page, blind={"takes_images": False}, seeing={"takes_images": True})
    chat.open().ask("No image yet")
    Composer(chat).added()
    chat.ask("And now one")
    before, now = offered(chat, 0), offered(chat)
    assert before["With blind"]
    assert before["With seeing"]
    assert not now["With blind takes no images"]
    assert now["With seeing"]
    assert now["Try again"]
    chat.answers.last.get_by_role("button", name="Regenerate").click()
    chat.page.get_by_role("menuitem", name="With blind").click(force=True)
    expect(chat.page.get_by_role("menu")).to_be_visible()
    expect(chat.answers).to_have_count(2)


def test_images_of_earlier_turns_keep_no_model_from_answering(guest: Visitor, chat: Chat) -> None:
    """The server leaves them out for a model that takes none."""
    tell_of_models(guest.page, blind={"takes_images": False})
    Composer(chat.open()).added()
    chat.ask("With an image")
    chat.ask("Text alone")
    assert not offered(chat, 0)["With blind takes no images"]
    assert offered(chat, 1)["With blind"]


def test_calls_of_earlier_turns_keep_no_model_from_answering(guest: Visitor, chat: Chat, client: httpx.Client) -> None:
    """Those of the turn that an answer is in do, as their results are what it answers."""
    tell_of_models(guest.page, without={"takes_tools": False})
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    turn = say_by_api(client, directive("I look.", deltas=call(0, "{}", id="one", name="look")), tools=[tool])
    said = {"session_id": turn["session_id"], "stream": False}
    client.post("/chat", json={**said, "tool_results": [{"id": "one", "content": "a cat"}]}).raise_for_status()
    say_by_api(client, "And now?", session_id=turn["session_id"])
    chat.open(turn["session_id"])
    expect(chat.answers).to_have_count(3)
    assert offered(chat, 0)["With without"]
    assert not offered(chat, 1)["With without takes no tools"]
    assert offered(chat, 2)["With without"]


def test_there_is_nothing_to_copy_or_rate_of_an_answer_that_says_nothing(chat: Chat) -> None:
    chat.ask('!script {"status": 401, "body": {}}')
    names = [button.get_attribute("aria-label") for button in chat.answers.last.locator(".tools button:visible").all()]
    assert names == []
    expect(chat.answers.last.get_by_role("button", name="Regenerate")).to_have_count(1)


# What the history tells -------------------------------------------------------------------------------------
def test_how_long_a_model_thought_is_known_after_a_reload(chat: Chat) -> None:
    """Two thoughts of 0.6 s each, and perhaps the time until the text begins."""
    at_least = re.compile(r"^Thought for (1\.[2-9]|[2-9](\.\d)?|\d\d) s$")
    chat.ask(directive("Yes.", reasoning=["Let me", " see."], delay=0.6))
    title = chat.answers.first.locator(".thoughts summary")
    expect(title).to_have_text(at_least)
    chat.open(chat.conversation)
    expect(title).to_have_text(at_least)


def test_an_image_in_a_tab_of_its_own_looks_as_images_do_there(chat: Chat) -> None:
    Composer(chat).added(file("wide.png", picture(size=(600, 400))))
    chat.ask("Look")
    with chat.page.context.expect_page() as opened:
        chat.questions.first.get_by_role("link").click()
    image = opened.value.locator("img")
    size = opened.value.viewport_size
    assert size
    box = box_of(image)
    assert abs(box["x"] + box["right"] - size["width"]) <= 2, "in the middle"
    assert (box["width"], box["height"]) == (600, 400)


def test_an_image_has_its_room_before_it_is_there(chat: Chat, client: httpx.Client) -> None:
    Composer(chat).added(file("wide.png", picture(size=(600, 400))))
    chat.ask("Look")
    image = chat.questions.first.locator(".gallery img")
    expect(image).to_have_class("sized loaded")
    shown = box_of(image)
    chat.page.route("**/attachments/*", lambda _route: None)  # it never comes
    chat.open(chat.conversation)
    expect(image).to_have_class("sized")
    room = box_of(image)
    assert (room["width"], room["height"]) == (shown["width"], shown["height"])

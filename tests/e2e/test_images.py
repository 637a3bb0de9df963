"""Images in messages: added by button, paste and drop, shown, kept, refused."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.conversations.pictures import picture
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer

from .browser import Visitor
from .chat import Chat, stored
from .routes import hold, wait_for_routes
from .test_accessibility import LOOKS, serious
from .test_ways import PHONE, tab_to

RED = picture(size=(60, 40))
NOT_SENT = "Not sent."


def file(name: str = "red.png", content: bytes = RED, kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": content}


class Composer:
    """Where a message and its images are put together."""

    def __init__(self, chat: Chat) -> None:
        self.chat, self.page = chat, chat.page
        self.button = self.page.get_by_role("button", name="Add images")
        self.thumbnails = self.page.get_by_role("list", name="Images of the message").get_by_role("listitem")
        self.spinners = self.page.get_by_role("img", name="Uploading…")

    def add(self, *files: FilePayload) -> None:
        """Choose files."""
        self.page.locator("#choose-images").set_input_files(list(files) or [file()])

    def added(self, *files: FilePayload) -> Composer:
        """Choose files, and wait until the server has them."""
        self.add(*files)
        self.settled(max(len(files), 1))
        return self

    def settled(self, number: int) -> None:
        expect(self.thumbnails).to_have_count(number)
        expect(self.spinners).to_have_count(0)

    def remove(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=f"Remove {name}")


@pytest.fixture
def composer(chat: Chat) -> Composer:
    return Composer(chat)


TRANSFER = """([type, files, texts, target]) => {
    const data = new DataTransfer();
    for (const [name, kind, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        data.items.add(new File([bytes], name, { type: kind }));
    }
    for (const [kind, text] of Object.entries(texts)) data.setData(kind, text);
    const options = { bubbles: true, cancelable: true };
    const event = type === "paste"
        ? new ClipboardEvent(type, { ...options, clipboardData: data })
        : new DragEvent(type, { ...options, dataTransfer: data });
    return !document.querySelector(target).dispatchEvent(event);
}"""


def transfer(
    page: Page, kind: str, files: Sequence[FilePayload], texts: dict[str, str] | None = None, target: str = "#message"
) -> bool:
    """Have the browser tell of files that are pasted or dragged; whether the page took care of them."""
    rows = [[one["name"], one["mimeType"], base64.b64encode(one["buffer"]).decode()] for one in files]
    return bool(page.evaluate(TRANSFER, [kind, rows, texts or {}, target]))


def shown_to_the_model(upstream: ScriptedUpstream) -> list[Any]:
    """What the last user message of the newest request had."""
    content = upstream.completions[-1].body["messages"][-1]["content"]
    assert isinstance(content, list), content
    return content


def assert_visible(images: Locator, number: int) -> None:
    """There are so many, and each is drawn."""
    expect(images).to_have_count(number)
    for index in range(number):
        images.nth(index).scroll_into_view_if_needed()
        expect(images.nth(index)).to_have_js_property("complete", True)
        assert images.nth(index).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def ids_of(message: dict[str, Any]) -> list[str]:
    return [part["attachment_id"] for part in message["parts"] or [] if part["type"] == "image"]


# Adding -----------------------------------------------------------------------------------------------------
def test_an_image_is_added_by_the_button_and_the_model_sees_it(
    composer: Composer, chat: Chat, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    with chat.page.expect_file_chooser() as chooser:
        composer.button.click()
    chooser.value.set_files([file("red.png")])
    composer.settled(1)
    expect(composer.thumbnails.first.get_by_role("img", name="red.png")).to_be_visible()
    expect(chat.box).to_be_focused()
    chat.ask("What is this?")
    parts = shown_to_the_model(upstream)
    assert [part["type"] for part in parts] == ["image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/")
    expect(composer.thumbnails).to_have_count(0)
    question = chat.questions.last
    assert_visible(question.get_by_role("img", name="Image 1"), 1)
    expect(question.locator(".bubble")).to_have_text("What is this?")
    assert len(ids_of(stored(client, chat.conversation)[0])) == 1


def test_an_image_is_shown_above_its_text_and_opens_in_a_new_tab(
    composer: Composer, chat: Chat, guest: Visitor
) -> None:
    guest.expected = ("Applying inline style",)  # the browser's own, around an image
    composer.added()
    chat.ask("Above this")
    link = chat.questions.last.get_by_role("link", name="Image 1")
    image, text = link.bounding_box(), chat.questions.last.locator(".bubble").bounding_box()
    assert image
    assert text
    assert image["y"] + image["height"] <= text["y"]
    assert link.get_attribute("rel") == "noopener"
    with chat.page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert re.search(r"/attachments/[0-9a-f-]{36}$", opened.value.url)
    assert opened.value.evaluate("document.images[0].naturalWidth") == 60


def test_images_are_pasted(composer: Composer, chat: Chat) -> None:
    assert transfer(chat.page, "paste", [file("image.png")])
    composer.settled(1)
    table = {"text/plain": "a table", "text/html": "<table></table>"}
    assert not transfer(chat.page, "paste", [file("picture-of-it.png")], table)
    assert not transfer(chat.page, "paste", [], {"text/plain": "a text"})
    expect(composer.thumbnails).to_have_count(1)


def test_images_are_dropped_anywhere_on_a_target_that_shows(composer: Composer, chat: Chat) -> None:
    files = [file("one.png"), file("two.png")]
    target = chat.page.get_by_text("Drop images here")
    expect(target).to_be_hidden()
    transfer(chat.page, "dragenter", files, target="#log")
    expect(target).to_be_visible()
    transfer(chat.page, "dragleave", files, target="#log")
    expect(target).to_be_hidden()
    assert transfer(chat.page, "dragover", files, target="#sidebar")
    expect(target).to_be_visible()
    assert transfer(chat.page, "drop", files, target="#sidebar")
    expect(target).to_be_hidden()
    composer.settled(2)


def test_text_that_is_dragged_shows_no_target(composer: Composer, chat: Chat) -> None:
    assert not transfer(chat.page, "dragover", [], {"text/plain": "words"})
    expect(chat.page.get_by_text("Drop images here")).to_be_hidden()


def test_images_alone_are_a_message(
    composer: Composer, chat: Chat, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    expect(chat.send_button).to_be_disabled()
    composer.added(file("one.png"), file("two.png"), file("three.png"))
    expect(chat.send_button).to_be_enabled()
    chat.box.press("Enter")
    expect(chat.answers).to_have_count(1)
    chat.wait_until_idle()
    assert [part["type"] for part in shown_to_the_model(upstream)] == ["image_url"] * 3
    assert_visible(chat.questions.last.get_by_role("img"), 3)
    expect(chat.questions.last.locator(".bubble")).to_have_count(0)
    message = stored(client, chat.conversation)[0]
    assert (message["content"], len(ids_of(message))) == ("", 3)


def test_there_are_ten_at_most(composer: Composer, chat: Chat) -> None:
    composer.add(*[file(f"{number}.png") for number in range(12)])
    composer.settled(10)
    expect(chat.page.get_by_text("A message has at most 10 images.")).to_be_visible()
    expect(composer.button).to_be_disabled()
    composer.remove("3.png").click()
    expect(composer.button).to_be_enabled()


def test_a_message_waits_for_its_images(composer: Composer, chat: Chat, client: httpx.Client) -> None:
    held = hold(chat.page, "**/attachments", "POST")
    composer.add()
    route = wait_for_routes(chat.page, held)[0]
    expect(composer.spinners).to_have_count(1)
    chat.box.fill("Wait for it")
    chat.box.press("Enter")
    expect(chat.page.locator("#images-note")).to_have_text("The message is sent once its images are there.")
    expect(chat.questions).to_have_count(0)
    route.continue_()
    expect(chat.answers).to_have_count(1)
    chat.wait_until_idle()
    assert len(ids_of(stored(client, chat.conversation)[0])) == 1


# Removing ---------------------------------------------------------------------------------------------------
def test_an_image_that_is_removed_is_deleted(composer: Composer, chat: Chat, client: httpx.Client) -> None:
    with chat.page.expect_response("**/attachments") as sent:
        composer.add(file("one.png"))
    composer.settled(1)
    path = sent.value.json()["url"]
    assert client.get(path).status_code == 200
    with chat.page.expect_response(f"**{path}") as deleted:
        composer.remove("one.png").press("Enter")
    assert deleted.value.status == 204
    expect(composer.thumbnails).to_have_count(0)
    expect(chat.box).to_be_focused()
    expect(chat.page.locator("#announcer")).to_have_text("one.png removed.")
    assert client.get(path).status_code == 404


def test_an_image_that_is_removed_on_its_way_is_not_sent(composer: Composer, chat: Chat) -> None:
    held = hold(chat.page, "**/attachments", "POST")
    composer.add(file("one.png"))
    wait_for_routes(chat.page, held)
    with chat.page.expect_event("requestfailed"):
        composer.remove("one.png").click()
    expect(composer.thumbnails).to_have_count(0)
    expect(chat.send_button).to_be_disabled()


# Refusals ---------------------------------------------------------------------------------------------------
def test_what_is_no_image_is_refused_at_its_place(composer: Composer, chat: Chat, guest: Visitor) -> None:
    guest.expected = ("400",)
    composer.add(file("one.png"), file("notes.txt", b"no image", "text/plain"))
    failed = composer.thumbnails.nth(1)
    expect(failed).to_contain_text("notes.txt")
    expect(failed).to_contain_text("This is no image that can be read")
    expect(failed.get_by_role("button", name="Retry")).to_have_count(0)
    expect(chat.page.locator("#announcer")).to_contain_text("notes.txt was not added")
    chat.box.fill("With one of two")
    chat.box.press("Enter")
    expect(chat.page.get_by_text("Remove what was not added.")).to_be_visible()
    expect(chat.box).to_have_value("With one of two")
    composer.remove("notes.txt").click()
    chat.ask("With the other alone")
    assert_visible(chat.questions.last.get_by_role("img"), 1)


def test_the_reason_is_told_in_the_reader_s_language(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    refused = client.post("/attachments", files={"file": b"no image"}, headers={"Accept-Language": "zh-CN"})
    guest = visit(server.url, locale="zh-CN")
    guest.expected = ("400",)
    guest.page.goto("/")
    expect(guest.page.locator("#examples button").first).to_be_visible()
    guest.page.locator("#choose-images").set_input_files(file("notes.png", b"no image"))
    expect(guest.page.locator(".thumbnail-trouble")).to_contain_text(refused.json()["detail"])


def test_an_image_that_did_not_get_there_is_tried_again(composer: Composer, chat: Chat, guest: Visitor) -> None:
    guest.expected = ("ERR_FAILED",)
    held = hold(chat.page, "**/attachments", "POST")
    composer.add()
    wait_for_routes(chat.page, held)[0].abort()
    failed = composer.thumbnails.first
    expect(failed).to_contain_text("The server cannot be reached.")
    failed.get_by_role("button", name="Retry").click()
    composer.settled(1)
    expect(failed.get_by_role("button", name="Retry")).to_be_hidden()
    chat.ask("There after all")
    assert_visible(chat.questions.last.get_by_role("img"), 1)


def tell_of_models(page: Page, takes_images: bool | None) -> None:
    """Have the page hear whether the models take images."""

    def tell(route: Route) -> None:
        config = route.fetch().json()
        for preset in config["preset_models"]:
            preset["takes_images"] = takes_images
        route.fulfill(json=config)

    page.route("**/api/config", tell)


def test_what_did_not_get_there_goes_once_the_network_is_back(composer: Composer, chat: Chat, guest: Visitor) -> None:
    guest.expected = ("ERR_INTERNET_DISCONNECTED",)
    chat.page.context.set_offline(True)
    composer.add(file("one.png"), file("two.png"))
    expect(composer.thumbnails.get_by_text("The server cannot be reached.")).to_have_count(2)
    chat.page.context.set_offline(False)
    composer.settled(2)
    expect(composer.thumbnails.get_by_text("The server cannot be reached.")).to_have_count(0)


def test_a_model_that_takes_no_images_is_offered_none(
    composer: Composer, chat: Chat, guest: Visitor, client: httpx.Client
) -> None:
    composer.added()
    tell_of_models(chat.page, takes_images=False)
    chat.page.reload()
    expect(composer.button).to_be_hidden()
    expect(composer.thumbnails).to_have_count(1)  # of the draft
    chat.box.fill("Look at this")
    chat.box.press("Enter")
    note = "This model takes no images. Remove them, or choose another model."
    expect(chat.page.locator("#images-note")).to_have_text(note)
    expect(chat.questions).to_have_count(0)
    assert transfer(chat.page, "paste", [file()])
    expect(chat.page.get_by_text("This model takes no images.", exact=True)).to_be_visible()
    assert transfer(chat.page, "dragover", [file()])
    expect(chat.page.get_by_text("Drop images here")).to_be_hidden()
    assert transfer(chat.page, "drop", [file()])
    expect(composer.thumbnails).to_have_count(1)
    composer.remove("red.png").click()
    chat.ask("Words then")
    expect(chat.questions).to_have_count(1)


# What is kept -----------------------------------------------------------------------------------------------
def test_an_edited_message_keeps_its_images(
    composer: Composer, chat: Chat, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    composer.added(file("one.png"), file("two.png"))
    chat.ask("First words")
    before = ids_of(stored(client, chat.conversation)[0])
    question = chat.questions.first
    question.hover()
    question.get_by_role("button", name="Edit").click()
    expect(question.get_by_role("img")).to_have_count(2)
    chat.page.get_by_role("textbox", name="Edit the message").fill("Second words")
    chat.page.get_by_role("button", name="Send anew").click()
    expect(chat.text()).to_contain_text("Second words")
    chat.wait_until_idle()
    message = stored(client, chat.conversation)[0]
    assert (message["content"], ids_of(message)) == ("Second words", before)
    assert [part["type"] for part in shown_to_the_model(upstream)] == ["image_url", "image_url", "text"]
    assert_visible(chat.questions.last.get_by_role("img"), 2)


def test_a_reload_shows_the_images(composer: Composer, chat: Chat) -> None:
    composer.added()
    chat.ask("Shown again")
    chat.page.reload()
    assert_visible(chat.questions.last.get_by_role("img", name="Image 1"), 1)


def test_an_answer_that_ends_leaves_the_image_and_the_focus_on_it(
    composer: Composer, chat: Chat, upstream: ScriptedUpstream
) -> None:
    composer.added()
    upstream.script.append(answer("one ", "two", gate="images", gate_at=1))
    chat.say("Look")
    image = chat.questions.last.get_by_role("img").element_handle()
    link = chat.questions.last.get_by_role("link", name="Image 1")
    link.focus()
    upstream.gate("images").open()
    chat.wait_until_idle()
    expect(chat.questions.last.get_by_role("button", name="Edit")).to_be_enabled()
    assert image.evaluate("image => image.isConnected")
    expect(link).to_be_focused()


def test_an_image_that_is_gone_leaves_a_note(
    composer: Composer, chat: Chat, guest: Visitor, client: httpx.Client, server: ServerProcess
) -> None:
    guest.expected = ("404",)
    composer.added()
    chat.ask("It will be gone")
    files = [path for path in Path(server.env["ATTACHMENTS_DIR"]).rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_mtime_ns).unlink()
    chat.page.reload()
    expect(chat.questions.last).to_contain_text("This image is not there any more.")
    expect(chat.questions.last.get_by_role("img")).to_have_count(0)


def test_an_image_that_could_not_be_loaded_is_loaded_when_asked_for(
    composer: Composer, chat: Chat, guest: Visitor
) -> None:
    guest.expected = ("ERR_FAILED",)
    composer.added()
    chat.ask("It will be there")
    chat.page.route("**/attachments/*", lambda route: route.abort())
    chat.page.reload()
    expect(chat.questions.last).to_contain_text("The image could not be loaded.")
    chat.page.unroute_all()
    chat.questions.last.get_by_role("button", name="Load the image").click()
    assert_visible(chat.questions.last.get_by_role("img"), 1)


def test_what_was_not_sent_keeps_its_images_and_its_key(
    composer: Composer, chat: Chat, guest: Visitor, client: httpx.Client
) -> None:
    guest.expected = ("ERR_FAILED",)
    sent: list[dict[str, Any]] = []

    def fail(route: Route) -> None:
        sent.append({"key": route.request.headers["idempotency-key"], "body": route.request.post_data_json})
        route.abort() if len(sent) == 1 else route.continue_()

    chat.page.route("**/chat", fail)
    composer.added()
    chat.box.fill("Twice on its way")
    chat.box.press("Enter")
    expect(chat.questions.last).to_contain_text(NOT_SENT)
    chat.page.reload()
    expect(chat.questions.last).to_contain_text(NOT_SENT)
    assert_visible(chat.questions.last.get_by_role("img"), 1)
    chat.questions.last.get_by_role("button", name="Retry").click()
    expect(chat.answers).to_have_count(1)
    chat.wait_until_idle()
    assert sent[0] == sent[1]
    assert ids_of(stored(client, chat.conversation)[0]) == sent[0]["body"]["attachments"]


def test_what_is_discarded_gives_its_images_back(composer: Composer, chat: Chat, guest: Visitor) -> None:
    guest.expected = ("ERR_FAILED",)
    held = hold(chat.page, "**/chat", "POST")
    composer.added()
    chat.box.press("Enter")
    wait_for_routes(chat.page, held)[0].abort()
    chat.questions.last.get_by_role("button", name="Discard").click()
    expect(chat.questions).to_have_count(0)
    assert_visible(composer.thumbnails.get_by_role("img", name="red.png"), 1)
    chat.ask("Now it goes")
    assert_visible(chat.questions.last.get_by_role("img"), 1)


def test_images_on_the_server_are_not_unsent_after_a_reload(
    composer: Composer, chat: Chat, client: httpx.Client
) -> None:
    chat.ask("A conversation")
    held = hold(chat.page, "**/chat", "POST")
    composer.added()
    chat.box.press("Enter")
    wait_for_routes(chat.page, held)
    held[0].fetch()
    chat.page.reload()
    expect(chat.answers).to_have_count(2)
    chat.wait_until_idle()
    expect(chat.page.get_by_text(NOT_SENT)).to_have_count(0)
    expect(chat.questions).to_have_count(2)


def test_a_draft_keeps_its_images(composer: Composer, chat: Chat, client: httpx.Client) -> None:
    made = client.post("/conversations", json={"title": "Images of an aardwolf"}).json()["session_id"]
    composer.added(file("one.png"), file("two.png"))
    composer.remove("one.png").click()
    chat.list.get_by_role("link", name="Images of an aardwolf").click()
    chat.page.wait_for_url(f"**/?c={made}")
    expect(composer.thumbnails).to_have_count(0)
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(composer.thumbnails).to_have_count(1)
    chat.page.reload()
    assert_visible(composer.thumbnails.get_by_role("img", name="two.png"), 1)
    chat.ask("And away")
    chat.page.goto("/")
    expect(chat.examples).to_be_visible()
    expect(composer.thumbnails).to_have_count(0)


def test_an_image_stays_with_the_draft_that_it_was_added_to(
    composer: Composer, chat: Chat, client: httpx.Client
) -> None:
    client.post("/conversations", json={"title": "Beside an aardvark"})
    held = hold(chat.page, "**/attachments", "POST")
    composer.add()
    route = wait_for_routes(chat.page, held)[0]
    chat.list.get_by_role("link", name="Beside an aardvark").click()
    chat.page.wait_for_url("**/?c=*")
    with chat.page.expect_response("**/attachments"):
        route.continue_()
    expect(composer.thumbnails).to_have_count(0)
    chat.page.goto("/")
    assert_visible(composer.thumbnails.get_by_role("img", name="red.png"), 1)


def test_an_image_of_a_draft_that_is_gone_is_dropped(
    composer: Composer, chat: Chat, guest: Visitor, client: httpx.Client
) -> None:
    guest.expected = ("404",)
    with chat.page.expect_response("**/attachments") as sent:
        composer.add()
    composer.settled(1)
    client.delete(sent.value.json()["url"])
    chat.page.reload()
    expect(chat.page.get_by_text("An image of this draft is not there any more.")).to_be_visible()
    expect(composer.thumbnails).to_have_count(0)
    chat.page.reload()
    expect(chat.examples).to_be_visible()
    expect(composer.thumbnails).to_have_count(0)


# Ways to use it ---------------------------------------------------------------------------------------------
def test_images_by_keyboard_alone(composer: Composer, chat: Chat) -> None:
    page = chat.page
    expect(chat.box).to_be_focused()
    with page.expect_file_chooser() as chooser:
        # What asks the page where the focus is answers after the browser was told whose the choosers are: a key alone
        # may be there before that, and what it opens is nobody's.
        tab_to(page, "Add images", "Shift+Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files([file("one.png"), file("two.png")])
    composer.settled(2)
    expect(page.locator("#announcer")).to_have_text("2 images added.")
    expect(chat.box).to_be_focused()
    tab_to(page, "Remove one.png", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(composer.remove("two.png")).to_be_focused()
    page.keyboard.press("Enter")
    expect(chat.box).to_be_focused()


@pytest.mark.parametrize(("locale", "scheme"), LOOKS)
def test_axe_finds_nothing_serious_about_images(
    visit: Callable[..., Visitor], server: ServerProcess, locale: str, scheme: str
) -> None:
    guest = visit(server.url, locale=locale, color_scheme=scheme)
    guest.expected = ("400",)
    page = guest.page
    page.goto("/")
    expect(page.locator("#examples button").first).to_be_visible()
    page.locator("#choose-images").set_input_files([file("one.png"), file("two.png")])
    expect(page.locator(".thumbnail canvas")).to_have_count(2)
    expect(page.locator(".spinner:visible")).to_have_count(0)
    page.locator("#message").press("Enter")
    assert_visible(page.locator("#log .gallery img"), 2)
    page.locator("#choose-images").set_input_files([file("three.png"), file("notes.txt", b"no image", "text/plain")])
    expect(page.locator(".thumbnail.failed")).to_be_visible()
    assert serious(page) == []


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 3840, "height": 2160}}], ids=["phone", "4K"])
def test_images_fit_the_window(
    visit: Callable[..., Visitor], server: ServerProcess, options: dict[str, object]
) -> None:
    guest = visit(server.url, **options)
    guest.expected = ("400",)
    chat = Chat(guest.page).open()
    composer = Composer(chat)
    wide, tall = picture(size=(1600, 60)), picture(size=(60, 1600))
    for content in (wide, tall):
        composer.added(file("one.png", content))
        chat.ask("It fits")
    composer.added(*[file(f"{number}.png", wide) for number in range(9)])
    composer.add(file("notes.txt", b"no image", "text/plain"))
    expect(chat.page.locator(".thumbnail.failed")).to_be_visible()
    size = chat.page.viewport_size
    assert size
    assert chat.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for shown in [*chat.questions.locator("img").all(), chat.box, chat.send_button, *composer.thumbnails.all()]:
        box = shown.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
    log = chat.page.locator("#scroller").bounding_box()
    assert log
    assert log["height"] > size["height"] / 4

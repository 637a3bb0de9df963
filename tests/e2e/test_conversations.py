"""What can be done with messages, and with conversations in the list."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.upstream import ScriptedUpstream, answer

from .browser import Visitor
from .chat import Chat, directive, say_by_api, stored
from .routes import hold, wait_for_routes


def test_an_answer_is_made_anew_and_both_can_be_seen(
    chat: Chat, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    chat.ask(directive("The first answer."))
    upstream.script.append(answer("The second answer."))
    again = chat.answers.last.get_by_role("button", name="Regenerate")
    again.click()
    chat.page.get_by_role("menuitem", name="Try again").click()
    expect(chat.text()).to_have_text("The second answer.")
    chat.wait_until_idle()
    versions = chat.answers.last.get_by_role("group", name="Versions")
    expect(versions).to_contain_text("2/2")
    versions.get_by_role("button", name="Previous version").click()
    expect(chat.text()).to_have_text("The first answer.")
    expect(versions).to_contain_text("1/2")
    assert stored(client, chat.conversation)[-1]["content"] == "The first answer."
    versions.get_by_role("button", name="Next version").click()
    expect(chat.text()).to_have_text("The second answer.")
    expect(chat.answers).to_have_count(1)


def test_a_message_is_edited_and_sent_anew(chat: Chat, client: httpx.Client) -> None:
    chat.ask("What is two and two?")
    chat.ask("And three and three?")
    question = chat.questions.first
    question.hover()
    question.get_by_role("button", name="Edit").click()
    area = chat.page.get_by_role("textbox", name="Edit the message")
    expect(area).to_have_value("What is two and two?")
    area.fill("What is four and four?")
    chat.page.get_by_role("button", name="Send anew").click()
    expect(chat.answers).to_have_count(1)
    expect(chat.text()).to_contain_text("four and four")
    chat.wait_until_idle()
    expect(chat.questions.first.get_by_role("group", name="Versions")).to_contain_text("2/2")
    assert [message["content"] for message in stored(client, chat.conversation) if message["role"] == "user"] == [
        "What is four and four?"
    ]


def test_a_question_can_be_edited_though_the_next_came_before_its_id(chat: Chat) -> None:
    held = hold(chat.page, "**/messages?*limit=2")
    chat.ask("What is two and two?")
    edit = chat.questions.first.get_by_role("button", name="Edit")
    expect(edit).to_be_disabled()
    chat.ask("And three and three?")
    wait_for_routes(chat.page, held)[0].continue_()
    expect(edit).to_be_enabled()


def test_copy_gives_the_answer_as_the_model_wrote_it(chat: Chat) -> None:
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.ask(directive("Some **bold** text\n\n", "- and\n- a list"))
    chat.answers.last.get_by_role("button", name="Copy").last.click()
    expect(chat.page.get_by_text("Copied", exact=True)).to_have_count(1)
    assert chat.page.evaluate("navigator.clipboard.readText()") == "Some **bold** text\n\n- and\n- a list"


def test_reasoning_is_folded_with_its_time(chat: Chat) -> None:
    chat.ask(directive("So it is.", reasoning=["I think ", "it through."]))
    thoughts = chat.answers.last.locator("details")
    expect(thoughts).to_contain_text("Thought for")
    assert thoughts.get_attribute("open") is None
    thoughts.locator("summary").click()
    expect(thoughts.get_by_text("I think it through.")).to_be_visible()
    expect(chat.text()).to_have_text("So it is.")


def test_an_answer_says_which_model_made_it_of_how_many_tokens(chat: Chat) -> None:
    chat.ask(directive("one ", "two ", "three"))
    expect(chat.answers.last).to_contain_text("scripted")
    expect(chat.answers.last).to_contain_text("3 tokens")


def test_a_failed_answer_says_what_happened_and_can_be_tried_again(chat: Chat, upstream: ScriptedUpstream) -> None:
    chat.ask('!script {"status": 401, "body": {"error": {"message": "no"}}}')
    expect(chat.answers.last.locator(".trouble")).to_be_visible()
    upstream.script.append(answer("Now it works."))
    chat.answers.last.get_by_role("button", name="Regenerate").click()
    expect(chat.text()).to_have_text("Now it works.")


# The list ---------------------------------------------------------------------------------------------------
def test_a_conversation_is_listed_as_it_begins_and_opens_on_a_click(chat: Chat) -> None:
    chat.ask("Listed tortoise question")
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(chat.answers).to_have_count(0)
    chat.list.get_by_role("link", name="Listed tortoise question").click()
    expect(chat.text()).to_contain_text("You said: Listed tortoise question")


def test_search_finds_words_and_leads_to_them(chat: Chat, client: httpx.Client) -> None:
    say_by_api(client, "Where do platypuses sleep")
    say_by_api(client, "An unrelated giraffe")
    field = chat.page.get_by_role("searchbox", name="Search conversations")
    field.fill("platypuses")
    found = chat.list.get_by_role("listitem")
    expect(found).to_have_count(1)
    expect(found.locator("mark").first).to_have_text("platypuses")
    found.get_by_role("link").first.click()
    expect(chat.text()).to_contain_text("platypuses")
    field.fill("no such word anywhere")
    expect(chat.page.get_by_text("Nothing was found.")).to_be_visible()
    field.press("Escape")
    expect(chat.list.get_by_role("link", name="An unrelated giraffe")).to_be_visible()


def test_a_conversation_is_renamed(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "Rename the walrus")
    chat.open(turn["session_id"])
    chat.actions_for("Rename the walrus").get_by_role("menuitem", name="Rename").click()
    field = chat.page.get_by_role("textbox", name="Title")
    field.fill("A seal now")
    field.press("Enter")
    expect(chat.list.get_by_role("link", name="A seal now")).to_be_visible()
    expect(chat.page.get_by_role("heading", level=1)).to_have_text("A seal now")
    chat.page.reload()
    expect(chat.list.get_by_role("link", name="A seal now")).to_be_visible()
    assert client.get(f"/conversations/{turn['session_id']}").json()["title"] == "A seal now"


def test_what_is_deleted_can_be_had_back(chat: Chat, guest: Visitor, client: httpx.Client) -> None:
    guest.expected = ("404",)  # the page may look once more at what was just deleted
    turn = say_by_api(client, "Delete the ostrich")
    chat.open(turn["session_id"])
    chat.actions_for("Delete the ostrich").get_by_role("menuitem", name="Delete").click()
    link = chat.list.get_by_role("link", name="Delete the ostrich")
    expect(link).to_have_count(0)
    expect(chat.answers).to_have_count(0)
    assert client.get(f"/conversations/{turn['session_id']}").status_code == 404
    chat.page.get_by_role("button", name="Undo").click()
    expect(link).to_be_visible()
    link.click()
    expect(chat.text()).to_contain_text("ostrich")


@pytest.mark.parametrize(("item", "back"), [("Archive", "Bring back"), ("Pin", "Unpin")])
def test_a_conversation_is_put_aside_or_on_top_and_back(
    chat: Chat, client: httpx.Client, item: str, back: str
) -> None:
    title = f"{item} the lemur"
    say_by_api(client, title)
    say_by_api(client, "A later one")
    link = chat.list.get_by_role("link", name=title)
    expect(link).to_be_visible()
    chat.actions_for(title).get_by_role("menuitem", name=item).click()
    if item == "Pin":
        expect(chat.list.get_by_role("listitem").first).to_contain_text(title)
    else:
        expect(link).to_have_count(0)
        chat.page.get_by_role("button", name="Menu").click()
        chat.page.get_by_role("menuitem", name="Show the archive").click()
        expect(link).to_be_visible()
    chat.actions_for(title).get_by_role("menuitem", name=back).click()
    if item == "Pin":
        expect(chat.list.get_by_role("listitem").first).not_to_contain_text(title)
    else:
        expect(link).to_have_count(0)


def test_what_the_feed_tells_while_the_list_is_on_its_way_is_newer_than_the_list(
    guest: Visitor, client: httpx.Client
) -> None:
    client.post("/conversations", json={"title": "A quagga that was there"})
    held: list[Route] = []
    guest.page.route("**/conversations?limit=40", lambda route: held.append(route))
    chat = Chat(guest.page)
    chat.open()
    (route,) = wait_for_routes(guest.page, held)
    response = route.fetch()
    say_by_api(client, "A quagga that came later")
    later = chat.list.get_by_role("link", name="A quagga that came later")
    expect(later).to_be_visible()
    route.fulfill(response=response)
    expect(chat.list.get_by_role("link", name="A quagga that was there")).to_be_visible()
    expect(later).to_be_visible()


def test_what_is_new_does_not_take_a_row_from_under_the_reader(chat: Chat, client: httpx.Client) -> None:
    say_by_api(client, "The row of an okapi")
    button = chat.list.get_by_role("button", name="Actions for The row of an okapi")
    button.focus()
    row = button.element_handle()
    say_by_api(client, "An okapi beside it")
    expect(chat.list.get_by_role("link", name="An okapi beside it")).to_be_visible()
    assert row.evaluate("row => row.isConnected && row === document.activeElement")
    button.press("Enter")
    chat.page.get_by_role("menuitem", name="Pin").click()
    expect(chat.list.get_by_role("listitem").first).to_contain_text("The row of an okapi")
    expect(button).to_be_focused()


def test_what_is_written_before_the_scripts_are_there_stays(chat: Chat) -> None:
    chat.box.fill("A draft that was there.")
    held = hold(chat.page, "**/page/main*.js")
    with chat.page.expect_request("**/page/main*.js"):
        chat.page.reload(wait_until="commit")
    chat.box.fill("Early words")
    chat.box.press("Enter")
    expect(chat.send_button).to_be_disabled()
    wait_for_routes(chat.page, held)[0].continue_()
    expect(chat.examples).to_be_visible()
    expect(chat.box).to_have_value("A draft that was there.\nEarly words")
    chat.page.unroute_all()
    chat.page.reload()
    expect(chat.box).to_have_value("A draft that was there.\nEarly words")


def test_a_rating_keeps_the_focus(chat: Chat) -> None:
    chat.ask("A question worth an answer")
    good = chat.answers.last.get_by_role("button", name="Good answer")
    good.focus()
    good.press("Enter")
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(good).to_be_focused()


def test_a_draft_stays_with_its_conversation(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "Drafts of a badger")
    chat.open(turn["session_id"])
    chat.box.fill("half a thou")
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(chat.box).to_have_value("")
    chat.list.get_by_role("link", name="Drafts of a badger").click()
    expect(chat.box).to_have_value("half a thou")
    chat.page.reload()
    expect(chat.box).to_have_value("half a thou")

"""What comes while something else is on its way: nothing is lost, said twice or shown where it does not belong."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.upstream import ScriptedUpstream, answer

from .browser import Visitor
from .chat import Chat, directive, say_by_api, stored
from .routes import hold, wait_for_routes

UNSENT = "Not sent."


def questions(client: httpx.Client, conversation: str) -> list[str]:
    return [message["content"] for message in stored(client, conversation) if message["role"] == "user"]


def test_a_message_waits_for_the_one_before_it_that_was_not_sent(
    chat: Chat, guest: Visitor, client: httpx.Client
) -> None:
    guest.expected = ("ERR_INTERNET_DISCONNECTED",)
    chat.ask("The first of a numbat")
    chat.page.context.set_offline(True)
    chat.box.fill("The second of a numbat")
    chat.box.press("Enter")
    expect(chat.questions.last).to_contain_text(UNSENT)
    chat.box.fill("The third of a numbat")
    chat.box.press("Enter")
    expect(chat.page.get_by_text("Send or discard the message that was not sent first.")).to_be_visible()
    expect(chat.box).to_have_value("The third of a numbat")
    expect(chat.questions).to_have_count(2)
    chat.page.context.set_offline(False)
    expect(chat.answers).to_have_count(2)
    chat.wait_until_idle()
    chat.box.press("Enter")
    expect(chat.answers).to_have_count(3)
    chat.wait_until_idle()
    assert questions(client, chat.conversation) == [
        f"The {number} of a numbat" for number in ("first", "second", "third")
    ]


def test_what_was_not_sent_of_two_tabs_stays_apart(guest: Visitor, client: httpx.Client) -> None:
    guest.expected = ("ERR_INTERNET_DISCONNECTED",)
    one, other = Chat(guest.page).open(), Chat(guest.context.new_page()).open()
    guest.context.set_offline(True)
    for chat, text in ((one, "Unsent of one"), (other, "Unsent of the other")):
        chat.box.fill(text)
        chat.box.press("Enter")
        expect(chat.questions.last).to_contain_text(UNSENT)
    guest.context.set_offline(False)
    for chat, text in ((one, "Unsent of one"), (other, "Unsent of the other")):
        expect(chat.answers).to_have_count(1)
        chat.wait_until_idle()
        assert questions(client, chat.conversation) == [text]


def test_a_new_chat_is_not_temporary_and_does_not_say_so(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Temporary chat").click()
    note = chat.page.get_by_text("Temporary: it is not listed")
    expect(note).to_be_visible()
    chat.page.get_by_role("button", name="New chat", exact=True).click()
    expect(note).to_have_count(0)


def test_a_link_within_the_page_leads_nowhere_else(chat: Chat) -> None:
    button = chat.page.get_by_role("button", name="Temporary chat")
    button.click()
    link = chat.page.get_by_role("link", name="To the message box")
    link.focus()
    link.press("Enter")
    expect(chat.box).to_be_focused()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_nothing_is_said_before_the_conversation_is_there(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "A thylacine, slowly")
    held = hold(chat.page, "**/messages?leaf=*")
    chat.page.goto(f"/?c={turn['session_id']}")
    route = wait_for_routes(chat.page, held)[0]
    chat.box.fill("And another")
    chat.box.press("Enter")
    expect(chat.box).to_have_value("And another")
    route.continue_()
    expect(chat.questions).to_have_count(1)
    expect(chat.send_button).to_be_enabled()
    chat.box.press("Enter")
    expect(chat.questions).to_have_count(2)
    chat.wait_until_idle()
    assert questions(client, turn["session_id"]) == ["A thylacine, slowly", "And another"]


def test_a_message_on_its_way_is_not_shown_as_unsent_to_who_comes_back(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "A tarsier")
    other = say_by_api(client, "Beside the tarsier")
    chat.open(turn["session_id"])
    held = hold(chat.page, "**/chat", "POST")
    chat.box.fill("On its way")
    chat.box.press("Enter")
    route = wait_for_routes(chat.page, held)[0]
    chat.list.get_by_role("link", name="Beside the tarsier").click()
    expect(chat.text()).to_contain_text("Beside the tarsier")
    chat.list.get_by_role("link", name="A tarsier").click()
    expect(chat.text()).to_contain_text("A tarsier")
    expect(chat.page.get_by_text(UNSENT)).to_have_count(0)
    route.continue_()
    expect(chat.questions).to_have_count(2)
    expect(chat.text()).to_contain_text("On its way")
    expect(chat.page.get_by_text(UNSENT)).to_have_count(0)
    chat.wait_until_idle()
    assert questions(client, turn["session_id"]) == ["A tarsier", "On its way"]
    assert questions(client, other["session_id"]) == ["Beside the tarsier"]


def test_a_message_that_the_server_has_is_not_unsent_after_a_reload(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "An aye-aye")
    chat.open(turn["session_id"])
    held = hold(chat.page, "**/chat", "POST")
    chat.box.fill("Heard, and not answered")
    chat.box.press("Enter")
    wait_for_routes(chat.page, held)[0].fetch()
    chat.page.reload()
    expect(chat.answers).to_have_count(2)
    expect(chat.questions).to_have_count(2)
    chat.wait_until_idle()
    expect(chat.page.get_by_text(UNSENT)).to_have_count(0)


def test_who_edits_is_not_disturbed_by_what_another_device_says(chat: Chat, client: httpx.Client) -> None:
    chat.ask("A question to edit")
    chat.questions.first.hover()
    chat.questions.first.get_by_role("button", name="Edit").click()
    area = chat.page.get_by_role("textbox", name="Edit the message")
    area.fill("Half of another wor")
    say_by_api(client, "From elsewhere", session_id=chat.conversation)
    expect(chat.answers).to_have_count(2)
    expect(area).to_have_value("Half of another wor")
    expect(area).to_be_focused()


def test_an_answer_whose_stream_was_refused_is_whole_once_it_has_ended(
    chat: Chat, guest: Visitor, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    guest.expected = ("400",)
    turn = say_by_api(client, "A solenodon")
    chat.open(turn["session_id"])
    problem = {"code": "invalid_position", "detail": "There is no such position."}
    chat.page.route("**/generations/*/stream", lambda route: route.fulfill(status=400, json=problem))
    said = directive("first ", "and last", gate="solenodon", gate_at=1)
    body = {"message": said, "session_id": turn["session_id"], "stream": True}
    with client.stream("POST", "/chat", json=body) as response:
        assert response.status_code == 200
        expect(chat.log.get_by_text("There is no such position.")).to_be_visible()
        upstream.gate("solenodon").open()
        response.read()
    expect(chat.text()).to_have_text("first and last")


def test_a_question_gets_its_id_though_the_network_failed_after_its_answer(chat: Chat, guest: Visitor) -> None:
    guest.expected = ("ERR_FAILED",)
    failed: list[Route] = []

    def fail(route: Route) -> None:
        if len(failed) < 2:
            failed.append(route)
            route.abort()
        else:
            route.continue_()

    chat.page.route("**/messages?*limit=2", fail)
    chat.ask("A question whose id comes late")
    expect(chat.questions.first.get_by_role("button", name="Edit")).to_be_enabled()
    assert len(failed) == 2


def test_enter_in_the_search_opens_what_was_searched_for(chat: Chat, client: httpx.Client) -> None:
    turn = say_by_api(client, "Where the zorilla lives")
    say_by_api(client, "Something newer")
    expect(chat.list.get_by_role("link", name="Something newer")).to_be_visible()
    field = chat.page.get_by_role("searchbox", name="Search conversations")
    field.fill("zorilla lives")
    field.press("Enter")
    chat.page.wait_for_url(f"**/?c={turn['session_id']}")


def test_a_tall_window_gets_more_than_the_first_page(
    visit: Callable[..., Visitor], server: object, client: httpx.Client
) -> None:
    for number in range(60):
        client.post("/conversations", json={"title": f"One of many {number}"})
    guest = visit(str(client.base_url), viewport={"width": 900, "height": 4000})
    chat = Chat(guest.page).open()
    expect(chat.list.get_by_role("link", name="One of many 0", exact=True)).to_be_visible()
    guest.context.close()


def test_who_clicks_elsewhere_after_a_rename_is_there(chat: Chat, client: httpx.Client) -> None:
    say_by_api(client, "Rename the fossa")
    expect(chat.list.get_by_role("link", name="Rename the fossa")).to_be_visible()
    chat.actions_for("Rename the fossa").get_by_role("menuitem", name="Rename").click()
    chat.page.get_by_role("textbox", name="Title").fill("The fossa, renamed")
    chat.box.click()
    expect(chat.list.get_by_role("link", name="The fossa, renamed")).to_be_visible()
    expect(chat.box).to_be_focused()


def test_who_sends_by_the_button_writes_on(chat: Chat) -> None:
    chat.box.fill("By the button")
    chat.send_button.press("Enter")
    expect(chat.answers).to_have_count(1)
    expect(chat.box).to_be_focused()


@pytest.mark.parametrize("key", ["Escape", "Enter"])
def test_a_rename_by_key_goes_back_to_its_row(chat: Chat, client: httpx.Client, key: str) -> None:
    title = f"Rename by {key}"
    say_by_api(client, title)
    expect(chat.list.get_by_role("link", name=title)).to_be_visible()
    chat.actions_for(title).get_by_role("menuitem", name="Rename").click()
    chat.page.get_by_role("textbox", name="Title").press(key)
    expect(chat.list.get_by_role("link", name=title)).to_be_focused()


def test_a_draft_of_one_tab_is_not_that_of_another(guest: Visitor) -> None:
    one, other = Chat(guest.page).open(), Chat(guest.context.new_page()).open()
    other.box.fill("A draft of the other tab")
    one.box.fill("What is sent at once")
    one.box.press("Enter")
    expect(one.answers).to_have_count(1)
    other.page.reload()
    expect(other.box).to_have_value("A draft of the other tab")


def test_a_model_s_answer_that_another_tab_asked_for_does_not_move_the_reader(
    chat: Chat, client: httpx.Client, upstream: ScriptedUpstream
) -> None:
    upstream.script.append(answer(*["A long line of text.\n\n"] * 80))
    chat.ask("A long answer, please")
    chat.page.locator("#scroller").evaluate("element => { element.scrollTop = 0; }")
    chat.page.wait_for_timeout(50)
    say_by_api(client, "From elsewhere", session_id=chat.conversation)
    expect(chat.answers).to_have_count(2)
    assert chat.page.locator("#scroller").evaluate("element => element.scrollTop") < 100

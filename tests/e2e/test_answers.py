"""Answers as they come, through whatever happens in the middle of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, call

from .breaking import line_to
from .browser import Visitor
from .chat import ANSWER_MS, Chat, directive, stored

FIRST = [f"word{number} " for number in range(40)]
REST = [f"more{number} " for number in range(40)]
WHOLE = "".join([*FIRST, *REST]).strip()


@pytest.fixture
def gated(request: pytest.FixtureRequest, upstream: ScriptedUpstream) -> Iterator[str]:
    """The name of a gate in the middle of an answer; nobody waits there after the test."""
    yield request.node.name
    upstream.gate(request.node.name).open()


def half(gate: str) -> str:
    """A message whose answer waits in its middle."""
    return directive(*FIRST, *REST, gate=gate, gate_at=len(FIRST))


def is_as_stored(chat: Chat, client: httpx.Client, number: int = -1) -> None:
    """The answer on the page is what the server has, letter for letter."""
    chat.wait_until_idle()
    content = stored(client, chat.conversation)[number]["content"]
    expect(chat.text(number)).to_have_text(content.strip())
    assert chat.text(number).inner_text().strip() == content.strip()


def test_an_answer_streams_in_and_is_what_the_server_stored(
    chat: Chat, client: httpx.Client, upstream: ScriptedUpstream, gated: str
) -> None:
    chat.say(half(gated))
    expect(chat.text()).to_contain_text(FIRST[-1].strip())
    expect(chat.text()).not_to_contain_text("more")
    expect(chat.log).to_have_attribute("aria-busy", "true")
    upstream.gate(gated).open()
    expect(chat.text()).to_contain_text(REST[-1].strip())
    is_as_stored(chat, client)
    assert chat.text().inner_text().strip() == WHOLE


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_an_answer_stops_when_it_is_told_to(chat: Chat, client: httpx.Client, how: str) -> None:
    chat.say(directive("tick ", endless=True, delay=0.02))
    expect(chat.text()).to_contain_text("tick tick")
    if how == "button":
        chat.stop_button.click()
    else:
        chat.page.keyboard.press("Escape")
    is_as_stored(chat, client)
    assert stored(client, chat.conversation)[-1]["status"] == "stopped"
    expect(chat.answers.last).to_contain_text("You stopped this answer.")


def test_escape_closes_what_is_open_before_it_stops_an_answer(chat: Chat, client: httpx.Client) -> None:
    panel = chat.page.locator("#panel")
    opener = chat.page.get_by_role("button", name="How it answers")
    chat.say(directive("tick ", endless=True, delay=0.02))
    expect(chat.text()).to_contain_text("tick tick")
    opener.click()
    chat.page.get_by_label("System prompt").fill("Briefly.")
    chat.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(opener).to_be_focused()
    expect(chat.stop_button).to_be_visible()
    opener.click()
    expect(chat.page.get_by_label("System prompt")).to_have_value("Briefly.")
    chat.box.click()
    expect(panel).to_be_hidden()
    expect(chat.box).to_be_focused()
    chat.page.keyboard.press("Escape")
    is_as_stored(chat, client)
    assert stored(client, chat.conversation)[-1]["status"] == "stopped"
    assert client.get(f"/conversations/{chat.conversation}").json()["system_prompt"] == "Briefly."


def test_a_page_that_is_loaded_anew_goes_on_with_the_answer(
    chat: Chat, client: httpx.Client, upstream: ScriptedUpstream, gated: str
) -> None:
    chat.say(half(gated))
    expect(chat.text()).to_contain_text(FIRST[-1].strip())
    assert chat.conversation
    chat.page.reload()
    expect(chat.text()).to_contain_text(FIRST[-1].strip())
    expect(chat.stop_button).to_be_visible()
    upstream.gate(gated).open()
    expect(chat.text()).to_contain_text(REST[-1].strip())
    is_as_stored(chat, client)


def test_two_windows_show_one_live_answer(
    guest: Visitor, chat: Chat, client: httpx.Client, upstream: ScriptedUpstream, gated: str
) -> None:
    chat.ask("Hello there")
    other = Chat(guest.context.new_page()).open(chat.conversation)
    chat.say(half(gated))
    for each in (chat, other):
        expect(each.text()).to_contain_text(FIRST[-1].strip())
    upstream.gate(gated).open()
    for each in (chat, other):
        is_as_stored(each, client)
    assert other.text().inner_text() == chat.text().inner_text()


def test_somebody_elses_device_shows_it_as_well(
    visit: Callable[..., Visitor], server: ServerProcess, chat: Chat, upstream: ScriptedUpstream, gated: str
) -> None:
    """Where nobody logs in, all that call are one."""
    chat.ask("Hello over there")
    other = Chat(visit(server.url).page).open(chat.conversation)
    other.say(half(gated))
    for each in (chat, other):
        expect(each.text()).to_contain_text(FIRST[-1].strip())
    upstream.gate(gated).open()
    for each in (chat, other):
        each.wait_until_idle()
        expect(each.text()).to_have_text(WHOLE)


def test_an_answer_goes_on_after_the_network_was_away(
    guest: Visitor, chat: Chat, client: httpx.Client, upstream: ScriptedUpstream, gated: str
) -> None:
    guest.expected = ("ERR_INTERNET_DISCONNECTED",)
    chat.say(half(gated))
    expect(chat.text()).to_contain_text(FIRST[-1].strip())
    guest.context.set_offline(True)
    expect(chat.page.get_by_text("You are offline.")).to_be_visible()
    upstream.gate(gated).open()
    guest.context.set_offline(False)
    expect(chat.text()).to_contain_text(REST[-1].strip(), timeout=ANSWER_MS)
    is_as_stored(chat, client)
    expect(chat.page.get_by_text("You are offline.")).to_be_hidden()


def test_what_was_said_offline_is_sent_once(guest: Visitor, chat: Chat, client: httpx.Client) -> None:
    guest.expected = ("ERR_INTERNET_DISCONNECTED",)
    chat.ask("Before the network went")
    guest.context.set_offline(True)
    chat.box.fill("While it was away")
    chat.box.press("Enter")
    expect(chat.questions.last).to_contain_text("Not sent.")
    guest.context.set_offline(False)
    expect(chat.answers).to_have_count(2, timeout=ANSWER_MS)
    chat.wait_until_idle()
    said = [message["content"] for message in stored(client, chat.conversation) if message["role"] == "user"]
    assert said == ["Before the network went", "While it was away"]


def test_an_answer_outlives_a_connection_that_is_cut(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client, upstream: ScriptedUpstream, gated: str
) -> None:
    with line_to(server.port) as line:
        guest = visit(f"http://127.0.0.1:{line.port}")
        guest.expected = ("ERR_",)
        chat = Chat(guest.page).open()
        chat.say(half(gated))
        expect(chat.text()).to_contain_text(FIRST[-1].strip())
        assert line.cut()
        upstream.gate(gated).open()
        expect(chat.text()).to_contain_text(REST[-1].strip(), timeout=ANSWER_MS)
        is_as_stored(chat, client)
        guest.context.close()


def test_a_page_outlives_its_server(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess], upstream: ScriptedUpstream, gated: str
) -> None:
    server = new_server()
    with server:
        guest = visit(server.url)
        guest.expected = ("ERR_", "503")
        chat = Chat(guest.page).open()
        chat.say(half(gated))
        expect(chat.text()).to_contain_text(FIRST[-1].strip())
        server.kill()
        upstream.gate(gated).open()
        server.start()
        expect(chat.answers.last).to_contain_text("in the middle of this answer", timeout=2 * ANSWER_MS)
        with server.client() as client:
            is_as_stored(chat, client)
        chat.answers.last.get_by_role("button", name="Regenerate").click()
        expect(chat.text()).to_have_text(WHOLE, timeout=ANSWER_MS)
        guest.context.close()


def test_calls_of_tools_and_their_results_are_shown_folded(chat: Chat, client: httpx.Client) -> None:
    """Of a conversation that a program began and the page goes on with."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    calls = call(0, '{"city": "<b>Paris</b>"}', id="one", name="weather")
    message = directive("I look.", deltas=calls)
    first = client.post("/chat", json={"message": message, "tools": [tool], "stream": False}).json()
    results = [{"id": "one", "content": "8 degrees <i>"}]
    client.post("/chat", json={"session_id": first["session_id"], "tool_results": results, "stream": False})
    chat.open(first["session_id"])
    asked = chat.answers.first.get_by_text("Asks for the tool weather")
    asked.click()
    expect(chat.answers.first.get_by_text('{"city": "<b>Paris</b>"}')).to_be_visible()
    chat.results.get_by_text("What the tool said").click()
    expect(chat.results.get_by_text("8 degrees <i>")).to_be_visible()
    expect(chat.answers).to_have_count(2)
    chat.ask("And now?")
    expect(chat.answers).to_have_count(3)

"""How long the browser keeps what is written and not sent: as long as its conversation and the login, no longer."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.processes.server import ServerProcess

from .accounts import add_account, log_in
from .browser import Visitor
from .chat import Chat, say_by_api
from .test_comfort import edit_of
from .test_images import Composer

KEPT = """() => [sessionStorage, localStorage].flatMap((store, at) => Object.keys(store)
    .filter((key) => /^chat\\.(draft|images)\\./.test(key)).map((key) => (at ? "all: " : "tab: ") + key))"""


def kept(page: Page) -> list[str]:
    """The names of the drafts that this tab and all tabs have."""
    return sorted(page.evaluate(KEPT))


def expect_kept(page: Page, number: int) -> None:
    """Wait until so many are."""
    page.wait_for_function(f"(number) => ({KEPT})().length === number", arg=number)


def draft(chat: Chat) -> None:
    """Write in the composer, with an image, and in the first message."""
    chat.box.fill("A draft")
    Composer(chat).added()
    edit_of(chat).fill("A change")


def test_drafts_are_kept_by_conversation(chat: Chat, client: httpx.Client) -> None:
    key = say_by_api(client, "Drafts of a vole")["session_id"]
    draft(chat.open(key))
    names = kept(chat.page)
    assert len(names) == 6
    assert all(f".{key}" in name for name in names), names


def test_drafts_go_with_their_conversation_and_come_back_with_it(
    guest: Visitor, chat: Chat, client: httpx.Client
) -> None:
    guest.expected = ("404",)
    other = say_by_api(client, "Drafts that stay")["session_id"]
    draft(chat.open(other))
    others = kept(chat.page)
    key = say_by_api(client, "Drafts of a mole")["session_id"]
    draft(chat.open(key))
    assert len(kept(chat.page)) == 12
    chat.actions_for("Drafts of a mole").get_by_role("menuitem", name="Delete").click()
    expect(chat.examples).to_be_visible()
    expect_kept(chat.page, 6)
    assert kept(chat.page) == others
    chat.page.get_by_role("button", name="Undo").click()
    chat.list.get_by_role("link", name="Drafts of a mole").click()
    expect(chat.box).to_have_value("A draft")
    Composer(chat).settled(1)
    expect(edit_of(chat)).to_have_value("A change")
    assert len(kept(chat.page)) == 12


@pytest.mark.parametrize("is_open", [True, False])
def test_drafts_go_when_the_conversation_was_deleted_elsewhere(
    guest: Visitor, chat: Chat, client: httpx.Client, is_open: bool
) -> None:
    guest.expected = ("404",)
    key = say_by_api(client, "Drafts of a shrew")["session_id"]
    draft(chat.open(key))
    if not is_open:
        chat.page.get_by_role("button", name="New chat").click()
        expect(chat.examples).to_be_visible()
    assert len(kept(chat.page)) == 6
    client.delete(f"/conversations/{key}").raise_for_status()
    expect_kept(chat.page, 0)


def test_drafts_go_when_the_page_finds_their_conversation_gone(
    guest: Visitor, chat: Chat, client: httpx.Client
) -> None:
    guest.expected = ("404",)
    key = say_by_api(client, "Drafts of a dormouse")["session_id"]
    draft(chat.open(key))
    chat.page.goto("about:blank")
    client.delete(f"/conversations/{key}").raise_for_status()
    chat.page.goto(f"/?c={key}")
    expect(chat.page.get_by_text("This conversation is not there any more.")).to_be_visible()
    assert kept(chat.page) == []


def test_drafts_of_a_temporary_chat_are_the_tab_s_and_go_as_it_is_left(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Temporary chat").click()
    chat.ask("Nobody shall know")
    draft(chat)
    key = chat.conversation
    assert [name.partition(": ")[0] for name in kept(chat.page)] == ["tab"] * 3
    chat.open(key)
    expect(chat.box).to_have_value("A draft")
    chat.box.fill("A draft yet")
    assert [name.partition(": ")[0] for name in kept(chat.page)] == ["tab"] * 3
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.examples).to_be_visible()
    assert kept(chat.page) == []


def set_temperature(chat: Chat) -> str:
    """Set how the open conversation is answered; return where."""
    chat.page.get_by_role("button", name="How it answers").click()
    chat.page.get_by_label("Temperature").fill("1.5")
    chat.page.keyboard.press("Escape")
    return chat.conversation


def stays(page: Page, key: str) -> list[str]:
    """What the browser keeps that names a conversation; that one was temporary says its tab as long as it is open."""
    names: list[str] = page.evaluate("() => [...Object.keys(localStorage), ...Object.keys(sessionStorage)]")
    return [name for name in names if key in name and not name.startswith("chat.temporary.")]


def test_how_a_conversation_is_answered_goes_and_comes_back_with_it(
    guest: Visitor, chat: Chat, client: httpx.Client
) -> None:
    guest.expected = ("404",)
    chat.open(say_by_api(client, "Heat of a marmot")["session_id"])
    key = set_temperature(chat)
    chat.page.evaluate("(key) => localStorage.setItem(`chat.unsent.${key}`, '[]')", key)
    assert len(stays(chat.page, key)) == 2
    chat.actions_for("Heat of a marmot").get_by_role("menuitem", name="Delete").click()
    expect(chat.examples).to_be_visible()
    chat.page.wait_for_function("(key) => !Object.keys(localStorage).some((name) => name.includes(key))", arg=key)
    chat.page.get_by_role("button", name="Undo").click()
    chat.list.get_by_role("link", name="Heat of a marmot").click()
    expect(chat.page.get_by_label("Temperature")).to_have_value("1.5")


def test_a_temporary_chat_is_known_as_one_after_a_reload_and_leaves_nothing(chat: Chat) -> None:
    chat.page.get_by_role("button", name="Temporary chat").click()
    chat.ask("Nobody shall know")
    key = set_temperature(chat)
    title = chat.page.get_by_role("heading", level=1)
    expect(title).to_have_text("Temporary chat")
    chat.open(key)
    expect(title).to_have_text("Temporary chat")
    expect(chat.page.get_by_label("Temperature")).to_have_value("1.5")
    assert chat.page.evaluate("() => Object.keys(localStorage).filter((name) => name.includes('options'))") == []
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.examples).to_be_visible()
    assert stays(chat.page, key) == []


# Logins -----------------------------------------------------------------------------------------------------
@pytest.fixture
def shared(visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess]) -> tuple[ServerProcess, Visitor]:
    """A server where one logs in, which is not running yet, and a browser that two use in turn."""
    server = new_server(REQUIRE_LOGIN="true")
    for name in ("dora", "emil"):
        add_account(server.env, name)
    return server, visit(server.url)


def enter(page: Page, name: str) -> Chat:
    page.goto("/")
    log_in(page, name)
    page.wait_for_url("**/")
    return Chat(page).open()


def test_drafts_go_with_the_login_in_every_tab(shared: tuple[ServerProcess, Visitor]) -> None:
    server, guest = shared
    with server:
        chat = enter(guest.page, "dora")
        chat.ask("A question")
        draft(chat)
        other = Chat(guest.context.new_page()).open()
        other.box.fill("A draft in another tab")
        assert len(kept(other.page)) == 5
        chat.page.get_by_role("button", name="dora").click()
        chat.page.get_by_role("menuitem", name="Log out").click()
        chat.page.wait_for_url("**/accounts/login**")
        assert kept(chat.page) == []
        expect_kept(other.page, 0)
        guest.expected = ("401", "403")
        guest.context.close()


def test_drafts_go_with_the_login_on_the_page_of_the_account(shared: tuple[ServerProcess, Visitor]) -> None:
    server, guest = shared
    with server:
        enter(guest.page, "dora").box.fill("A draft")
        guest.page.goto("/accounts/")
        assert len(kept(guest.page)) == 2
        guest.page.get_by_role("button", name="Log out").click()
        guest.page.wait_for_url("**/accounts/login**")
        assert kept(guest.page) == []
        guest.context.close()


def test_drafts_outlast_a_login_that_ends_by_itself_but_are_not_for_others(
    shared: tuple[ServerProcess, Visitor],
) -> None:
    server, guest = shared
    with server:
        chat = enter(guest.page, "dora")
        chat.box.fill("A draft")
        guest.context.clear_cookies(name="sessionid")
        chat = enter(guest.page, "dora")
        expect(chat.box).to_have_value("A draft")
        chat.page.get_by_role("button", name="How it answers").click()
        chat.page.get_by_label("Temperature").fill("1.5")
        guest.context.clear_cookies(name="sessionid")
        chat = enter(guest.page, "emil")
        expect(chat.box).to_have_value("")
        expect(chat.page.get_by_label("Temperature")).to_have_value("0.7")
        assert kept(guest.page) == []
        guest.expected = ("401", "403")
        guest.context.close()

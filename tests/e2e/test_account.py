"""Where everybody must log in; and a model of one's own."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from playwright.sync_api import expect

from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream

from .accounts import add_account, log_in
from .browser import Visitor
from .chat import Chat, directive


def test_who_logs_in_sees_only_conversations_of_their_own(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess]
) -> None:
    server = new_server(REQUIRE_LOGIN="true")
    for name in ("ann", "bob"):
        add_account(server.env, name)
    with server:
        chats = {}
        for name in ("ann", "bob"):
            guest = visit(server.url)
            guest.page.goto("/")
            guest.page.wait_for_url("**/accounts/login**")
            log_in(guest.page, name)
            guest.page.wait_for_url(f"{server.url}/")
            chats[name] = Chat(guest.page).open()
        chats["ann"].ask("A secret of Ann's")
        chats["bob"].ask("A secret of Bob's")
        chats["bob"].page.reload()
        expect(chats["bob"].list.get_by_role("listitem")).to_have_count(1)
        expect(chats["bob"].list).to_contain_text("A secret of Bob's")
        of_ann, page = chats["ann"].conversation, chats["bob"].page
        page.goto("/")
        assert page.request.get(f"/conversations/{of_ann}").status == 404
        for chat in chats.values():
            chat.page.context.close()


def test_keys_are_made_shown_once_and_revoked_and_the_menu_logs_out(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess]
) -> None:
    server = new_server(REQUIRE_LOGIN="true")
    add_account(server.env, "cleo")
    with server, httpx.Client(base_url=server.url) as program:
        guest = visit(server.url)
        page = guest.page
        page.goto("/")
        log_in(page, "cleo")
        page.wait_for_url(f"{server.url}/")
        Chat(page).open()
        page.get_by_role("button", name="cleo").click()
        page.get_by_role("menuitem", name="Settings").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("No keys yet.")).to_be_visible()
        dialog.get_by_label("What the new key is for").fill("a notebook")
        dialog.get_by_label("It ends after").select_option("90 days")
        dialog.get_by_role("button", name="Make the key").click()
        key = dialog.get_by_role("textbox", name="The new key", exact=True).input_value()
        program.headers["Authorization"] = f"Bearer {key}"
        assert program.get("/conversations").status_code == 200
        keys = dialog.get_by_role("list", name="API keys").get_by_role("listitem")
        expect(keys).to_contain_text(["a notebook"])
        expect(keys).not_to_contain_text([key])
        page.keyboard.press("Escape")
        page.get_by_role("button", name="cleo").click()
        page.get_by_role("menuitem", name="Settings").click()
        expect(keys).to_have_count(1)
        expect(dialog.get_by_role("textbox", name="The new key", exact=True)).to_have_count(0)
        dialog.get_by_role("button", name="Revoke the key a notebook").click()
        expect(keys).to_have_count(0)
        assert program.get("/conversations").status_code == 401
        page.keyboard.press("Escape")
        page.get_by_role("button", name="cleo").click()
        page.get_by_role("menuitem", name="Log out").click()
        page.wait_for_url("**/accounts/login**")
        guest.context.close()


def test_a_model_of_ones_own_is_tried_and_then_answers(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess], upstream: ScriptedUpstream
) -> None:
    with new_server(LLM_API_URL="", LLM_MODEL="") as server:
        guest = visit(server.url)
        chat = Chat(guest.page).open()
        page = chat.page
        page.get_by_role("button", name="Menu").click()
        page.get_by_role("menuitem", name="Settings").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("URL").fill(upstream.url)
        dialog.get_by_label("Key").fill("sk-of-my-own-0123456789")
        dialog.get_by_label("Model's name").fill("my-own-model")
        dialog.get_by_role("button", name="Test").click()
        expect(dialog.get_by_text("my-own-model answered in")).to_be_visible()
        dialog.get_by_role("button", name="Save and use").click()
        expect(dialog.get_by_text("Saved.")).to_be_visible()
        page.keyboard.press("Escape")
        chat.ask(directive("From my own."))
        expect(chat.text()).to_have_text("From my own.")
        expect(chat.answers.last).to_contain_text("my-own-model")
        assert upstream.completions[-1].headers["authorization"] == "Bearer sk-of-my-own-0123456789"
        guest.context.close()

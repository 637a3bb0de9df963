"""The pages of admin that have scripts of their own."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.processes.server import ServerProcess

from .accounts import add_account, log_in
from .browser import Visitor
from .chat import directive, say_by_api

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_a_transcript_shows_what_the_model_wrote_as_the_chat_page_does(
    visit: Callable[..., Visitor], new_server: Callable[..., ServerProcess]
) -> None:
    server = new_server()
    add_account(server.env, "dot")
    with server, server.client() as client:
        said = directive(f"It is **bold**: {HOSTILE}\n\n```python\nx = 1\n```")
        session = say_by_api(client, said)["session_id"]
        client.patch(f"/conversations/{session}", json={"title": "To be looked at"})
        guest = visit(server.url)
        page = guest.page
        page.goto("/admin/login/?next=/admin/conversations/conversation/")
        log_in(page, "dot")
        page.get_by_role("link", name="To be looked at").click()
        answer = page.locator(".tr-assistant .tr-text")
        expect(answer.locator("strong")).to_have_text("bold")
        expect(answer.locator("pre code")).to_have_text("x = 1")
        expect(answer.get_by_role("button", name="Copy")).to_be_visible()
        expect(answer).to_contain_text(HOSTILE)
        expect(answer.locator("img, script")).to_have_count(0)
        expect(page.locator(".tr-user .tr-text")).to_have_text(said)
        guest.context.close()

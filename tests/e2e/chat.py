"""The chat page as a visitor of it uses it: by the names that people and their tools find things by."""

from __future__ import annotations

import json
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

# Long answers by a scripted model under load.
ANSWER_MS = 30_000


def directive(*chunks: str, **options: Any) -> str:
    """A message that tells the scripted upstream how to answer."""
    return "!script " + json.dumps({"chunks": chunks, **options})


class Chat:
    """A window with the chat page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.box = page.get_by_role("textbox", name="Message", exact=True)
        self.log = page.get_by_role("log", name="Conversation")
        self.answers = self.log.get_by_role("article", name="Answer")
        self.results = self.log.get_by_role("article", name="Results of tools")
        self.questions = self.log.get_by_role("article", name="You")
        self.list = page.get_by_role("list", name="Conversations")
        self.examples = page.get_by_role("list", name="Examples")
        self.send_button = page.get_by_role("button", name="Send", exact=True)
        self.stop_button = page.get_by_role("button", name="Stop", exact=True)

    def open(self, conversation: str = "") -> Chat:
        """Load the page, with a conversation or a new one, and wait until it can be used."""
        self.page.goto(f"/?c={conversation}" if conversation else "/")
        if conversation:
            expect(self.answers.last).to_be_visible()
        else:
            expect(self.examples).to_be_visible()  # it is there once the scripts are
        return self

    def say(self, text: str) -> Locator:
        """Send a message; return the answer that begins."""
        count = self.answers.count()
        self.box.fill(text)
        self.box.press("Enter")
        expect(self.answers).to_have_count(count + 1)
        return self.answers.nth(count)

    def ask(self, text: str) -> Locator:
        """Send a message, and return its answer when it is complete."""
        answer = self.say(text)
        self.wait_until_idle()
        return answer

    def wait_until_idle(self) -> None:
        """Wait until no answer is being made."""
        expect(self.log).to_have_attribute("aria-busy", "false", timeout=ANSWER_MS)
        expect(self.send_button).to_be_visible()

    @property
    def conversation(self) -> str:
        """The id of the conversation that is open."""
        self.page.wait_for_url("**/?c=*")
        return self.page.url.rpartition("=")[2]

    def text(self, number: int = -1) -> Locator:
        """Where an answer's text is."""
        return self.answers.nth(number).locator(".text")

    def actions_for(self, title: str) -> Locator:
        """Open the menu of a conversation in the list."""
        button = self.list.get_by_role("button", name=f"Actions for {title}")
        button.focus()
        button.click()
        return self.page.get_by_role("menu")


def stored(client: httpx.Client, conversation: str) -> list[dict[str, Any]]:
    """The messages of a conversation's branch, the oldest first."""
    path = f"/conversations/{conversation}"
    leaf = client.get(path).json()["active_leaf"]
    messages: list[dict[str, Any]] = client.get(f"{path}/messages?leaf={leaf}&limit=100").json()["messages"]
    return messages


def say_by_api(client: httpx.Client, text: str, **fields: Any) -> dict[str, Any]:
    """Have a whole turn without the page; returns what `POST /chat` does."""
    answer = client.post("/chat", json={"message": text, "stream": False, **fields})
    assert answer.status_code < 300, answer.text
    turn: dict[str, Any] = answer.json()
    return turn

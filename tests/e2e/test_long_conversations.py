"""A conversation of 10,000 messages opens at once, and is read without hitches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.processes.server import ServerProcess, manage

from .browser import Visitor
from .chat import Chat
from .tracing import longest_tasks

MESSAGES = 10_000
OPEN_MS = 1_000.0
LONGEST_MS = 50.0
# Screens that are scrolled up: some hundred messages.
SCREENS = 60
WHEN_SHOWN = """new MutationObserver((_changes, observer) => {
    if (!document.querySelector("#log article.assistant .text")?.textContent) return;
    window.shownAt = performance.now();
    observer.disconnect();
}).observe(document, { childList: true, subtree: true })"""
SCROLL_UP = """(screens) => new Promise((resolve) => {
    const scroller = document.querySelector("#scroller");
    const step = () => {
        scroller.scrollTop -= scroller.clientHeight / 2;
        screens -= 0.5;
        if (screens > 0) requestAnimationFrame(() => setTimeout(step, 30));
        else resolve();
    };
    step();
})"""


@pytest.fixture(scope="module")
def long_one(new_server: Callable[..., ServerProcess]) -> Iterator[tuple[ServerProcess, str]]:
    """A server with a long conversation, and its id."""
    server = new_server()
    manage(server.env, "seed_demo", "--conversations=1", f"--messages={MESSAGES}")
    with server, server.client() as client:
        yield server, client.get("/conversations").json()["conversations"][0]["session_id"]


@pytest.mark.alone
def test_it_opens_within_a_second(long_one: tuple[ServerProcess, str], visit: Callable[..., Visitor]) -> None:
    server, conversation = long_one
    guest = visit(server.url)
    Chat(guest.page).open()  # the files are there, as for whoever comes back
    guest.page.add_init_script(WHEN_SHOWN)
    shown = []
    for _visit in range(3):
        Chat(guest.page).open(conversation)
        shown.append(guest.page.evaluate("window.shownAt"))
    print(f"shown after {', '.join(f'{ms:.0f}' for ms in shown)} ms")
    assert min(shown) < OPEN_MS, shown  # other programs take turns with it
    guest.context.close()


@pytest.mark.alone
def test_no_task_is_long_while_it_is_scrolled(
    long_one: tuple[ServerProcess, str], visit: Callable[..., Visitor]
) -> None:
    server, conversation = long_one
    guest = visit(server.url)
    chat = Chat(guest.page).open(conversation)
    expect(chat.answers).not_to_have_count(0)
    before = chat.answers.count()
    tasks = longest_tasks(chat.page, lambda: chat.page.evaluate(SCROLL_UP, SCREENS))
    print(f"{chat.answers.count()} answers; the longest tasks took {', '.join(f'{ms:.1f}' for ms in tasks)} ms")
    assert chat.answers.count() >= before + 100
    assert tasks[0] < LONGEST_MS, tasks
    guest.context.close()

"""A first visit: how much it loads, how soon it works over a slow network, and that nothing is asked for twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.processes.server import ServerProcess

from .browser import Visitor
from .chat import Chat, directive, say_by_api
from .routes import hold, wait_for_routes

MOST_BYTES = 200_000
# A far server over a poor line.
LATENCY_MS, BYTES_A_SECOND = 300, 60_000
# Some twice what it took on two cores.
BOX_MS, WORKS_MS = 2_500, 6_500
WATCH = """
const look = () => {
  const note = (name, is) => { if (is) (window.moments ??= {})[name] ??= performance.now(); };
  note("box", performance.getEntriesByType("paint").length && document.querySelector("#message")?.offsetHeight);
  note("works", document.querySelector("#examples button"));
  if (!window.moments?.works) requestAnimationFrame(look);
};
look();
"""
# Long enough for what is there to be drawn.
SOME_FRAMES = """() => new Promise((drawn) => {
  let left = 20;
  const next = () => (left-- > 0 ? requestAnimationFrame(next) : drawn());
  next();
})"""
# Nothing that the page does by itself after a while.
WITHOUT_LONG_TIMERS = """
const real = window.setTimeout;
window.setTimeout = (run, wait, ...rest) => (wait >= 3000 ? 0 : real(run, wait, ...rest));
"""


def test_it_is_small_and_asks_no_other_host_and_nothing_twice(guest: Visitor) -> None:
    sizes: list[tuple[int, str]] = []
    guest.page.on(
        "requestfinished",
        lambda request: sizes.append(
            (sum(request.sizes()[part] for part in ("responseBodySize", "responseHeadersSize")), request.url)
        ),
    )
    with guest.page.expect_response("**/conversations?limit=40"):
        Chat(guest.page).open()
    guest.page.wait_for_load_state("load")
    guest.page.wait_for_function("() => document.querySelector('#model').options.length > 0")
    total = sum(size for size, _url in sizes)
    print(f"a first visit: {total} bytes in {len(sizes)} answers")
    assert total < MOST_BYTES, sorted(sizes, reverse=True)[:8]
    assert not [url for _size, url in sizes if "temml" in url or "vendor/highlight" in url]
    assert [url for url, count in Counter(url for _size, url in sizes).items() if count > 1] == []


@pytest.mark.alone
def test_over_a_slow_network_it_can_be_used_soon(browser: Browser, server: ServerProcess) -> None:
    """Not with ``visit``, whose look at each request takes longer than the network."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.add_init_script(WATCH)
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    speed = {"downloadThroughput": BYTES_A_SECOND, "uploadThroughput": BYTES_A_SECOND}
    network.send("Network.emulateNetworkConditions", {"offline": False, "latency": LATENCY_MS, **speed})
    page.goto("/", wait_until="commit")
    expect(page.get_by_role("list", name="Examples")).to_be_visible()
    moments = page.evaluate("() => window.moments")
    context.close()
    print(f"the box is there after {moments['box']:.0f} ms, and works after {moments['works']:.0f} ms")
    assert moments["box"] < BOX_MS
    assert moments["works"] < WORKS_MS


def test_the_first_answer_is_text_until_what_renders_it_is_there(guest: Visitor) -> None:
    held = hold(guest.page, "**/vendor/markdown-it.js")
    chat = Chat(guest.page)
    guest.page.goto("/", wait_until="commit")
    expect(chat.examples).to_be_visible()
    chat.ask(directive("Some **bold** text"))
    expect(chat.text()).to_have_text("Some **bold** text")
    wait_for_routes(guest.page, held)[0].continue_()
    expect(chat.text().locator("strong")).to_have_text("bold")
    expect(chat.text()).to_have_text("Some bold text")


def test_a_stored_answer_is_never_seen_unrendered(guest: Visitor, client: httpx.Client) -> None:
    turn = say_by_api(client, directive("Some **bold** text"))
    held = hold(guest.page, "**/vendor/markdown-it.js")
    chat = Chat(guest.page)
    with guest.page.expect_response("**/messages?leaf=*") as history:
        guest.page.goto(f"/?c={turn['session_id']}", wait_until="commit")
    history.value.finished()
    guest.page.evaluate(SOME_FRAMES)
    expect(chat.answers).to_have_count(0)
    wait_for_routes(guest.page, held)[0].continue_()
    expect(chat.text().locator("strong")).to_have_text("bold")


def test_without_what_renders_answers_they_are_text(guest: Visitor) -> None:
    guest.expected = ("markdown-it", "ERR_FAILED", "Failed to fetch")
    guest.page.route("**/vendor/markdown-it.js", lambda route: route.abort())
    chat = Chat(guest.page).open()
    chat.ask(directive("Some **bold** text"))
    expect(chat.text()).to_have_text("Some **bold** text")


def test_a_second_tab_has_its_list_though_the_first_one_watches_for_it(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    say_by_api(client, "Listed in both")
    guest = visit(server.url)
    for page in (guest.page, guest.context.new_page()):
        chat = Chat(page).open()
        expect(chat.list.get_by_role("link", name="Listed in both").first).to_be_visible()


def test_where_nobody_can_watch_there_is_a_list_all_the_same(guest: Visitor, client: httpx.Client) -> None:
    guest.expected = ("503",)
    say_by_api(client, "Listed without a feed")
    guest.page.route("**/events", lambda route: route.fulfill(status=503, body="{}"))
    chat = Chat(guest.page).open()
    expect(chat.list.get_by_role("link", name="Listed without a feed").first).to_be_visible()


def test_where_the_feed_is_held_back_on_its_way_there_is_a_list_all_the_same(
    guest: Visitor, client: httpx.Client
) -> None:
    say_by_api(client, "Listed before the feed")
    held = hold(guest.page, "**/events")
    chat = Chat(guest.page).open()
    expect(chat.list.get_by_role("link", name="Listed before the feed").first).to_be_visible()
    wait_for_routes(guest.page, held)[0].continue_()
    say_by_api(client, "Told by the feed")
    expect(chat.list.get_by_role("link", name="Told by the feed").first).to_be_visible()


@pytest.mark.parametrize("body", ["", ": nothing but a beat\n\n"])
def test_where_the_feed_ends_before_it_begins_there_is_a_list_all_the_same(
    guest: Visitor, client: httpx.Client, body: str
) -> None:
    say_by_api(client, "Listed without a word")
    guest.page.add_init_script(WITHOUT_LONG_TIMERS)
    guest.page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    chat = Chat(guest.page).open()
    expect(chat.list.get_by_role("link", name="Listed without a word").first).to_be_visible()

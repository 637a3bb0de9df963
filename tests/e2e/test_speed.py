"""An answer of 20,000 tokens, as it streams in, leaves the page's main thread free."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.upstream import ScriptedUpstream, answer

from .chat import Chat
from .tracing import least_of, longest_tasks

TOKENS = 20_000
CHARACTERS = TOKENS * 4
LONGEST_MS = 50.0
# Some twenty times what 100 tokens a second are: the same work in less time.
PER_FRAME = 160
WORDS = "The quick brown fox jumps over the **lazy dog**, runs `make test` and finds that $x^2$ grows. "
SECTION = (
    "## A title\n\n"
    + WORDS * 5
    + "\n\n- one\n- two "
    + WORDS
    + "\n\n```python\n"
    + "x = call(1, 'a')  # why\n" * 12
    + "```\n\n| a | b |\n|---|---|\n"
    + "| 1 | 2 |\n" * 5
    + "\n$$\n\\sum_{i=0}^n i^2\n$$\n\n"
)
TEXTS = {
    "sections": SECTION * (CHARACTERS // len(SECTION) + 1),
    "one block of code": "```python\n" + "value = call(1, 'abcdef')  # a comment\n" * (CHARACTERS // 39),
    "one list": f"- {WORDS.replace('$x^2$', 'it')}\n" * (CHARACTERS // 90),
}


@pytest.mark.alone
@pytest.mark.parametrize("kind", TEXTS)
def test_no_task_is_long_while_a_long_answer_streams_in(view: Page, kind: str) -> None:
    text = TEXTS[kind][:CHARACTERS]
    view.evaluate("harness.atOnce('```js\\n1\\n```\\n$x$')")  # the libraries are there, as after a first answer
    view.set_default_timeout(60_000)
    tasks = least_of(LONGEST_MS, lambda: longest_tasks(view, lambda: view.evaluate(STREAM, [text, PER_FRAME])))
    print(f"{kind}: the longest tasks took {', '.join(f'{ms:.1f}' for ms in tasks)} ms")
    assert tasks[0] < LONGEST_MS, tasks


STREAM = "([text, perFrame]) => harness.stream(text, perFrame)"
# No looking from outside while it comes: a look at what is on the page is a long task itself.
SEND_AND_WAIT = """() => new Promise((resolve) => {
    const log = document.querySelector("#log");
    let begun = false;
    new MutationObserver(() => {
        const busy = log.getAttribute("aria-busy") === "true";
        if (begun && !busy) setTimeout(resolve, 100);
        begun ||= busy;
    }).observe(log, { attributes: true });
    document.querySelector("#composer").requestSubmit();
})"""


@pytest.mark.alone
def test_nor_on_the_page_itself(chat: Chat, upstream: ScriptedUpstream) -> None:
    chunks = [SECTION[start : start + 20] for start in range(0, len(SECTION), 20)]
    sections = CHARACTERS // len(SECTION) + 1

    def measure() -> list[float]:
        chat.open().ask("The libraries are there: $x$")
        upstream.script.append(answer(*chunks, repeat=sections, delay=0.002))
        chat.box.fill("Tell me all of it")
        return longest_tasks(chat.page, lambda: chat.page.evaluate(SEND_AND_WAIT))

    tasks = least_of(LONGEST_MS, measure)
    print(f"the page: the longest tasks took {', '.join(f'{ms:.1f}' for ms in tasks)} ms")
    chat.wait_until_idle()
    expect(chat.text().locator("h2")).to_have_count(sections)
    assert tasks[0] < LONGEST_MS, tasks

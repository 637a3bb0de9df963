"""What axe finds on the page, in both languages and both themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.processes.server import ServerProcess

from .browser import Visitor
from .chat import directive, say_by_api

AXE = Path(__file__).resolve().parents[2] / "var" / "e2e" / "node_modules" / "axe-core" / "axe.min.js"
LOOKS = [(locale, scheme) for locale in ("en-GB", "zh-CN") for scheme in ("light", "dark")]
RICH = """# A title

Text with [a link](http://x.test), `code`, an ![image](http://x.test/i.png) and $x^2$.

> A quote

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```python
def f(x: int) -> str:  # a comment
    return f"{x}" + 'text' if x > 1 else None
```

```diff
- gone
+ come
```

$$
\\sum_{i=0}^n i
$$
"""


def serious(page: Page) -> list[str]:
    """What axe takes for serious, each with where it is."""
    if not AXE.exists():
        pytest.fail("axe is not installed (`make test-e2e` does it)")
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


@pytest.fixture(scope="module")
def conversation(server: ServerProcess) -> str:
    """A conversation with whatever there is to see."""
    with server.client() as client:
        turn = say_by_api(client, directive(RICH, reasoning=["I think."]))
        failing = '!script {"status": 401, "body": {}}'
        client.post("/chat", json={"message": failing, "stream": False, "session_id": turn["session_id"]})
        return str(turn["session_id"])


@pytest.mark.parametrize(("locale", "scheme"), LOOKS)
def test_axe_finds_nothing_serious(
    visit: Callable[..., Visitor], server: ServerProcess, conversation: str, locale: str, scheme: str
) -> None:
    page = visit(server.url, locale=locale, color_scheme=scheme).page
    page.goto("/")
    expect(page.locator("#examples").get_by_role("button").first).to_be_visible()
    assert serious(page) == []
    page.goto(f"/?c={conversation}")
    expect(page.locator("#log math").last).to_be_visible()
    expect(page.locator("#log .hljs-keyword").first).to_be_visible()
    expect(page.locator("#log .trouble").last).to_be_visible()
    page.locator("#log summary").first.click()
    assert serious(page) == []
    page.locator("#menu-button").click()
    assert serious(page) == []
    page.get_by_role("menuitem").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.locator("#open-panel").click()
    assert serious(page) == []


def test_axe_finds_nothing_serious_on_a_phone(
    visit: Callable[..., Visitor], server: ServerProcess, conversation: str
) -> None:
    page = visit(server.url, viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True).page
    page.goto(f"/?c={conversation}")
    expect(page.locator("#log math").last).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Open the side bar").tap()
    assert serious(page) == []


def test_finished_answers_are_announced_and_tokens_are_not(
    visit: Callable[..., Visitor], server: ServerProcess, client: httpx.Client
) -> None:
    page = visit(server.url).page
    conversation = say_by_api(client, "Announce nothing old")["session_id"]
    page.goto(f"/?c={conversation}")
    expect(page.get_by_role("article", name="Answer")).to_have_count(1)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(directive("All of ", "it."))
    box.press("Enter")
    expect(page.locator("#announcer")).to_have_text("All of it.")

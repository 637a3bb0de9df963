"""``python -m tests.e2e.screenshots FOLDER``: pictures of the chat page, as people see it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import run_upstream_in_thread

from .accounts import add_account, log_in
from .browser import executable

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
RAINBOW = """A rainbow is sunlight that **raindrops take apart**.

1. Light enters a drop and bends a little: each colour by its own angle.
2. It is thrown back from the inside of the drop.
3. It bends again on its way out, and the colours part.

| Colour | Angle | Where |
|---|--:|---|
| Red | 42.4° | outside |
| Violet | 40.5° | inside |

> You always have the sun behind you when you see one.
"""
CODE = """Reversing a string needs no loop in Python:

```python
def reverse(text: str) -> str:
    \"\"\"Return the text from its end to its beginning.\"\"\"
    return text[::-1]


assert reverse("stressed") == "desserts"  # and back
```

Its cost is linear, $O(n)$. In general, for $n$ steps of cost $c_i$:

$$
T(n) = \\sum_{i=1}^{n} c_i
  \\leq n \\cdot \\max_{1 \\leq i \\leq n} c_i = \\begin{cases} c & n = 1 \\\\ n\\,c & n > 1 \\end{cases}
$$
"""
CHINESE = """彩虹是**阳光被雨滴分开**后形成的。

1. 光线进入雨滴时发生折射，不同颜色的角度略有不同。
2. 光线在雨滴内部被反射。
3. 离开雨滴时再次折射，颜色就分开了。

> 看到彩虹时，太阳总在你的身后。
"""
TITLES = (
    "Plans for the garden",
    "A letter to the landlord",
    "Regular expressions for dates",
    "What to cook on Friday",
)
SETTLED = """() => document.querySelector("#log").getAttribute("aria-busy") !== "true"
    && !document.querySelector("#log .md-formula") && document.fonts.status === "loaded" """


def answered(client: httpx.Client, title: str, chunks: str, *, code: int = 200, **options: Any) -> str:
    """A conversation with one answer, and a title; returns its id."""
    usage = {"prompt_tokens": 31, "completion_tokens": len(chunks) // 4, "total_tokens": 31 + len(chunks) // 4}
    script = (
        {"chunks": [chunks], "usage": usage, **options}
        if code == 200
        else {"status": code, "body": {"error": {"message": "Incorrect API key provided"}}}
    )
    made = client.post("/chat", json={"message": f"!script {json.dumps(script)}", "stream": False}).json()
    client.patch(f"/conversations/{made['session_id']}", json={"title": title})
    return str(made["session_id"])


ADMIN = "operator"


class Camera:
    """Opens the page in some way, and writes a picture."""

    def __init__(self, browser: Browser, url: str, folder: Path, asked: dict[str, str]) -> None:
        self.browser, self.url, self.folder, self.asked = browser, url, folder, asked

    def take(
        self, name: str, conversation: str = "", act: Callable[[Page], object] | None = None, **options: Any
    ) -> None:
        context = self.browser.new_context(base_url=self.url, **{**DESKTOP, "locale": "en-GB", **options})
        page = context.new_page()
        page.goto(f"/?c={conversation}" if conversation else "/")
        page.wait_for_selector("#log article.assistant" if conversation else "#examples button")
        page.wait_for_selector("#conversations li", state="attached")
        page.wait_for_function(SETTLED)
        # What was asked is a script for the model: the picture shows a question instead.
        page.evaluate(
            "text => document.querySelectorAll('#log .bubble').forEach((e) => { e.textContent = text; })",
            self.asked.get(conversation, ""),
        )
        if act:
            act(page)
        page.screenshot(path=self.folder / f"{name}.png", animations="disabled")
        print(self.folder / f"{name}.png")
        context.close()

    def take_admin(self, name: str, model: str, act: Callable[[Page], object] | None = None) -> None:
        """Write a picture of a page of admin."""
        context = self.browser.new_context(base_url=self.url, locale="en-GB", **DESKTOP)
        page = context.new_page()
        page.goto(f"/admin/login/?next=/admin/conversations/{model}/")
        log_in(page, ADMIN)
        page.wait_for_selector("#content")
        if act:
            act(page)
        page.screenshot(path=self.folder / f"{name}.png", animations="disabled", full_page=True)
        print(self.folder / f"{name}.png")
        context.close()


def take_all(browser: Browser, server: ServerProcess, folder: Path) -> None:
    with server.client() as client:
        for title in TITLES:
            answered(client, title, "Gladly.")
        chinese = answered(client, "彩虹是怎么形成的？", CHINESE)
        error = answered(client, "A key that is refused", "", code=401)
        thought = answered(
            client, "Which is heavier?", "They are **equally heavy**.", reasoning=["A kilogram is a kilogram."]
        )
        code = answered(client, "Reverse a string", CODE)
        rainbow = answered(client, "How rainbows form", RAINBOW)
    asked = {
        rainbow: "Explain how rainbows form, in simple words.",
        code: "Write a Python function that reverses a string.",
        thought: "Which is heavier, a kilogram of feathers or a kilogram of iron?",
        chinese: "彩虹是怎么形成的？",
        error: "Hello?",
    }
    camera = Camera(browser, server.url, folder, asked)
    camera.take("empty")
    camera.take("desktop", rainbow)
    camera.take("dark", rainbow, color_scheme="dark")
    camera.take("code-and-maths", code)
    camera.take("code-and-maths-dark", code, color_scheme="dark")
    camera.take("reasoning", thought, lambda page: page.locator("#log summary").first.click())
    camera.take("error", error)
    camera.take("chinese", chinese, locale="zh-CN")
    camera.take("phone", rainbow, **PHONE)
    camera.take("phone-dark", code, color_scheme="dark", **PHONE)
    camera.take("phone-list", rainbow, lambda page: page.locator("#open-sidebar").click(), **PHONE)
    camera.take("settings", rainbow, open_settings)
    camera.take_admin("admin-overview", "overview")
    camera.take_admin("admin-conversations", "conversation")
    camera.take_admin("admin-transcript", "conversation", open_transcript)


def open_transcript(page: Page) -> None:
    page.get_by_role("link", name="How rain").click()
    page.locator(".markdown table").wait_for()


def open_settings(page: Page) -> None:
    page.locator("#menu-button").click()
    page.get_by_role("menuitem").first.click()
    page.locator("dialog .usage table").wait_for()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, run_upstream_in_thread() as upstream:
        data = Path(name)
        variables = environment(data, LLM_API_URL=upstream.url, LLM_MODEL="a-model-7b")
        variables["DATABASE_URL"] = f"sqlite:///{data / 'db.sqlite3'}"
        manage(variables, "migrate", "--verbosity=0")
        add_account(variables, ADMIN)
        with ServerProcess("uvicorn", variables, data / "server.log") as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable(), args=["--disable-gpu"])
            take_all(browser, server, folder)
            browser.close()


if __name__ == "__main__":
    main()

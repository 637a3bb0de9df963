"""MarkdownView alone, under the project's Content-Security-Policy."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .browser import Visitor
from .conftest import open_harness
from .corpus import OPEN, TEXTS, invented
from .payloads import PAYLOADS

INVENTED = 300
BY_CHARACTER = "t => harness.inParts(t, Array.from({ length: t.length }, (_, i) => i + 1))"
BY_CUTS = "([t, seed]) => harness.inParts(t, harness.cuts(t.length, seed))"


def html(view: Page, text: str) -> str:
    return str(view.evaluate("t => harness.atOnce(t)", text))


def texts(view: Page, selector: str) -> list[str]:
    return view.locator(f"#view {selector}").all_text_contents()


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_text_that_comes_in_parts_ends_as_one_that_came_at_once(view: Page, number: int) -> None:
    text = TEXTS[number]
    whole = html(view, text)
    assert view.evaluate(BY_CHARACTER, text) == whole
    for seed in range(3):
        assert view.evaluate(BY_CUTS, [text, seed]) == whole


def test_so_does_a_text_that_nobody_would_write(view: Page) -> None:
    for seed in range(INVENTED):
        text = invented(seed)
        whole = html(view, text)
        assert view.evaluate(BY_CUTS, [text, seed]) == whole, (seed, text)


@pytest.mark.parametrize("text", [text for text in TEXTS if not any(part in text for part in OPEN)])
def test_what_is_read_before_the_end_is_what_it_will_be(view: Page, text: str) -> None:
    script = "t => harness.beforeAndAfter(t, harness.cuts(t.length, 1))"
    before, after = view.evaluate(script, text)
    assert before == after


def test_a_text_that_becomes_another_one_is_shown_as_that(view: Page) -> None:
    script = """async ([first, second]) => {
        const view = harness.fresh();
        view.update(first);
        await view.finish(first);
        view.update(second);
        await view.finish(second);
        return harness.element.innerHTML;
    }"""
    first, second = TEXTS[1], TEXTS[4]
    assert view.evaluate(script, [first, second]) == html(view, second)


def test_what_is_complete_stays_the_same_element(view: Page) -> None:
    script = """() => {
        const view = harness.fresh();
        view.update("# One\\n\\ntwo\\n\\nthr");
        const [first, second] = harness.element.children;
        return view.finish("# One\\n\\ntwo\\n\\nthree **3**").then(
            () => harness.element.children[0] === first && harness.element.children[1] === second
                && harness.element.children.length === 3);
    }"""
    assert view.evaluate(script)


@pytest.mark.parametrize("number", range(0, len(PAYLOADS), 8))
def test_no_script_runs_and_no_request_leaves_the_host(harness: Visitor, number: int) -> None:
    for payload in PAYLOADS[number : number + 8]:
        for text in (payload, f"before\n\n{payload}\n\nafter", f"> - {payload}"):
            assert harness.page.evaluate("t => harness.dangers(t)", text) == [], text


def test_links_lead_to_the_web_and_to_mail_only(view: Page) -> None:
    html(view, "[a](http://a.test) [b](mailto:b@b.test) [c](ftp://c.test) [d](/d) [e](#e) https://f.test/x g.test")
    links = view.locator("#view a")
    assert [link.get_attribute("href") for link in links.all()] == [
        "http://a.test",
        "mailto:b@b.test",
        "https://f.test/x",
    ]


def test_an_image_of_another_host_is_a_link_to_it(view: Page) -> None:
    html(view, "![a cat](http://cats.test/c.png) ![dot](data:image/png;base64,iVBORw0KGgo=)")
    link = view.locator("#view a")
    assert (link.inner_text(), link.get_attribute("href")) == ("a cat", "http://cats.test/c.png")
    assert link.get_attribute("title") == "Open image"
    assert [image.get_attribute("alt") for image in view.locator("#view img").all()] == ["dot"]


def test_formulas_become_mathml_and_prices_stay(view: Page) -> None:
    prices = "Pay $5 and $10, or US$7, $1-$2, and $3 for CA$."
    aligned = "\\begin{aligned} c &= d \\\\ e &= f \\end{aligned}"
    html(view, f"{prices} Then $a^2$, \\(b\\) and\n\n$$\n{aligned}\n$$\n\n\\[ g \\]")
    assert texts(view, "math") == ["a2", "b", "c=de=f", "g"]
    assert view.locator("#view math[display=block]").count() == 2
    assert prices in view.inner_text("#view")
    assert view.locator("#view math [style]").count() == 0
    # What Temml says by styles is said by classes.
    assert view.locator("#view mtd").first.evaluate("e => getComputedStyle(e).paddingLeft") == "0px"


def test_a_formula_that_is_none_stays_as_it_was_written(view: Page) -> None:
    html(view, "See $\\frac{a$ and $\\nonsense{x}$.")
    assert "\\frac{a" in view.inner_text("#view")


def test_code_has_its_language_colours_and_a_button_that_copies(harness: Visitor) -> None:
    harness.context.grant_permissions(["clipboard-read", "clipboard-write"])
    view = harness.page
    code = "def f(x):\n    return '<b>' + x\n"
    html(view, f"```python\n{code}```\n\n```\nplain <i>\n```\n\n```nonsense\nx\n```")
    assert texts(view, ".md-language") == ["python", "", "nonsense"]
    assert texts(view, "pre code") == [code, "plain <i>\n", "x\n"]
    assert "def" in texts(view, ".hljs-keyword")
    button = view.get_by_role("button", name="Copy").first
    button.click()
    expect(view.get_by_role("button", name="Copied")).to_be_visible()
    assert view.evaluate("navigator.clipboard.readText()") == code


def test_tables_scroll_in_a_box_of_their_own(view: Page) -> None:
    html(view, "| a | b |\n|:-:|--:|\n" + f"| {'wide ' * 5} | {'x' * 400} |\n")
    box = view.locator("#view .md-table")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
    aligned = view.locator("#view td").evaluate_all("cells => cells.map((e) => getComputedStyle(e).textAlign)")
    assert aligned == ["center", "right"]


def test_labels_are_the_callers(view: Page) -> None:
    script = """() => {
        const view = new (harness.fresh().constructor)(harness.element, { copy: "复制" });
        return view.finish("```\\nx\\n```");
    }"""
    view.evaluate(script)
    assert texts(view, "button") == ["复制"]


def test_a_first_visit_loads_no_library_that_its_text_does_not_need(view: Page) -> None:
    open_harness(view)
    loaded: list[str] = view.evaluate("performance.getEntriesByType('resource').map((r) => r.name.split('/').pop())")
    assert "highlight.js" not in loaded
    assert "temml.js" not in loaded
    html(view, "```js\n1\n```\n$x$")
    loaded = view.evaluate("performance.getEntriesByType('resource').map((r) => r.name.split('/').pop())")
    assert {"highlight.js", "temml.js"} <= set(loaded)


def deep(view: Page, text: str) -> Any:
    return view.evaluate("t => harness.atOnce(t).then((h) => h.length)", text)


@pytest.mark.parametrize(
    "text", ["> " * 5000 + "x", "- " * 2000 + "x", "[" * 20_000, "*a " * 10_000, "`" * 20_000, "$" * 9999]
)
def test_a_text_that_is_made_to_be_slow_is_not(view: Page, text: str) -> None:
    script = """(text) => Promise.race([
        harness.atOnce(text).then((html) => html.length),
        new Promise((_resolve, reject) => setTimeout(() => reject(new Error("slow")), 15000)),
    ])"""
    assert view.evaluate(script, text) > 0

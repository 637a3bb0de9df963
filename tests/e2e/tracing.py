"""How long the tasks of a page's main thread take, from the browser's own trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "__metadata"]


def least_of(limit: float, measure: Callable[[], list[float]], tries: int = 3) -> list[float]:
    """Measure until the longest task is below ``limit``, or so often; return the best.

    A long task that the page causes comes each time. A machine that stands still is charged to whatever runs.
    """
    found = []
    for _try in range(tries):
        found.append(measure())
        if found[-1][0] < limit:
            break
    return min(found)


def longest_tasks(page: Page, work: Callable[[], object], count: int = 5) -> list[float]:
    """The longest tasks of renderers' main threads while ``work`` runs: ms of processor time, the longest first.

    Of processor time, since other programs take turns with the browser on the machines that run tests.
    """
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(page=page, categories=CATEGORIES)
    try:
        work()
    finally:
        events: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    main = {(e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"}
    tasks = [
        e["tdur"] / 1000
        for e in events
        if e["name"].endswith("RunTask") and (e["pid"], e["tid"]) in main and "tdur" in e
    ]
    assert tasks, "the trace has no tasks"
    return sorted(tasks, reverse=True)[:count]

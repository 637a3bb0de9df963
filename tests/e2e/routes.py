"""Requests of a page that a test keeps back."""

from __future__ import annotations

from playwright.sync_api import Page, Route


def hold(page: Page, path: str, method: str = "GET") -> list[Route]:
    """Keep the first of such requests back; return where it is put."""
    held: list[Route] = []

    def judge(route: Route) -> None:
        if held or route.request.method != method:
            route.fallback()
        else:
            held.append(route)

    page.route(path, judge)
    return held


def wait_for_routes(page: Page, held: list[Route], number: int = 1) -> list[Route]:
    """Wait until so many are held: they are told some time after their requests."""
    while len(held) < number:
        page.wait_for_timeout(20)
    return held

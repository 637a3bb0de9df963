"""Error reports say where, and no value."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, get_exception_reporter_filter

from chatproject.error_reports import NoValues

# Put together, because a report quotes the lines of the source.
CANARY = "-".join(["nobody", "may", "see", "this"])


def report(request: HttpRequest | None = None) -> str:
    """The page and the text of a report about a function that holds a secret."""
    innocent, listed = CANARY, [{"word": CANARY}]
    try:
        raise RuntimeError(f"what happened, with {len([innocent, listed])} variables")
    except RuntimeError:
        reporter = ExceptionReporter(request, *sys.exc_info())
        return reporter.get_traceback_html() + reporter.get_traceback_text()


@pytest.fixture(params=[True, False], ids=["debug", "production"])
def debug(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.DEBUG = request.param


def test_the_project_s_reports_are_of_this_kind() -> None:
    assert isinstance(get_exception_reporter_filter(None), NoValues)


@pytest.mark.usefixtures("debug")
def test_a_report_names_variables_and_their_classes_only() -> None:
    said = report()
    assert CANARY not in said
    assert "what happened, with 2 variables" in said
    assert "innocent" in said
    assert "&lt;str&gt;" in said


@pytest.mark.usefixtures("debug")
def test_a_report_names_form_fields_and_cookies_without_values() -> None:
    request = RequestFactory().post("/admin/", {"note": CANARY}, headers={"Authorization": f"Bearer {CANARY}"})
    request.COOKIES = {"any_cookie": CANARY}
    said = report(request)
    assert CANARY not in said
    assert "note" in said
    assert "any_cookie" in said


@pytest.mark.usefixtures("debug")
@pytest.mark.parametrize(
    "value",
    [
        f"redis://:{CANARY}@127.0.0.1/0",
        f"https://example.com/v1?code={CANARY}",
        f"https://[{CANARY}",
        {"hosts": [{"address": f"redis://:{CANARY}@127.0.0.1"}]},
        {"nested": {"API_KEY": CANARY, "ENCRYPTION_KEYS": [CANARY]}},
    ],
)
def test_settings_that_hold_a_secret_are_hidden(settings: Any, value: object) -> None:
    settings.SOMETHING = value
    said = report()
    assert CANARY not in said
    assert "SOMETHING" in said


def test_other_settings_are_shown(settings: Any) -> None:
    settings.SOMETHING = ["https://example.com/v1", "plain"]
    assert "https://example.com/v1" in report()

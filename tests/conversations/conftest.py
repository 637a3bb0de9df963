"""Fixtures for tests that need no running engine."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient


@pytest.fixture
def in_transaction(db: None, settings: Any) -> None:
    """Database jobs run in the test's own transaction, which is rolled back. The presets that ship are there."""
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "DB_THREADS": 0}


class JSONClient(APIClient):
    """Sends JSON unless told otherwise."""

    default_format = "json"


@pytest.fixture
def api(in_transaction: None) -> APIClient:
    """The API without a socket, for calls that start no answer: quick, and its queries can be counted."""
    return JSONClient()

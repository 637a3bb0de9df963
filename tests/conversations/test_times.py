"""Pages are in the time zone of the settings, the API in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from conversations.rest.keys import ApiKeySerializer
from conversations.rest.limits import TokenLimitSerializer
from conversations.web.serializers import ConversationListItemSerializer, ConversationSerializer, MessageSerializer

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_shanghai() -> Iterator[None]:
    with timezone.override("Asia/Shanghai"):
        yield


@pytest.mark.parametrize(
    ("serializer", "name"),
    [
        (ConversationListItemSerializer, "created_at"),
        (ConversationListItemSerializer, "updated_at"),
        (ConversationSerializer, "created_at"),
        (ConversationSerializer, "updated_at"),
        (MessageSerializer, "created_at"),
        (ApiKeySerializer, "created_at"),
        (ApiKeySerializer, "expires_at"),
        (ApiKeySerializer, "last_used_at"),
        (TokenLimitSerializer, "resets_at"),
    ],
)
def test_times_of_the_api_are_utc(serializer: Any, name: str) -> None:
    assert serializer().fields[name].to_representation(NOON) == "2026-07-01T12:00:00Z"


@pytest.mark.django_db
def test_the_admin_says_which_zone_its_times_are_in(admin_client: Client) -> None:
    page = admin_client.get("/admin/").content.decode()
    assert "Asia/Shanghai" in page

"""What one database does by itself and another does not: names are exact, texts and times come back as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from django.contrib import admin
from django.db import IntegrityError, transaction
from django.db.models import DateTimeField
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from conversations.models import (
    ApiKey,
    Attachment,
    Conversation,
    Feedback,
    Generation,
    Message,
    TokenBudget,
    UserConfig,
)
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer

from .accounts import make_user
from .helpers import chat

# The same to MySQL's default collation: by case, by accent, by a blank at the end.
ALIKE = ["kim", "Kim", "kím", "kim "]
# A family of four joined into one sign, a flag, a rare character outside the first plane, right-to-left.
TEXT = "你好，世界 👩‍👩‍👧‍👦🇨🇳 𠮷野家 مرحبا é e\u0301"


# Names ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.parametrize("name", ALIKE)
def test_an_owner_is_found_by_the_exact_name_alone(name: str) -> None:
    for each in ALIKE:
        Conversation.objects.create(user_identifier=each, title=f"of {each}|")
        UserConfig.objects.create(user_identifier=each)
        TokenBudget.objects.create(subject=each, day=datetime.now(UTC).date())
    assert [row.title for row in Conversation.objects.filter(user_identifier=name)] == [f"of {name}|"]
    assert UserConfig.objects.get(user_identifier=name).user_identifier == name
    assert TokenBudget.objects.get(subject=name).subject == name
    owners = Conversation.objects.order_by().values_list("user_identifier", flat=True).distinct()
    assert sorted(owners) == sorted(ALIKE)


@pytest.mark.django_db
def test_the_very_same_name_is_there_once() -> None:
    UserConfig.objects.create(user_identifier="kim")
    with pytest.raises(IntegrityError), transaction.atomic():
        UserConfig.objects.create(user_identifier="kim")


@pytest.mark.django_db
def test_a_budgets_subject_may_be_as_long_as_an_owners_name() -> None:
    """A project's accounts may have addresses for their keys. MariaDB would cut it, and no budget be found again."""
    subject = "user:" + "a" * 250
    budget = TokenBudget(subject=subject, day=datetime.now(UTC).date())
    budget.full_clean()  # SQLite takes any length
    TokenBudget.objects.bulk_create([budget], ignore_conflicts=True)
    assert TokenBudget.objects.get().subject == subject


def test_one_persons_list_is_not_anothers_with_a_similar_name(api: APIClient) -> None:
    for name in ("kim", "Kim"):
        assert api.post("/conversations", {"user_id": name, "title": f"of {name}"}).status_code == 201
        assert api.post("/api/config", {"user_id": name, "model_type": "glm4", "max_tokens": 5}).status_code == 200
    api.post("/api/config", {"user_id": "Kim", "model_type": "glm4", "max_tokens": 7})
    for name, tokens in (("kim", 5), ("Kim", 7)):
        listed = api.get("/conversations", {"user_id": name}).json()["conversations"]
        assert [row["title"] for row in listed] == [f"of {name}"]
        assert api.get("/api/config", {"user_id": name}).json()["max_tokens"] == tokens
    assert api.get("/conversations", {"user_id": "KIM"}).json()["conversations"] == []


@pytest.mark.django_db
def test_idempotency_keys_and_types_of_models_are_exact() -> None:
    conversation = Conversation.objects.create()
    for key in ALIKE:
        message = Message.objects.create(conversation=conversation, role="assistant")
        Generation.objects.create(message=message, idempotency_key=key, status="completed")
    assert [Generation.objects.get(idempotency_key=key).idempotency_key for key in ALIKE] == ALIKE
    Preset.objects.create(type="exact", name="Exact", model="m")
    assert not Preset.objects.filter(type="EXACT").exists()
    assert not ApiKey.objects.filter(hash="A" * 64).exists()


# Texts and times ------------------------------------------------------------------------------------------------
def test_every_character_comes_back(client: httpx.Client, model: ScriptedUpstream) -> None:
    model.script = [answer(*TEXT, reasoning=list(TEXT))]
    made = client.post("/conversations", json={"title": TEXT, "system_prompt": TEXT, "user_id": TEXT}).json()
    told = chat(client, TEXT, session_id=made["session_id"])
    assert (told.text, told.reasoning) == (TEXT, TEXT)
    shown = client.get(f"/conversations/{made['session_id']}").json()
    assert (shown["title"], shown["system_prompt"]) == (TEXT, TEXT)
    asked, answered = client.get(f"/conversations/{made['session_id']}/history").json()["messages"]
    assert (asked["content"], answered["content"], answered["reasoning"]) == (TEXT, TEXT, TEXT)
    for part in ("世界", "👩‍👩‍👧‍👦", "𠮷"):
        found = client.get("/conversations", params={"search": part, "user_id": TEXT}).json()["conversations"]
        assert [row["session_id"] for row in found] == [made["session_id"]]
    assert client.get("/conversations", params={"search": "😀", "user_id": TEXT}).json()["conversations"] == []


def test_a_moment_is_the_same_whatever_zone_it_was_said_in(api: APIClient) -> None:
    moment = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    row = Conversation.objects.create(created_at=moment, updated_at=moment)
    stored = Conversation.objects.get(pk=row.pk)
    assert stored.created_at == moment
    assert stored.created_at.utcoffset() == timedelta()
    assert Conversation.objects.filter(created_at__lte=moment, created_at__gt=moment - timedelta(microseconds=1)).get()
    [shown] = api.get("/conversations").json()["conversations"]
    assert datetime.fromisoformat(shown["created_at"]) == moment
    assert shown["created_at"] == "2024-03-01T09:29:59.123456Z"


# Pages ----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_lists_in_admin_show_whatever_the_time_zone(settings: Any) -> None:
    """MySQL reckons in no other than UTC unless its tables of time zones were loaded."""
    settings.TIME_ZONE = "Asia/Shanghai"
    message = Message.objects.create(conversation=Conversation.objects.create(), role="assistant")
    Feedback.objects.create(message=message, rating=1)
    Attachment.objects.create(file="a", content_type="image/png", width=1, height=1, size=1)
    staff = Client()
    staff.force_login(make_user("root", is_staff=True, is_superuser=True))
    for model, options in admin.site._registry.items():
        if model._meta.app_label == "conversations":
            name = f"admin:conversations_{model._meta.model_name}_changelist"
            assert staff.get(reverse(name)).status_code == 200
            day = options.date_hierarchy
            assert not (day and isinstance(model._meta.get_field(day), DateTimeField)), "as this database may reckon"

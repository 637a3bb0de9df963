"""`manage.py seed_demo`: as many rows as asked for, and such as real chats leave."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import Count

from conversations import services
from conversations.access.rules import Caller
from conversations.management import seeding
from conversations.models import Conversation, Generation, Message

pytestmark = pytest.mark.django_db


def seed_demo(**options: Any) -> str:
    out = StringIO()
    call_command("seed_demo", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


@pytest.mark.parametrize("batch", [1000, 3, 1])
def test_there_are_as_many_as_asked_for(in_transaction: None, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(seeding, "BATCH", batch)
    said = seed_demo(conversations=7, messages=45)
    assert said.startswith("7 conversations with 45 messages in ")
    assert (Conversation.objects.count(), Message.objects.count()) == (7, 45)
    sizes = Conversation.objects.annotate(found=Count("messages")).values_list("message_count", "found")
    assert sorted(sizes) == [(6, 6)] * 4 + [(7, 7)] * 3
    assert Generation.objects.filter(status=Generation.Status.COMPLETED).count() == 7 * 3


def test_each_is_a_conversation_like_any_other(in_transaction: None) -> None:
    seed_demo(conversations=2, messages=8)
    for conversation in Conversation.objects.all():
        turns = list(services.branch(conversation.active_leaf_id, conversation))[::-1]
        assert [message.role for message in turns] == ["user", "assistant"] * 2
        assert all(message.content for message in turns)
        assert turns[1].generation.usage is not None


def test_seeding_again_adds_and_the_next_message_finds_a_free_id(in_transaction: None) -> None:
    seed_demo(conversations=2, messages=4)
    seed_demo(conversations=1, messages=3)
    assert (Conversation.objects.count(), Message.objects.count()) == (3, 7)
    conversation = Conversation.objects.latest("pk")
    assert Message.objects.create(conversation=conversation, role=Message.Role.USER, content="hi").pk


def test_they_belong_to_whom_was_asked_for(in_transaction: None) -> None:
    ann = User.objects.create_user("ann")
    seed_demo(conversations=2, messages=2, user="ann")
    assert Conversation.objects.for_owner(Caller(user_identifier=f"user:{ann.pk}", user=ann)).count() == 2
    assert set(Conversation.objects.values_list("owner", flat=True)) == {ann.pk}
    seed_demo(conversations=5, messages=5, identifiers=2)
    assert Conversation.objects.filter(user_identifier="demo-1").count() == 3
    assert Conversation.objects.filter(user_identifier="demo-2").count() == 2


def test_without_anything_to_store_nothing_is_stored(in_transaction: None) -> None:
    seed_demo(conversations=0, messages=0)
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("options", [{"user": "nobody"}, {"conversations": "-1"}, {"messages": "many"}])
def test_what_makes_no_sense_is_refused(in_transaction: None, options: dict[str, Any]) -> None:
    with pytest.raises(CommandError):
        call_command("seed_demo", *[f"--{name}={value}" for name, value in options.items()])
    assert not Conversation.objects.exists()

"""Compiled statements do what the ORM does with the same querysets, on whatever database the tests run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F
from django.db.models.signals import post_save, pre_save

from conversations.access import api_keys
from conversations.database.compiled import Count, Delete, Insert, InsertMany, Select, Update, given
from conversations.database.compiled.values import as_they_are, preparing
from conversations.models import ApiKey, Conversation, Generation, GenerationChunk, Message, UserConfig
from llmproviders.models import Preset

from .log_rows import chunk

pytestmark = pytest.mark.django_db

TEXT = "你好 👩‍👩‍👧 % %s ' \" \\"


@pytest.fixture
def kim() -> User:
    return User.objects.create_user("kim")


@pytest.fixture
def conversation(kim: User) -> Conversation:
    return Conversation.objects.create(owner=kim, user_identifier="user:1", title=TEXT)


@pytest.fixture
def generation(conversation: Conversation) -> Generation:
    message = Message.objects.create(conversation=conversation, role="assistant")
    return Generation.objects.create(message=message, active_for=conversation)


def fields_of(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_select_gives_instances_with_their_relations(kim: User, django_assert_num_queries: Any) -> None:
    key, token = api_keys.make(user=kim, name="n")
    find = Select(lambda: ApiKey.objects.select_related("user").filter(hash=given(ApiKey, "hash")))
    for _again in range(2):
        with django_assert_num_queries(1):
            found = find.first(hash=api_keys.hash_of(token))
            assert found is not None
            assert found.user.username == "kim"
        assert fields_of(found) == fields_of(ApiKey.objects.get(pk=key.pk))
        assert not found._state.adding
    assert find.first(hash="none") is None
    assert find.all(hash="none") == []


def test_select_gives_values_converted_as_the_orm_does(conversation: Conversation) -> None:
    rows = Conversation.objects.filter(pk=given(Conversation, "id"))
    names = ("session_id", "title", "is_pinned", "created_at", "active_leaf_id")
    assert Select(lambda: rows.values_list(*names)).all(id=conversation.pk) == [
        tuple(getattr(conversation, name) for name in names)
    ]
    assert Select(lambda: rows.values_list("session_id", flat=True)).first(id=conversation.pk) == (
        conversation.session_id
    )


def test_select_takes_a_place_twice_and_several_of_one_field(conversation: Conversation) -> None:
    places = [given(Conversation, "title", name) for name in ("first", "second")]
    find = Select(lambda: Conversation.objects.filter(title__in=places).values_list("pk", flat=True))
    assert find.all(first="no", second=TEXT) == [conversation.pk]
    assert find.all(first="no", second="no") == []
    with pytest.raises(KeyError):
        find.all(first="no")


def test_count_counts_also_where_there_is_nothing(conversation: Conversation, django_assert_num_queries: Any) -> None:
    Conversation.objects.create(title=TEXT)
    count = Count(lambda: Conversation.objects.order_by("-updated_at").filter(title=given(Conversation, "title")))
    with django_assert_num_queries(2):
        assert count.number(title=TEXT) == 2
        assert count.number(title="no") == 0


def test_update_changes_what_it_meets_and_counts_it(conversation: Conversation) -> None:
    change = Update(
        lambda: Conversation.objects.filter(pk=given(Conversation, "id"), title=TEXT),
        lambda: {
            "title": given(Conversation, "title"),
            "message_count": F("message_count") + given(Conversation, "message_count", "more"),
            "is_pinned": True,
        },
    )
    assert change.run(id=conversation.pk, title="new", more=2) == 1
    assert change.run(id=conversation.pk, title="newer", more=2) == 0
    conversation.refresh_from_db()
    assert (conversation.title, conversation.message_count, conversation.is_pinned) == ("new", 2, True)


def test_delete_counts_what_it_deletes(generation: Generation) -> None:
    chunk(generation, 1, "a")
    delete = Delete(lambda: GenerationChunk.objects.filter(generation=given(GenerationChunk, "generation")))
    assert delete.run(generation=generation.pk) == 1
    assert delete.run(generation=generation.pk) == 0


def test_create_makes_the_row_that_the_orm_would(kim: User) -> None:
    made = Insert(Conversation).create(owner=kim, user_identifier="user:1", title=TEXT)
    found = Conversation.objects.get(pk=made.pk)
    assert fields_of(found) == fields_of(made)
    assert found.title == TEXT
    assert not made._state.adding
    made.title = "saved again"
    made.save()
    assert Conversation.objects.get(pk=made.pk).title == "saved again"


def test_add_gives_the_key_and_fills_in_defaults(conversation: Conversation) -> None:
    key = Insert(Message).add(conversation_id=conversation.pk, role="assistant", content=TEXT)
    found = Message.objects.get(pk=key)
    assert (found.content, found.reasoning, found.parent_id) == (TEXT, "", None)
    assert found.created_at >= conversation.created_at
    other = Insert(Generation).add(message_id=key, active_for_id=conversation.pk)
    assert isinstance(other, uuid.UUID)
    assert Generation.objects.get(pk=other).status == "running"


def test_a_name_that_is_no_column_is_an_error(conversation: Conversation) -> None:
    with pytest.raises(TypeError, match="no such columns"):
        Insert(Message).add(conversation=conversation, role="user", content="x")
    assert not Message.objects.exists()


def test_a_taken_place_is_an_error_and_nothing_is_made(generation: Generation, conversation: Conversation) -> None:
    message = Message.objects.create(conversation=conversation, role="assistant")
    with pytest.raises(IntegrityError), transaction.atomic():
        Insert(Generation).add(message_id=message.pk, active_for_id=conversation.pk)
    assert Generation.objects.count() == 1


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What the signals of messages brought."""
    heard: list[Any] = []

    def before(instance: Message, **_details: Any) -> None:
        heard.append(("before", instance.pk))

    def after(instance: Message, created: bool, **_details: Any) -> None:
        heard.append(("after", instance.pk, created))

    pre_save.connect(before, sender=Message)
    post_save.connect(after, sender=Message)
    yield heard
    pre_save.disconnect(before, sender=Message)
    post_save.disconnect(after, sender=Message)


@pytest.mark.parametrize("way", ["add", "create"])
def test_a_projects_own_receivers_hear_of_new_rows(heard: list[Any], conversation: Conversation, way: str) -> None:
    made = getattr(Insert(Message), way)(conversation_id=conversation.pk, role="user", content="x")
    key = made if way == "add" else made.pk
    assert heard == [("before", None), ("after", key, True)]


@pytest.mark.parametrize("number", [0, 1, 300])
def test_many_rows_are_made_at_once(generation: Generation, number: int) -> None:
    rows = [
        {"id": place, "generation_id": generation.pk, "position": place, "kind": "content", "text": TEXT, "call": ""}
        for place in range(1, number + 1)
    ]
    InsertMany(GenerationChunk).run(rows)
    assert list(generation.chunks.order_by("position").values_list("position", "text")) == [
        (row["position"], TEXT) for row in rows
    ]


# Fields that store another form than they are given ---------------------------------------------------------
SECRET = "sk-never-in-plain-text"


def stored_keys() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT custom_api_key FROM {UserConfig._meta.db_table}")
        return [row[0] for row in cursor.fetchall()]


def made_by_create() -> None:
    Insert(UserConfig).create(user_identifier="a", custom_api_key=SECRET)


def made_by_add() -> None:
    Insert(UserConfig).add(user_identifier="a", custom_api_key=SECRET)


def made_by_many() -> None:
    fields = {field.attname: field.get_default() for field in UserConfig._meta.concrete_fields}
    InsertMany(UserConfig).run([{**fields, "user_identifier": "a", "custom_api_key": SECRET}])


def made_by_update() -> None:
    UserConfig.objects.create(user_identifier="a")
    change = Update(
        lambda: UserConfig.objects.filter(user_identifier=given(UserConfig, "user_identifier")),
        lambda: {"custom_api_key": given(UserConfig, "custom_api_key")},
    )
    assert change.run(user_identifier="a", custom_api_key=SECRET) == 1


@pytest.mark.parametrize("make", [made_by_create, made_by_add, made_by_many, made_by_update])
def test_an_encrypted_field_is_stored_encrypted(make: Callable[[], None]) -> None:
    make()
    (stored,) = stored_keys()
    assert stored
    assert SECRET not in stored
    assert UserConfig.objects.get().custom_api_key == SECRET


EXAMPLES: dict[type, list[Any]] = {
    type(None): [None],
    bool: [True, False],
    int: [0, 1, -7, 2**31],
    str: ["", TEXT],
    uuid.UUID: [uuid.UUID(int=7)],
}


@pytest.mark.parametrize("label", ["conversations", "llmproviders", "auth"])
def test_what_is_given_as_it_is_django_would_give_as_it_is(label: str) -> None:
    asked = 0
    for model in apps.get_app_config(label).get_models():
        for field in model._meta.concrete_fields:
            for kind in as_they_are(field, connection):
                for value in EXAMPLES[kind]:
                    prepared = [
                        prepare(value, connection=connection)
                        for prepare in (field.get_db_prep_save, field.get_db_prep_value)
                        # Only a key that the database gives has none, and that is not asked for.
                        if not (field.primary_key and value in (None, 0))
                    ]
                    assert all(type(each) is kind and each == value for each in prepared), (field, value)
                    asked += len(prepared)
    assert asked > 50


def test_what_a_field_of_anothers_making_changes_is_asked_each_time() -> None:
    class Shouting(models.CharField):  # type: ignore[type-arg]
        def get_prep_value(self, value: Any) -> Any:
            return str(value).upper()

    for field in (Shouting(), models.JSONField(), Preset._meta.get_field("api_key")):
        assert as_they_are(field, connection) == frozenset()


AHEAD = timezone(timedelta(hours=8))
VALUES: dict[type[models.Field[Any, Any]], list[Any]] = {
    models.UUIDField: [uuid.UUID(int=7), str(uuid.UUID(int=8))],
    models.DateTimeField: [datetime(2026, 5, 4, 3, 2, 1, 7, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=AHEAD)],
    models.BigIntegerField: [0, 2**40, "12"],
    models.IntegerField: [0, -7, "12"],
    models.PositiveIntegerField: [0, 7, True],
    models.PositiveSmallIntegerField: [0, 7],
}


@pytest.mark.parametrize("label", ["conversations", "llmproviders", "auth"])
def test_ordinary_values_become_what_django_makes_of_them(label: str) -> None:
    asked = 0
    for model in apps.get_app_config(label).get_models():
        for field in model._meta.concrete_fields:
            target = field.target_field if isinstance(field, models.ForeignKey) else field
            for value in VALUES.get(type(target), []):
                for prepare in (field.get_db_prep_save, field.get_db_prep_value):
                    ours = preparing(field, prepare)(value, connection=connection)
                    theirs = prepare(value, connection=connection)
                    assert (type(ours), repr(ours)) == (type(theirs), repr(theirs)), (field, value)
                    asked += 1
    assert asked > 5

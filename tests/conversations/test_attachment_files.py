"""The files of attachments: none stays when its attachment goes, whatever deletes it, and none goes before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations.access.rules import Caller
from conversations.engine import pruning
from conversations.exceptions import ServerBusy
from conversations.files import storage
from conversations.models import Attachment, Conversation, FileToDelete, Message
from conversations.services import attachments

from . import pictures
from .accounts import make_user
from .attaching import a_message_with, file_names, send, stored
from .calling import until


def conversation_with_image(client: httpx.Client, **fields: Any) -> Conversation:
    conversation = Conversation.objects.create(**fields)
    a_message_with(send(client, pictures.picture()).json()["id"], conversation=conversation)
    return conversation


def delete_by_api(client: httpx.Client) -> None:
    conversation = conversation_with_image(client)
    assert client.delete(f"/conversations/{conversation.session_id}").status_code == 200


def delete_a_message(client: httpx.Client) -> None:
    message = conversation_with_image(client).messages.get()
    assert client.delete(f"/messages/{message.pk}").status_code == 200


def let_an_undo_expire(client: httpx.Client) -> None:
    conversation = conversation_with_image(client)
    assert client.delete(f"/conversations/{conversation.session_id}", params={"undo": 1}).status_code == 200


def let_a_temporary_one_expire(client: httpx.Client) -> None:
    past = timezone.now() - timedelta(days=2)
    conversation = conversation_with_image(client, is_temporary=True)
    Conversation.objects.filter(pk=conversation.pk).update(expires_at=past, updated_at=past)


def prune(client: httpx.Client) -> None:
    conversation_with_image(client, user_identifier="kim", updated_at=timezone.now() - timedelta(days=1))
    Conversation.objects.create(user_identifier="kim")
    call_command("prune_conversations", "--keep=1", "--user=kim")


def delete_in_admin(client: httpx.Client) -> None:
    conversation = conversation_with_image(client)
    admin = Client()
    admin.force_login(make_user("root", is_staff=True, is_superuser=True))
    url = reverse("admin:conversations_conversation_delete", args=[conversation.pk])
    assert admin.post(url, {"post": "yes"}).status_code == 302


def delete_the_account(client: httpx.Client) -> None:
    kim = make_user("kim")
    caller = Caller.of(kim)
    image = stored(caller)
    mine = Conversation.objects.create(owner=kim, user_identifier=caller.user_identifier)
    a_message_with(str(image.pk), conversation=mine, caller=caller)
    stored(caller)  # one that no message has
    User.objects.get(pk=kim.pk).delete()


def delete_rows(client: httpx.Client) -> None:
    Conversation.objects.filter(pk=conversation_with_image(client).pk).delete()


def delete_rows_of_messages(client: httpx.Client) -> None:
    conversation_with_image(client).messages.get().delete()


def delete_it_itself(client: httpx.Client) -> None:
    client.delete(send(client, pictures.picture()).json()["url"])


def leave_it_unused(client: httpx.Client) -> None:
    key = send(client, pictures.picture()).json()["id"]
    Attachment.objects.filter(pk=key).update(expires_at=timezone.now())


WAYS: dict[str, Callable[[httpx.Client], None]] = {
    way.__name__: way
    for way in (
        delete_by_api,
        delete_a_message,
        let_an_undo_expire,
        let_a_temporary_one_expire,
        prune,
        delete_in_admin,
        delete_the_account,
        delete_rows,
        delete_rows_of_messages,
        delete_it_itself,
        leave_it_unused,
    )
}


@pytest.fixture(autouse=True)
def _often(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "BEAT_INTERVAL": 0.2}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_goes_with_its_attachment(client: httpx.Client, way: str) -> None:
    before = file_names()
    kept = conversation_with_image(client)
    (name,) = file_names() - before
    before = file_names()
    WAYS[way](client)
    until(lambda: not Attachment.objects.exclude(conversation=kept).exists() and file_names() == before)
    until(lambda: not FileToDelete.objects.exists())
    assert Attachment.objects.get().file == name, "and no other goes"


def test_one_of_a_message_that_was_edited_stays_until_the_last_such_message_goes(client: httpx.Client) -> None:
    conversation = conversation_with_image(client)
    image = conversation.attachments.get()
    second = a_message_with(str(image.pk), conversation=conversation)
    first = conversation.messages.exclude(pk=second.pk).get()
    client.delete(f"/messages/{first.pk}")
    assert Attachment.objects.get().expires_at is None
    assert client.get(f"/attachments/{image.pk}").status_code == 200
    client.delete(f"/messages/{second.pk}")
    until(lambda: not Attachment.objects.exists())
    assert conversation.messages.count() == 0


def test_one_whose_deletion_is_undone_is_there_again(client: httpx.Client) -> None:
    conversation = conversation_with_image(client)
    url = f"/attachments/{conversation.attachments.get().pk}"
    client.delete(f"/conversations/{conversation.session_id}", params={"undo": 60})
    assert client.get(url).status_code == 404
    client.post(f"/conversations/{conversation.session_id}/restore")
    assert client.get(url).status_code == 200


# What fails on the way ----------------------------------------------------------------------------------------
@pytest.fixture
def kim(in_transaction: None) -> Iterator[Caller]:
    before = file_names()
    yield Caller.of(make_user("kim"))
    for name in file_names() - before:
        storages["attachments"].delete(name)


def test_a_file_whose_writer_died_is_deleted_in_time(kim: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file_names()

    def die(*_args: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(attachments, "_create", die)
        patched.setattr(storage, "forget", die)  # nor does it tell anybody
        with pytest.raises(SystemExit):
            stored(kim)
    storage.sweep()
    assert len(file_names() - before) == 1, "it may still be on its way"
    FileToDelete.objects.update(due_at=timezone.now())
    storage.sweep()
    assert file_names() == before
    assert not FileToDelete.objects.exists()


def test_a_file_that_took_too_long_becomes_no_attachment(kim: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might be deleted at the same moment."""
    monkeypatch.setattr(storage, "WRITING", timedelta(seconds=30))
    with pytest.raises(ServerBusy):
        stored(kim)
    assert not Attachment.objects.exists()


def test_a_storage_that_takes_nothing_is_told_and_may_be_asked_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise OSError("No space left on device")

    before = file_names()
    with monkeypatch.context() as patched:
        patched.setattr(type(storages["attachments"]), "save", fail)
        refused = send(client, pictures.picture())
    assert (refused.status_code, refused.json()["code"]) == (503, "server_busy")
    assert refused.headers["Retry-After"]
    assert "No space left on device" in caplog.text
    assert send(client, pictures.picture()).status_code == 201
    storage.sweep()
    assert Attachment.objects.count() == len(file_names() - before) == 1


def test_a_storage_that_gives_nothing_is_told_and_may_be_asked_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: Any, **_more: Any) -> None:
        raise PermissionError("Permission denied")

    url = send(client, pictures.picture()).json()["url"]
    with monkeypatch.context() as patched:
        patched.setattr(type(storages["attachments"]), "open", fail)
        refused = client.get(url)
    assert (refused.status_code, refused.json()["code"]) == (503, "server_busy")
    assert refused.headers["Retry-After"]
    assert "Permission denied" in caplog.text
    assert client.get(url).status_code == 200


def test_a_storage_that_fails_is_asked_again_later(
    kim: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = file_names()
    stored(kim).delete()

    def fail(*_args: Any) -> None:
        raise OSError("no such bucket")

    with monkeypatch.context() as patched:
        patched.setattr(type(storages["attachments"]), "delete", fail)
        storage.sweep()
        storage.sweep()
    assert caplog.text.count("no such bucket") == 1
    assert len(file_names() - before) == 1
    FileToDelete.objects.update(due_at=timezone.now())
    storage.sweep()
    assert file_names() == before
    assert not FileToDelete.objects.exists()


def test_a_file_that_is_gone_already_is_no_error(kim: Caller) -> None:
    image = stored(kim)
    storages["attachments"].delete(image.file)
    image.delete()
    storage.sweep()
    assert not FileToDelete.objects.exists()


def test_one_that_a_message_took_meanwhile_stays(kim: Caller) -> None:
    image = stored(kim)
    Attachment.objects.update(expires_at=timezone.now() - timedelta(days=1))
    a_message_with(str(image.pk), caller=kim)
    storage.sweep()
    assert attachments.content_of(Attachment.objects.get())


def test_what_is_rolled_back_deletes_nothing(kim: Caller) -> None:
    from django.db import transaction

    image = stored(kim)
    conversation = a_message_with(str(image.pk), caller=kim).conversation
    with transaction.atomic():
        conversation.delete()
        transaction.set_rollback(True)
    storage.sweep()
    assert attachments.content_of(Attachment.objects.get())


def test_pruning_many_asks_for_attachments_once(kim: Caller, django_assert_max_num_queries: Any) -> None:
    conversations = [Conversation.objects.create(user_identifier=kim.user_identifier) for _number in range(20)]
    for conversation in conversations:
        Message.objects.create(conversation=conversation, role="user", content="x")
    with django_assert_max_num_queries(20):
        assert pruning.delete_batch([each.pk for each in conversations]) == 20

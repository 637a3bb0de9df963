"""What tests of attachments do again and again."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
from django.core.files.storage import storages
from django.db import transaction

from conversations.access.rules import Caller
from conversations.models import Attachment, Conversation, Message
from conversations.services import attachments

from . import pictures


def send(client: httpx.Client, content: bytes, *, name: str = "cat.png", **options: Any) -> httpx.Response:
    """`POST /attachments`."""
    return client.post("/attachments", files={"file": (name, content, "image/png")}, **options)


def stored(caller: Caller, **options: Any) -> Attachment:
    """An attachment of ``caller`` that no message has; ``options`` are of ``pictures.picture``."""
    return attachments.store_attachment(caller=caller, upload=pictures.picture(**options))


def file_names() -> set[str]:
    """The files that are kept."""
    storage = storages["attachments"]
    folders, _files = storage.listdir("")
    return {f"{folder}/{name}" for folder in folders for name in storage.listdir(folder)[1]}


def a_message_with(
    *ids: str, conversation: Conversation | None = None, caller: Caller | None = None, **fields: Any
) -> Message:
    """Store a user's message with attachments, as the verbs do."""
    with transaction.atomic():
        conversation = conversation or Conversation.objects.create()
        message = Message.objects.create(conversation=conversation, role="user", content="Look!", **fields)
        taken = attachments.take(
            ids=[uuid.UUID(key) for key in ids], caller=caller or Caller(sees_all=True), conversation=conversation
        )
        attachments.use({message.pk: [each.pk for each in taken]})
    return message

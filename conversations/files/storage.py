"""The files of attachments: written, read, and deleted whatever becomes of the process that does it.

Before a file is written there is a row that says when to delete it, which goes with the transaction that makes it an
attachment's. Whatever deletes an attachment's row leaves such a row in the same transaction. So no file is forgotten,
and none goes whose attachment is there.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.db import connection
from django.db.models import QuerySet
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from ..database.transactions import replayed
from ..exceptions import NotFound, ServerBusy
from ..models import Attachment, AttachmentUse, FileToDelete, Message, attachment_storage
from .images import SUFFIXES, Picture

logger = logging.getLogger("conversations.files")

# How long a file may take from its note to its attachment, and a storage that failed is left alone.
WRITING = timedelta(minutes=10)
PAUSE = timedelta(minutes=1)
# So many are deleted in one go.
AT_ONCE = 100


def write(picture: Picture) -> FileToDelete:
    """Store a picture under a random name; it is deleted unless the row that is returned goes before its time.

    Raises ``ServerBusy`` where the storage takes nothing.
    """
    name = uuid.uuid4().hex
    path = f"{name[:2]}/{name}.{SUFFIXES[picture.content_type]}"
    note = FileToDelete.objects.create(name=path, due_at=timezone.now() + WRITING)
    try:
        stored = attachment_storage().save(path, ContentFile(picture.content))
    except Exception as error:  # each storage has its own
        forget(note)
        logger.exception("a file of an attachment cannot be stored")
        raise _busy() from error
    except BaseException:
        forget(note)
        raise
    if stored != path:  # a storage may choose another one
        FileToDelete.objects.filter(pk=note.pk).update(name=stored)
        note.name = stored
    return note


def forget(note: FileToDelete) -> None:
    """Let a file that was written go at once."""
    FileToDelete.objects.filter(pk=note.pk).update(due_at=timezone.now())


def keep(note: FileToDelete) -> bool:
    """Let a file stay that was written, in the transaction that makes it an attachment's; tell whether it is there."""
    in_time = FileToDelete.objects.filter(pk=note.pk, due_at__gt=timezone.now() + PAUSE)
    return bool(in_time.delete()[0])


def read(attachment: Attachment) -> bytes:
    """Return the bytes of a file; raises ``NotFound`` where the storage has lost it, ``ServerBusy`` where it fails."""
    try:
        with attachment_storage().open(attachment.file) as file:
            content: bytes = file.read()
    except FileNotFoundError:
        logger.error("the file of attachment %s is gone", attachment.pk)
        raise NotFound() from None
    except Exception as error:  # each storage has its own
        logger.exception("the file of attachment %s cannot be read", attachment.pk)
        raise _busy() from error
    return content


def _busy() -> ServerBusy:
    """Return the refusal of what the storage does not do now."""
    return ServerBusy(retry_after=round(PAUSE.total_seconds()))


@receiver(post_delete, sender=Attachment, dispatch_uid="conversations.files.storage.note")
def _note_file(instance: Attachment, using: str, **_kwargs: Any) -> None:
    FileToDelete.objects.using(using).create(name=instance.file)


@receiver(post_delete, sender=AttachmentUse, dispatch_uid="conversations.files.storage.unused")
def _let_unused_go(instance: AttachmentUse, using: str, origin: Any = None, **_kwargs: Any) -> None:
    """A message that is deleted takes with it the attachments that no other has."""
    begun_at = origin.model if isinstance(origin, QuerySet) else type(origin)
    if origin is not None and begun_at is not Message:
        return  # at a conversation or an account, with which they go themselves
    unused = Attachment.objects.using(using).filter(pk=instance.attachment_id, uses=None)
    unused.update(expires_at=timezone.now())


# Beside the answers ------------------------------------------------------------------------------------------


def delete_unused() -> int:
    """Delete some of the attachments that no message has and whose time is over; return how many."""
    due = Attachment.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    return _delete_unused(list(due.values_list("pk", flat=True)[:AT_ONCE]))


@replayed
def _delete_unused(doomed: list[uuid.UUID]) -> int:
    if not doomed:
        return 0
    # Who puts one into a message locks it first, and then it has no end any more. Who is locked stays.
    rows = Attachment.objects.filter(pk__in=doomed, expires_at__lt=timezone.now()).order_by("pk")
    skip = connection.features.has_select_for_update_skip_locked
    locked = list(rows.select_for_update(skip_locked=skip).values_list("pk", flat=True))
    Attachment.objects.filter(pk__in=locked).delete()
    return len(locked)


def files_to_delete() -> list[tuple[int, str]]:
    """Return some of the files whose time is over, by the ids of their rows."""
    due = FileToDelete.objects.filter(due_at__lte=timezone.now()).order_by("due_at", "pk")
    return list(due.values_list("pk", "name")[:AT_ONCE])


def delete_file(pk: int, name: str) -> None:
    """Delete a file, and its row once it is gone; a storage that fails is asked again later."""
    try:
        attachment_storage().delete(name)
    except Exception as error:  # each storage has its own
        logger.warning("a file cannot be deleted now: %s", error)
        FileToDelete.objects.filter(pk=pk).update(due_at=timezone.now() + PAUSE)
    else:
        FileToDelete.objects.filter(pk=pk).delete()


def sweep() -> None:
    """Do all of that now: where no server runs that would."""
    while delete_unused():
        pass
    while files := files_to_delete():
        for file in files:
            delete_file(*file)

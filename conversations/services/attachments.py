"""Attachments: images that are stored, shown to their owner, put into messages, and deleted."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..access.rules import Action, Caller, authorize
from ..database.transactions import replayed
from ..exceptions import AttachmentInUse, NotFound, ServerBusy, UnknownAttachment, UnsupportedImage
from ..files import images, storage
from ..files.images import Picture
from ..limits.attachments import check_room, take_turns
from ..models import Attachment, AttachmentUse, Conversation, FileToDelete
from .deletion import while_account_lasts

DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)


def store_attachment(*, caller: Caller, upload: bytes, user_id: str | None = None) -> Attachment:
    """Store an image for a message of ``caller``; it is deleted after a while unless a message has it by then.

    To be called through ``db.files``. Raises ``UnsupportedImage``, ``ImageTooLarge``, ``AttachmentQuota``.
    """
    caller = caller.labelled(user_id)
    authorize(caller, Action.CREATE)
    check_room(caller, 1)  # before all else: what follows may cost seconds
    picture = images.clean(upload)
    check_room(caller, len(picture.content))
    note = storage.write(picture)
    try:
        with while_account_lasts(caller):
            return _create(caller, picture, note)
    except BaseException:
        storage.forget(note)
        raise


@replayed
def _create(caller: Caller, picture: Picture, note: FileToDelete) -> Attachment:
    take_turns(caller)
    check_room(caller, len(picture.content))
    if not storage.keep(note):
        raise ServerBusy()
    return Attachment.objects.create(
        owner=caller.user,
        user_identifier=caller.user_identifier,
        file=note.name,
        content_type=picture.content_type,
        width=picture.width,
        height=picture.height,
        size=len(picture.content),
        expires_at=timezone.now() + timedelta(seconds=conf.get().KEEP_UNUSED_ATTACHMENTS_SECONDS),
    )


def store_data_url(*, caller: Caller, url: str, user_id: str | None = None) -> Attachment:
    """Store the image in a ``data:image/…;base64,…`` URL, as ``store_attachment`` does an upload.

    Raises ``UnsupportedImage`` for any other URL, too.
    """
    head = DATA_URL.match(url)
    if head is None:
        raise UnsupportedImage(_("Images have to be data: URLs of PNG, JPEG, WebP or GIF, in base64."))
    try:
        upload = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise UnsupportedImage() from None
    return store_attachment(caller=caller, upload=upload, user_id=user_id)


def let_go(ids: Sequence[uuid.UUID]) -> None:
    """Let attachments that no message got go at once."""
    Attachment.objects.filter(pk__in=ids, conversation=None).update(expires_at=timezone.now())


def get_attachment(*, caller: Caller, attachment_id: uuid.UUID, action: Action = Action.READ) -> Attachment:
    """Return one attachment that ``caller`` may see; raises ``NotFound``."""
    attachment = Attachment.objects.for_owner(caller).filter(pk=attachment_id).first()
    if attachment is None:
        raise NotFound()
    authorize(caller, action, attachment)
    return attachment


def content_of(attachment: Attachment) -> bytes:
    """Return the image's bytes, in the format of ``content_type``; raises ``NotFound`` where the file is lost.

    Where the storage fails it raises ``ServerBusy``. It waits for the storage: for a database thread.
    """
    return storage.read(attachment)


def data_url(attachment: Attachment) -> str:
    """Return the image as a ``data:`` URL, as models take it; as ``content_of`` does."""
    return f"data:{attachment.content_type};base64,{base64.b64encode(content_of(attachment)).decode()}"


@replayed
def delete_attachment(*, caller: Caller, attachment_id: uuid.UUID) -> None:
    """Delete an attachment that no message has; raises ``NotFound``, or ``AttachmentInUse`` for one in a message."""
    get_attachment(caller=caller, attachment_id=attachment_id, action=Action.DELETE)
    attachment = Attachment.objects.select_for_update().filter(pk=attachment_id).first()
    if attachment is None:
        raise NotFound()
    if attachment.expires_at is None:
        raise AttachmentInUse()
    attachment.delete()


# Within the transaction that stores a message ----------------------------------------------------------------


def take(*, ids: Sequence[uuid.UUID], caller: Caller, conversation: Conversation) -> list[Attachment]:
    """Put attachments of ``caller`` into a conversation, and return them in the order of ``ids``.

    In the transaction that stores the messages which have them, after the conversation is locked; ``use`` notes the
    messages. Those of another message of the conversation may be taken again, as where that is edited. Raises
    ``UnknownAttachment`` for what is not there, another's, or another conversation's.
    """
    if not ids:
        return []
    rows = Attachment.objects.for_owner(caller).filter(pk__in=set(ids))
    pks = list(rows.order_by("pk").values_list("pk", flat=True))
    # In one order, so that nobody waits in a circle; alone, as the query above looks at other tables, too.
    locked = Attachment.objects.select_for_update().filter(pk__in=pks).order_by("pk")
    found = {row.pk: row for row in locked if row.conversation_id in (None, conversation.pk)}
    if not found.keys() >= set(ids):
        raise UnknownAttachment(errors={"attachments": [UnknownAttachment.detail]})
    Attachment.objects.filter(pk__in=found).update(conversation=conversation, expires_at=None)
    for row in found.values():
        row.conversation, row.expires_at = conversation, None
    return [found[key] for key in ids]


def use(shown: Mapping[int, Iterable[uuid.UUID]]) -> None:
    """Note, by ids of messages, which attachments they show that were taken.

    They are kept until the last such message goes.
    """
    AttachmentUse.objects.bulk_create(
        AttachmentUse(attachment_id=attachment_id, message_id=message_id)
        for message_id, ids in shown.items()
        for attachment_id in dict.fromkeys(ids)
    )

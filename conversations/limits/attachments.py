"""How many attachments somebody may have, and how much room they may take."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Count, QuerySet, Sum

from .. import conf
from ..access.rules import Caller
from ..exceptions import AttachmentQuota
from ..models import Attachment


def check_room(caller: Caller, size: int) -> None:
    """Raise ``AttachmentQuota`` where a file of so many bytes would be too much for ``caller``."""
    most_bytes, most_files = conf.get().ATTACHMENT_BYTES_PER_OWNER, conf.get().ATTACHMENTS_PER_OWNER
    if most_bytes or most_files:
        taken, files = used_by(caller.user_identifier)
        if (most_bytes and taken + size > most_bytes) or (most_files and files >= most_files):
            raise AttachmentQuota()


def used_by(user_identifier: str) -> tuple[int, int]:
    """Return how many bytes somebody's attachments take, and how many there are."""
    mine = Attachment.objects.filter(user_identifier=user_identifier)
    found = mine.aggregate(taken=Sum("size", default=0), files=Count("pk"))
    return found["taken"], found["files"]


def take_turns(caller: Caller) -> None:
    """Wait until no other file of ``caller`` is being counted; first thing in the transaction that counts one."""
    if not connection.features.has_select_for_update:  # SQLite has one writer anyway
        return
    # With `no_key` rows that refer to it may come meanwhile.
    no_key = connection.features.has_select_for_no_key_update
    rows = _row_of(caller).select_for_update(no_key=no_key).values_list("pk", flat=True)
    list(rows.order_by("pk"))


def _row_of(caller: Caller) -> QuerySet[Any]:
    """Return the account's row; on an open server one that is always there: only one person calls it."""
    if caller.user is not None:
        return get_user_model()._default_manager.filter(pk=caller.user.pk)
    kind = ContentType.objects.get_for_model(Attachment)
    return ContentType.objects.filter(pk=kind.pk)

"""Images that people attach to what they say, and the files of those that are gone."""

from __future__ import annotations

import uuid

from django.core.files.storage import Storage, storages
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .. import conf
from .conversations import Conversation, Message
from .owned import Owned
from .querysets import AttachmentQuerySet

FILE_NAME_LENGTH = 255
CONTENT_TYPE_LENGTH = 64


def attachment_storage() -> Storage:
    """Return where the files are kept."""
    return storages[conf.get().ATTACHMENT_STORAGE]


class Attachment(Owned):
    """An image. Until a message has it, it is kept for a while; then as long as such a message of its conversation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(
        Conversation,
        verbose_name=_("conversation"),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="attachments",
    )
    # A name in `attachment_storage`. No field for files: that would ask for the storage once, as models are loaded.
    file = models.CharField(_("file"), max_length=FILE_NAME_LENGTH, editable=False)
    content_type = models.CharField(_("type"), max_length=CONTENT_TYPE_LENGTH, editable=False)
    width = models.PositiveIntegerField(_("width"), editable=False)
    height = models.PositiveIntegerField(_("height"), editable=False)
    size = models.PositiveIntegerField(_("bytes"), editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(
        _("deleted from"), null=True, blank=True, editable=False, db_index=True, help_text=_("Only of unused ones.")
    )

    objects = AttachmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        indexes = [models.Index(fields=["user_identifier", "size"], name="attachment_owner")]

    def __str__(self) -> str:
        return str(self.pk)


class AttachmentUse(models.Model):
    """That a message has an attachment: a message that is edited shares those of the one before."""

    attachment = models.ForeignKey(
        Attachment, verbose_name=_("attachment"), on_delete=models.CASCADE, related_name="uses"
    )
    message = models.ForeignKey(
        Message,
        verbose_name=_("message"),
        on_delete=models.CASCADE,
        related_name="attachment_uses",
        db_index=False,  # `one_use` begins with it
    )

    class Meta:
        verbose_name = _("use of an attachment")
        verbose_name_plural = _("uses of attachments")
        constraints = [models.UniqueConstraint(fields=["message", "attachment"], name="one_use")]

    def __str__(self) -> str:
        return f"{self.message_id}: {self.attachment_id}"


class FileToDelete(models.Model):
    """A file that no attachment has: the outbox of deletions, and a note of what is being written."""

    name = models.CharField(_("name"), max_length=FILE_NAME_LENGTH)
    due_at = models.DateTimeField(
        _("deleted from"),
        default=timezone.now,
        db_index=True,
        help_text=_("What is being written has some time; its row goes once it is an attachment's."),
    )

    class Meta:
        verbose_name = _("file to delete")
        verbose_name_plural = _("files to delete")

    def __str__(self) -> str:
        return self.name

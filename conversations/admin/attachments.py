"""Attachments: how many, how large, whose. Never what is in them, which is a part of what was said."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from ..models import Attachment
from .base import OwnedAdmin, ReadOnlyAdmin, link, owner_search_field, short_id


@admin.register(Attachment)
class AttachmentAdmin(OwnedAdmin, ReadOnlyAdmin):
    list_display = (
        "short",
        "whose",
        "conversation_link",
        "content_type",
        "pixels",
        "room",
        "created_at",
        "expires_at",
    )
    list_filter = ("content_type", "created_at")
    list_select_related = ("conversation", "owner")
    ordering = ("-created_at", "pk")
    search_help_text = _("Id, session id, user identifier or user name")
    fields = (
        "id",
        "owner",
        "user_identifier",
        "conversation_link",
        "content_type",
        "pixels",
        "room",
        "created_at",
        "expires_at",
    )
    readonly_fields = ("id", "conversation_link", "content_type", "pixels", "room", "created_at", "expires_at")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer("conversation__system_prompt", "conversation__title")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("id", "conversation__session_id", "user_identifier", owner_search_field())

    @admin.display(description=_("id"), ordering="id")
    def short(self, attachment: Attachment) -> str:
        return short_id(attachment.pk)

    @admin.display(description=_("conversation"))
    def conversation_link(self, attachment: Attachment) -> str:
        conversation = attachment.conversation
        return link(conversation, short_id(conversation.session_id)) if conversation else "-"

    @admin.display(description=_("pixels"))
    def pixels(self, attachment: Attachment) -> str:
        return f"{attachment.width} × {attachment.height}"

    @admin.display(description=_("size"), ordering="size")
    def room(self, attachment: Attachment) -> str:
        return filesizeformat(attachment.size)

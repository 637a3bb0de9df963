"""Conversations."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import services
from ..access.rules import Caller
from ..database.transactions import replayed
from ..models import Conversation, Message
from ..services import deletion
from .base import LightList, OwnedAdmin, link, may_read, one_line, owner_search_field, short_id
from .model_types import ModelTypeFilter, ModelTypeForm
from .selected import SelectedAdmin
from .transcript import transcript


class ConversationForm(ModelTypeForm):
    class Meta:
        model = Conversation
        fields = ("title", "system_prompt", "model_type", "is_pinned", "is_archived")

    def clean_model_type(self) -> str:
        return self.check_model_type("model_type")

    def clean_system_prompt(self) -> str:
        return str(self.cleaned_data["system_prompt"]).replace("\r\n", "\n")


# Of those that are there for a time only.
FOR_A_TIME = ("is_temporary", "is_hidden", "expires_at")


class TranscriptList(LightList):
    """A list whose rows open as transcripts."""

    def url_for_result(self, result: Any) -> str:
        name = f"{self.model_admin.admin_site.name}:conversations_conversation_transcript"
        return reverse(name, args=[result.pk])


@admin.register(Conversation)
class ConversationAdmin(OwnedAdmin, SelectedAdmin):
    """Conversations begin with a message, so none is added here. A deletion takes the messages along."""

    form = ConversationForm
    texts = ("title", "system_prompt")
    change_form_template = "admin/conversations/conversation/change_form.html"
    list_filter = (
        "is_pinned",
        "is_archived",
        "is_temporary",
        "is_hidden",
        ModelTypeFilter,
        "title_source",
        "updated_at",
    )
    list_select_related = ("owner",)
    ordering = ("-updated_at", "-pk")
    fieldsets = (
        (None, {"fields": ("title", "title_source", "is_pinned", "is_archived")}),
        (_("Answers"), {"fields": ("model_type", "system_prompt")}),
        (_("Whose"), {"fields": ("owner", "user_identifier")}),
        (_("History"), {"fields": ("session_id", "messages_link", "created_at", "updated_at", *FOR_A_TIME)}),
    )
    readonly_fields = (
        *FOR_A_TIME,
        "session_id",
        "title_source",
        "owner",
        "user_identifier",
        "messages_link",
        "created_at",
        "updated_at",
    )

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer("system_prompt")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LightList]:
        return TranscriptList if may_read(request) else LightList

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(partial(transcript, self))
        own = path("<int:conversation_id>/transcript/", view, name="conversations_conversation_transcript")
        return [own, *super().get_urls()]

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        shown = ("whose", "messages_link", "model_type", "is_pinned", "is_archived", "updated_at")
        return ("name" if may_read(request) else "short_session_id", *shown)

    def get_fieldsets(self, request: HttpRequest, obj: Conversation | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return [(name, {**rest, "fields": self.readable(request, rest["fields"])}) for name, rest in fieldsets]

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.readable(request, ("title", "session_id", "user_identifier", owner_search_field()))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist: Any = super().get_changelist_instance(request)
        changelist.search_help_text = (
            _("Title, session id, user identifier or user name")
            if may_read(request)
            else _("Session id, user identifier or user name")
        )
        return changelist

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Conversation, form: Any, change: bool) -> None:
        """Write the changed fields only: an answer may be moving the others on at this moment."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        services.update_conversation(caller=Caller(sees_all=True), session_id=obj.session_id, changes=changes)

    @replayed
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        """Change one: all of it again where the database asks for that."""
        return super().changeform_view(*args, **kwargs)

    @replayed
    def delete_view(self, *args: Any, **kwargs: Any) -> Any:
        """Delete one: all of it again where the database asks for that."""
        return super().delete_view(*args, **kwargs)

    def delete_model(self, request: HttpRequest, obj: Conversation) -> None:
        deletion.delete_all([obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        deletion.delete_all(list(queryset.values_list("pk", flat=True)))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Count the messages that go along, instead of loading and listing every one of them.

        A running answer of a deleted conversation is stopped by the process that makes it.
        """
        conversations = list(objs)
        messages = Message.objects.filter(conversation__in=[item.pk for item in conversations]).count()
        counts = {
            str(Conversation._meta.verbose_name_plural): len(conversations),
            str(Message._meta.verbose_name_plural): messages,
        }
        return [link(item, item) for item in conversations], counts, set(), []

    @admin.display(description=_("title"), ordering="title")
    def name(self, conversation: Conversation) -> str:
        return one_line(conversation.title) if conversation.title else short_id(conversation.session_id)

    @admin.display(description=_("session id"), ordering="session_id")
    def short_session_id(self, conversation: Conversation) -> str:
        return short_id(conversation.session_id)

    @admin.display(description=_("messages"), ordering="message_count")
    def messages_link(self, conversation: Conversation) -> SafeString:
        url = reverse("admin:conversations_message_changelist")
        query = f"?conversation__id__exact={conversation.pk}"
        return format_html('<a href="{}{}">{}</a>', url, query, conversation.message_count)

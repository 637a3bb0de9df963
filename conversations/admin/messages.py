"""Messages and their making."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import MESSAGE_TEXTS, Generation, Message, Worker
from .base import OwnedAdmin, ReadOnlyAdmin, TextsAdmin, link, may_read, one_line, owner_search_field, short_id

PREVIEW_LENGTH = 80
# Of a message, and what lists do without.
TEXTS = (*MESSAGE_TEXTS, "conversation__system_prompt")


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("id", "conversation_link", "role", "preview", "model", "status", "created_at")
    list_filter = ("role", "generation__status", "created_at")
    list_select_related = ("conversation", "generation")
    ordering = ("-pk",)
    search_fields = ("conversation__session_id",)
    search_help_text = _("Session id")
    fields = (
        "conversation_link",
        "parent_link",
        "role",
        "status",
        "content",
        "reasoning",
        "arguments",
        "parts",
        "model",
        "model_type",
        "generation_link",
        "created_at",
    )
    readonly_fields = ("conversation_link", "parent_link", "status", "generation_link", "created_at")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        lighter: QuerySet[Any] = rows.defer(*TEXTS).annotate(preview=Left("content", PREVIEW_LENGTH))
        return lighter

    def has_view_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """The one permission to read; that to change messages, which Django would take too, allows nothing."""
        return may_read(request)

    @admin.display(description=_("conversation"))
    def conversation_link(self, message: Message) -> str:
        conversation = message.conversation
        return link(
            conversation, one_line(conversation.title) if conversation.title else short_id(conversation.session_id)
        )

    @admin.display(description=_("answers"))
    def parent_link(self, message: Message) -> str:
        return link(message.parent, message.parent)

    @admin.display(description=_("generation"))
    def generation_link(self, message: Message) -> str:
        generation = _generation_of(message)
        return link(generation, generation)

    @admin.display(description=_("content"))
    def preview(self, message: Any) -> str:
        text = " ".join(message.preview.split())
        return one_line(f"{text}…" if len(message.preview) == PREVIEW_LENGTH else text)

    @admin.display(description=_("status"), ordering="generation__status")
    def status(self, message: Message) -> str:
        generation = _generation_of(message)
        return str((generation or Generation(status=Generation.Status.COMPLETED)).get_status_display())


def _generation_of(message: Message) -> Generation | None:
    return getattr(message, "generation", None)


@admin.register(Generation)
class GenerationAdmin(OwnedAdmin, TextsAdmin, ReadOnlyAdmin):
    # What an upstream says of a failure may repeat what it was sent.
    texts = ("error_message",)
    list_display = (
        "short",
        "conversation_link",
        "whose",
        "status",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "created_at",
        "seconds",
    )
    list_filter = ("status", "created_at")
    list_select_related = ("message__conversation", "owner")
    # Messages are numbered as they come; the ids of generations are not.
    ordering = ("-message",)
    search_help_text = _("Generation id, session id, user identifier or user name")
    fields = (
        "id",
        "conversation_link",
        "message_link",
        "owner",
        "user_identifier",
        "status",
        "finish_reason",
        "error_code",
        "error_message",
        "retry_after",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "worker",
        "idempotency_key",
        "created_at",
        "first_token_at",
        "ended_at",
        "seconds",
    )
    readonly_fields = ("id", "conversation_link", "message_link", "created_at", "seconds")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.defer(*(f"message__{name}" for name in TEXTS))

    def get_fields(self, request: HttpRequest, obj: Generation | None = None) -> tuple[str, ...]:
        return self.readable(request, self.fields)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("id", "message__conversation__session_id", "user_identifier", owner_search_field())

    @admin.display(description=_("conversation"))
    def conversation_link(self, generation: Generation) -> str:
        conversation = generation.message.conversation
        return link(conversation, short_id(conversation.session_id))

    @admin.display(description=_("id"), ordering="id")
    def short(self, generation: Generation) -> str:
        return short_id(generation.pk)

    @admin.display(description=_("message"))
    def message_link(self, generation: Generation) -> str:
        return link(generation.message, generation.message)

    @admin.display(description=_("seconds"))
    def seconds(self, generation: Generation) -> str:
        """How long the answer took, or nothing while it runs."""
        if generation.ended_at is None:
            return ""
        return f"{(generation.ended_at - generation.created_at).total_seconds():.1f}"


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("short", "machine", "pid", "counter", "running", "started_at")
    list_filter = ("host",)
    ordering = ("-started_at",)
    search_fields = ("id", "host", "pid")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        is_running = Q(generations__status=Generation.Status.RUNNING)
        counted: QuerySet[Any] = rows.annotate(running=Count("generations", filter=is_running))
        return counted

    @admin.display(description=_("id"), ordering="id")
    def short(self, worker: Worker) -> str:
        return short_id(worker.pk)

    @admin.display(description=_("host"), ordering="host")
    def machine(self, worker: Worker) -> str:
        return one_line(worker.host)

    @admin.display(description=_("running answers"), ordering="running")
    def running(self, worker: Any) -> int:
        return int(worker.running)

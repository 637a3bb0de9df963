"""Everything in Django admin. What people and models said can be read there, not changed.

Lists load no texts, only their beginnings, and run the same number of queries however many rows there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import Count, Model, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import get_text_list
from django.utils.translation import gettext_lazy as _

from llmproviders.key_admin import KeyAdmin, KeyForm

from . import completions, services
from .access import ACCOUNT_PREFIX, Caller
from .keys import validate_users_key
from .models import Conversation, Generation, Message, UserConfig, Worker

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _ModelForm = forms.ModelForm[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _ModelForm = forms.ModelForm

PREVIEW_LENGTH = 80


class LightList(ChangeList):
    """A list whose rows the admin's ``lighten`` relieves of what the list does not show."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        assert isinstance(self.model_admin, LightAdmin)
        return self.model_admin.lighten(super().get_queryset(request, exclude_parameters))


class LightAdmin(_ModelAdmin):
    """An admin with a ``LightList``, and no second count of all rows beside that of the rows found."""

    show_full_result_count = False

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Defer what a list does not show."""
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LightList


class ReadOnlyAdmin(LightAdmin):
    """For rows that the engine writes. They go with what they belong to, never by themselves."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Django asks this too when an account is deleted with all it owns; that must stay possible.
        name = f"{self.opts.app_label}_{self.opts.model_name}_"
        is_own_page = request.resolver_match is not None and (request.resolver_match.url_name or "").startswith(name)
        return not is_own_page and super().has_delete_permission(request, obj)


def link(item: Model | None, text: object) -> str | SafeString:
    """Return a link to the admin page of ``item``."""
    if item is None:
        return "-"
    name = f"admin:{item._meta.app_label}_{item._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[item.pk]), text)


def owner_search_field() -> str:
    """Return the lookup of an owner's user name, whatever the project's user model calls it."""
    return f"owner__{get_user_model().USERNAME_FIELD}"


# Conversations ----------------------------------------------------------------------------------------------------


class ModelTypeFilter(admin.SimpleListFilter):
    """By the model types that there are; asking the rows themselves would read all of them."""

    title = _("model type")
    parameter_name = "model_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(model_type, model_type) for model_type in sorted(completions.known_model_types())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.filter(model_type=self.value()) if self.value() else None


class ModelTypeForm(_ModelForm):
    """A form with a field that names a model type."""

    def check_model_type(self, name: str) -> str:
        chosen = str(self.cleaned_data[name])
        known = completions.known_model_types()
        # One that is gone meanwhile may stay: it is passed over when an answer is asked for.
        if chosen and chosen not in known and name in self.changed_data:
            names = get_text_list(sorted(known), _("or"))
            raise forms.ValidationError(_("There is no such model type; use %(types)s.") % {"types": names})
        return chosen


class ConversationForm(ModelTypeForm):
    class Meta:
        model = Conversation
        fields = ("title", "system_prompt", "model_type", "is_pinned", "is_archived")

    def clean_model_type(self) -> str:
        return self.check_model_type("model_type")

    def clean_system_prompt(self) -> str:
        return str(self.cleaned_data["system_prompt"]).replace("\r\n", "\n")


@admin.register(Conversation)
class ConversationAdmin(LightAdmin):
    """Conversations begin with a message, so none is added here. A deletion takes the messages along."""

    form = ConversationForm
    list_display = (
        "name",
        "whose",
        "messages_link",
        "model_type",
        "is_pinned",
        "is_archived",
        "updated_at",
    )
    list_filter = ("is_pinned", "is_archived", ModelTypeFilter, "title_source", "updated_at")
    list_select_related = ("owner",)
    ordering = ("-updated_at", "-pk")
    search_help_text = _("Title, session id, user identifier or user name")
    fieldsets = (
        (None, {"fields": ("title", "title_source", "is_pinned", "is_archived")}),
        (_("Answers"), {"fields": ("model_type", "system_prompt")}),
        (_("Whose"), {"fields": ("owner", "user_identifier")}),
        (_("History"), {"fields": ("session_id", "messages_link", "created_at", "updated_at")}),
    )
    readonly_fields = (
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

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("title", "session_id", "user_identifier", owner_search_field())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Conversation, form: Any, change: bool) -> None:
        """Write the changed fields only: an answer may be moving the others on at this moment."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        services.update_conversation(caller=Caller(sees_all=True), session_id=obj.session_id, changes=changes)

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
        return str(conversation)

    @admin.display(description=_("whose"), ordering="user_identifier")
    def whose(self, conversation: Conversation) -> str:
        return str(conversation.owner or conversation.user_identifier or "-")

    @admin.display(description=_("messages"), ordering="message_count")
    def messages_link(self, conversation: Conversation) -> SafeString:
        url = reverse("admin:conversations_message_changelist")
        query = f"?conversation__id__exact={conversation.pk}"
        return format_html('<a href="{}{}">{}</a>', url, query, conversation.message_count)


# Messages and their making ----------------------------------------------------------------------------------------


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
        "model",
        "model_type",
        "generation_link",
        "created_at",
    )
    readonly_fields = ("conversation_link", "parent_link", "status", "generation_link", "created_at")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        texts = ("content", "reasoning", "conversation__system_prompt")
        lighter: QuerySet[Any] = rows.defer(*texts).annotate(preview=Left("content", PREVIEW_LENGTH))
        return lighter

    @admin.display(description=_("conversation"))
    def conversation_link(self, message: Message) -> str:
        return link(message.conversation, message.conversation)

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
        return f"{text}…" if len(message.preview) == PREVIEW_LENGTH else text

    @admin.display(description=_("status"), ordering="generation__status")
    def status(self, message: Message) -> str:
        generation = _generation_of(message)
        return str((generation or Generation(status=Generation.Status.COMPLETED)).get_status_display())


def _generation_of(message: Message) -> Generation | None:
    return getattr(message, "generation", None)


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "conversation_link",
        "whose",
        "status",
        "error_code",
        "prompt_tokens",
        "completion_tokens",
        "worker",
        "created_at",
        "seconds",
    )
    list_filter = ("status", "created_at")
    list_select_related = ("message__conversation", "owner", "worker")
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
        return rows.defer("message__content", "message__reasoning", "message__conversation__system_prompt")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("id", "message__conversation__session_id", "user_identifier", owner_search_field())

    @admin.display(description=_("conversation"))
    def conversation_link(self, generation: Generation) -> str:
        return link(generation.message.conversation, generation.message.conversation)

    @admin.display(description=_("message"))
    def message_link(self, generation: Generation) -> str:
        return link(generation.message, generation.message)

    @admin.display(description=_("whose"), ordering="user_identifier")
    def whose(self, generation: Generation) -> str:
        return str(generation.owner or generation.user_identifier or "-")

    @admin.display(description=_("seconds"))
    def seconds(self, generation: Generation) -> str:
        """How long the answer took, or nothing while it runs."""
        if generation.ended_at is None:
            return ""
        return f"{(generation.ended_at - generation.created_at).total_seconds():.1f}"


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("id", "host", "pid", "counter", "running", "started_at")
    list_filter = ("host",)
    ordering = ("-started_at",)
    search_fields = ("id", "host", "pid")

    def lighten(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        is_running = Q(generations__status=Generation.Status.RUNNING)
        counted: QuerySet[Any] = rows.annotate(running=Count("generations", filter=is_running))
        return counted

    @admin.display(description=_("running answers"), ordering="running")
    def running(self, worker: Any) -> int:
        return int(worker.running)


# Users' model settings --------------------------------------------------------------------------------------------


class UserConfigForm(KeyForm, ModelTypeForm):
    """A row is an account's, by its owner, or that of a ``user_id`` on an open server."""

    url_field = "custom_api_url"
    key_field = "custom_api_key"

    class Meta:
        model = UserConfig
        fields = (
            "owner",
            "user_identifier",
            "current_model_type",
            "max_tokens",
            "custom_api_url",
            "custom_model",
            "custom_api_key",
        )

    def clean_user_identifier(self) -> str:
        given = str(self.cleaned_data["user_identifier"])
        if owner := self.cleaned_data.get("owner"):
            return f"{ACCOUNT_PREFIX}{owner.pk}"
        if given.startswith(ACCOUNT_PREFIX):
            raise forms.ValidationError(_("For an account choose the owner."))
        return given

    def clean_current_model_type(self) -> str:
        return self.check_model_type("current_model_type")

    def clean_custom_api_url(self) -> str:
        return self._checked("custom_api_url", completions.validate_url)

    def clean_custom_model(self) -> str:
        return self._checked("custom_model", completions.validate_model_name)

    def clean_custom_api_key(self) -> str | None:
        if self.cleaned_data["custom_api_key"] is None:  # as it was
            return None
        return self._checked("custom_api_key", validate_users_key)

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or self.cleaned_data
        if data.get("current_model_type") == completions.CUSTOM:
            for name in ("custom_api_url", "custom_model"):
                if name in data and not data[name]:
                    self.add_error(name, _("Needed for model type “custom”."))
        return data

    def _checked(self, name: str, validate: Any) -> str:
        value = str(self.cleaned_data[name])
        try:
            return str(validate(value)) if value else ""
        except completions.InvalidEndpoint as error:
            raise forms.ValidationError(error.message) from error


@admin.register(UserConfig)
class UserConfigAdmin(KeyAdmin, LightAdmin):
    form = UserConfigForm
    key_field = "custom_api_key"
    list_display = ("whose", "current_model_type", "max_tokens", "custom_model", "has_key", "updated_at")
    list_filter = (("custom_api_url", admin.EmptyFieldListFilter), "updated_at")
    list_select_related = ("owner",)
    ordering = ("-updated_at", "-pk")
    raw_id_fields = ("owner",)
    search_help_text = _("User identifier, user name, URL or model")
    readonly_fields = ("created_at", "updated_at")
    fieldsets = (
        (_("Whose"), {"fields": ("owner", "user_identifier")}),
        (None, {"fields": ("current_model_type", "max_tokens")}),
        (_("Own model"), {"fields": ("custom_api_url", "custom_model", "custom_api_key")}),
        (_("History"), {"fields": ("created_at", "updated_at")}),
    )

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("user_identifier", owner_search_field(), "custom_api_url", "custom_model")

    def get_readonly_fields(self, request: HttpRequest, obj: UserConfig | None = None) -> tuple[str, ...]:
        """Whose a row is, is said once."""
        return ("owner", "user_identifier", *self.readonly_fields) if obj else self.readonly_fields

    @admin.display(description=_("whose"), ordering="user_identifier")
    def whose(self, config: UserConfig) -> str:
        return str(config.owner or config.user_identifier or "-")

"""Paths have no trailing slash; the project's middleware lets the same path with one answer too."""

from django.urls import path

from ..web.gate import on_pool
from .attachments import AttachmentsView, AttachmentView
from .chat import ChatView, GenerationStreamView, RegenerateView
from .configuration import ConfigView, ModelsView, TrialView
from .conversations import ConversationViewSet
from .events import EventsView
from .found import SearchView
from .generations import GenerationViewSet
from .health import live, ready
from .keys import ApiKeyViewSet
from .limits import LimitsView
from .messages import MessageViewSet
from .usage import FeedbackView, UsageView

urlpatterns = [
    path(
        "conversations",
        on_pool(ConversationViewSet.as_view({"get": "list", "post": "create"})),
        name="conversations",
    ),
    path(
        "conversations/<str:session_id>",
        on_pool(ConversationViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"})),
        name="conversation",
    ),
    path(
        "conversations/<str:session_id>/history",
        on_pool(ConversationViewSet.as_view({"get": "history"})),
        name="history",
    ),
    path(
        "conversations/<str:session_id>/messages",
        on_pool(MessageViewSet.as_view({"get": "list"})),
        name="messages",
    ),
    path(
        "conversations/<str:session_id>/restore",
        on_pool(ConversationViewSet.as_view({"post": "restore"})),
        name="restore",
    ),
    path("search", on_pool(SearchView.as_view()), name="search"),
    path("events", on_pool(EventsView.as_view()), name="events"),
    path("messages/<int:message_id>/feedback", on_pool(FeedbackView.as_view()), name="feedback"),
    path("messages/<int:message_id>", on_pool(MessageViewSet.as_view({"delete": "destroy"})), name="message"),
    path(
        "generations/<str:generation_id>", on_pool(GenerationViewSet.as_view({"get": "retrieve"})), name="generation"
    ),
    path("attachments", on_pool(AttachmentsView.as_view()), name="attachments"),
    path("attachments/<str:attachment_id>", on_pool(AttachmentView.as_view()), name="attachment"),
    path("chat", on_pool(ChatView.as_view()), name="chat"),
    path("messages/<int:message_id>/regenerate", on_pool(RegenerateView.as_view()), name="regenerate"),
    path("generations/<str:generation_id>/stream", on_pool(GenerationStreamView.as_view()), name="stream"),
    path("generations/<str:generation_id>/stop", on_pool(GenerationViewSet.as_view({"post": "stop"})), name="stop"),
    path("api/config", on_pool(ConfigView.as_view()), name="config"),
    path("api/config/models", on_pool(ModelsView.as_view()), name="endpoint_models"),
    path("api/config/test", on_pool(TrialView.as_view()), name="endpoint_test"),
    path("api/usage", on_pool(UsageView.as_view()), name="usage"),
    path("api/limits", on_pool(LimitsView.as_view()), name="limits"),
    path("api/keys", on_pool(ApiKeyViewSet.as_view({"get": "list", "post": "create"})), name="keys"),
    path("api/keys/<str:key_id>", on_pool(ApiKeyViewSet.as_view({"delete": "destroy"})), name="key"),
    path("api/health", live, name="health"),
    path("api/health/ready", ready, name="ready"),
]

"""The paths that the AI SDK's client calls by itself."""

from django.urls import path

from ..web.gate import on_pool
from .views import ChatMessagesView, ChatStreamView, ChatView

urlpatterns = [
    path("api/chat", on_pool(ChatView.as_view()), name="ui_chat"),
    path("api/chat/<path:chat_id>/messages", on_pool(ChatMessagesView.as_view()), name="ui_chat_messages"),
    path("api/chat/<path:chat_id>/stream", on_pool(ChatStreamView.as_view()), name="ui_chat_stream"),
]

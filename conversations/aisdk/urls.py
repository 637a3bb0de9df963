"""The paths that the AI SDK's client calls by itself."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from ..web.gate import on_pool
from .views import ChatMessagesView, ChatStreamView, ChatView


class ChatName(StringConverter):
    """What a client calls a chat: slashes are a part of it, and line ends no reason to know no such path."""

    regex = "(?s:.+)"


register_converter(ChatName, "chat_name")

urlpatterns = [
    path("api/chat", on_pool(ChatView.as_view()), name="ui_chat"),
    path("api/chat/<chat_name:chat_id>/messages", on_pool(ChatMessagesView.as_view()), name="ui_chat_messages"),
    path("api/chat/<chat_name:chat_id>/stream", on_pool(ChatStreamView.as_view()), name="ui_chat_stream"),
]

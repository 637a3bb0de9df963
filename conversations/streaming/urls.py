"""Calls that stream."""

from django.urls import path

from ..api.gate import on_pool
from .views import ChatView, GenerationStreamView, RegenerateView

urlpatterns = [
    path("chat", on_pool(ChatView.as_view()), name="chat"),
    path("messages/<int:message_id>/regenerate", on_pool(RegenerateView.as_view()), name="regenerate"),
    path("generations/<str:generation_id>/stream", on_pool(GenerationStreamView.as_view()), name="stream"),
]

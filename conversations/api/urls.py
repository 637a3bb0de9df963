"""Paths have no trailing slash; the project's middleware lets the same path with one answer too."""

from django.urls import path

from .gate import on_pool
from .health import live, ready
from .keys import ApiKeyViewSet
from .limits import LimitsView
from .views import ConfigView, ConversationViewSet, GenerationViewSet

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
        "generations/<str:generation_id>", on_pool(GenerationViewSet.as_view({"get": "retrieve"})), name="generation"
    ),
    path("generations/<str:generation_id>/stop", on_pool(GenerationViewSet.as_view({"post": "stop"})), name="stop"),
    path("api/config", on_pool(ConfigView.as_view()), name="config"),
    path("api/limits", on_pool(LimitsView.as_view()), name="limits"),
    path("api/keys", on_pool(ApiKeyViewSet.as_view({"get": "list", "post": "create"})), name="keys"),
    path("api/keys/<str:key_id>", on_pool(ApiKeyViewSet.as_view({"delete": "destroy"})), name="key"),
    path("api/health", live, name="health"),
    path("api/health/ready", ready, name="ready"),
]

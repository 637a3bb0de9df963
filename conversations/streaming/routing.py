"""WebSocket paths: ``URLRouter(websocket_urlpatterns)``."""

from django.urls import path

from .consumers import ChatConsumer

websocket_urlpatterns = [path("ws/chat", ChatConsumer.as_asgi())]

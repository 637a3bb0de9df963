"""WebSocket paths: ``URLRouter(websocket_urlpatterns)``."""

from django.urls import path

from .consumers import ChatConsumer

PATH = "/ws/chat"
websocket_urlpatterns = [path(PATH.removeprefix("/"), ChatConsumer.as_asgi())]

"""All HTTP calls of the app: ``path("", include("conversations.urls"))``."""

from .api.urls import urlpatterns as api
from .streaming.urls import urlpatterns as streaming

app_name = "conversations"
urlpatterns = [*api, *streaming]

"""All HTTP calls of the app: ``path("", include("conversations.urls"))``."""

from .agui import urls as agui
from .openai import urls as openai
from .rest import urls as rest

app_name = "conversations"
urlpatterns = [*rest.urlpatterns, *agui.urlpatterns, *openai.urlpatterns]
__all__ = ["app_name", "urlpatterns"]

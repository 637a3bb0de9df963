"""All HTTP calls of the app: ``path("", include("conversations.urls"))``."""

from .agui import urls as agui
from .aisdk import urls as aisdk
from .openai import urls as openai
from .rest import urls as rest

app_name = "conversations"
urlpatterns = [*rest.urlpatterns, *openai.urlpatterns, *aisdk.urlpatterns, *agui.urlpatterns]
__all__ = ["app_name", "urlpatterns"]

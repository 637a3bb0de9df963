"""The path of AG-UI."""

from django.urls import path

from ..web.gate import on_pool
from .views import RunsView

urlpatterns = [path("api/agui", on_pool(RunsView.as_view()), name="agui")]

"""The project's paths, and two that raise while secrets stand in local variables: one of a page, one of an API."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from chatproject.urls import handler400, handler403, handler404, handler500
from chatproject.urls import urlpatterns as project_paths
from conversations.models import UserConfig
from llmproviders import conf
from llmproviders.models import Preset

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]


def raises(request: HttpRequest) -> HttpResponse:
    """Read every secret that there is, then fail."""
    everything: dict[str, Any] = {"django": settings.SECRET_KEY, "app": settings.LLMPROVIDERS}
    first, innocent = conf.get().ENCRYPTION_KEYS[0], conf.get().API_KEY
    words = [*Preset.objects.values_list("api_key", flat=True), *UserConfig.objects.values("custom_api_key")]
    typed = request.POST.dict()
    raise RuntimeError(f"{request.path} fails with {len([everything, first, innocent, words, typed])} secrets at hand")


urlpatterns = [path("admin/raises", raises), path("raises", raises), *project_paths]

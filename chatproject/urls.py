"""Every path. None ends with a slash but the admin's; `RequestMiddleware` takes one that is added."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from . import views

urlpatterns = [
    path("", views.welcome, name="welcome"),
    path("", include("conversations.urls")),
    path("schema", views.Schema.as_view(), name="schema"),
    path("docs", views.Docs.as_view(), name="docs"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    re_path("", views.unknown_path),
]
handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error

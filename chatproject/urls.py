"""Every path. None ends with a slash but the admin's; `RequestMiddleware` takes one that is added."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from conversations.web.gate import on_pool

from . import accounts, documents, views

urlpatterns = [
    path("", include("conversations.pages.urls")),
    path("favicon.ico", views.favicon),
    path("", include("conversations.urls")),
    path("schema", on_pool(documents.Schema.as_view()), name="schema"),
    path("openapi.json", on_pool(documents.SchemaAsJSON.as_view()), name="openapi_json"),
    path("docs", views.Docs.as_view(), name="docs"),
    path("redoc", RedirectView.as_view(pattern_name="docs", query_string=True), name="redoc"),
    path("accounts", accounts.account, name="account"),
    path("accounts/login", accounts.Login.as_view(), name="login"),
    path("accounts/logout", accounts.Logout.as_view(), name="logout"),
    path("accounts/password", accounts.PasswordChange.as_view(), name="password_change"),
    path("accounts/password/done", accounts.PasswordChanged.as_view(), name="password_change_done"),
    path("accounts/keys/<int:key_id>/revoke", accounts.revoke_key, name="revoke_key"),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    re_path("", views.unknown_path),
]
handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error

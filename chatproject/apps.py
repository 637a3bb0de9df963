"""Django admin with the project's login."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin import apps

from conversations.database import sessions


class AdminConfig(apps.AdminConfig):
    """Stands in ``INSTALLED_APPS`` for ``django.contrib.admin``."""

    default_site = "chatproject.logins.AdminSite"

    def ready(self) -> None:
        super().ready()
        sessions.everywhere()  # the database is this project's alone
        from axes.models import AccessFailureLog, AccessLog

        # Tables that axes is told not to fill: the audit log has what they would.
        admin.site.unregister([AccessFailureLog, AccessLog])

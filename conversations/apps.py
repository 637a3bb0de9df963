"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ConversationsConfig(AppConfig):
    """Conversations, messages and the engine that keeps answers."""

    name = "conversations"
    verbose_name = _("Conversations")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import (
            budgets,  # noqa: F401  (registers what settles an answer that is deleted)
            checks,  # noqa: F401  (registers the system checks)
            signals,  # noqa: F401  (connects the audit log)
        )
        from .api import schema  # noqa: F401  (registers the OpenAPI extension)

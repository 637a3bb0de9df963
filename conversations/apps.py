"""App configuration."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _

from .database import sessions


class ConversationsConfig(AppConfig):
    """Conversations, messages and the engine that keeps answers."""

    name = "conversations"
    verbose_name = _("Conversations")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers the system checks)
        from .access import audit  # noqa: F401  (connects the audit log)
        from .database import in_tests  # noqa: F401  (notes the connections of tests)
        from .services import deletion  # noqa: F401  (registers what empties a deleted account, and settles its answers)
        from .web import schema  # noqa: F401  (registers the OpenAPI extension)

        connection_created.connect(sessions.prepare, dispatch_uid="conversations.database.sessions")
